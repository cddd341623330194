//! The people behind the sockets: their own presence, their `user-<id>`, their direct channels,
//! and who listens to a channel.

use std::{collections::hash_map::Entry as MapEntry, sync::Arc};

use bytes::Bytes;
use hubbub_protocol::{
    BusChannel, ChannelId, ChannelLetter, CloseCode, ListeningSocket, PodId, PresenceEvent,
    PresenceState, UserId, UserPresence, added_frame, limits,
};

use super::{
    Hub, Turn,
    state::{Entry, Gate, Holder, State},
};
use crate::{feed::SocketId, wire::text_frame};

/// A user without sockets is kept this long against churn, then `user-<id>` is unsubscribed.
const USER_LINGER_MS: u64 = 1_000;
/// A user whose last socket went is offline here after this: a client that comes back at once
/// was never away.
pub(super) const OFFLINE_AFTER_MS: u64 = 2_000;
/// A device that asked nothing for so long is away, whatever it said.
pub(super) const AWAY_AFTER_MS: u64 = 10 * 60 * 1_000;
/// Users that one question may name; the others are answered as nobody's.
const ASKED_USERS: usize = 10_000;

/// What the hub asks of the bus while it is locked, so that what it orders and says has the order
/// of what happened. Nothing here waits.
pub(crate) trait Bus {
    /// Orders a SUBSCRIBE.
    fn subscribe(&self, channel: BusChannel);
    /// Orders an UNSUBSCRIBE.
    fn unsubscribe(&self, channel: BusChannel);
    /// Publishes, or counts that it could not.
    fn publish(&self, to: &BusChannel, payload: Bytes);
    /// This pod.
    fn pod(&self) -> &PodId;
}

/// A user with sockets here, or who had some a moment ago.
#[derive(Debug)]
pub(super) struct Person {
    /// What was published last.
    said: PresenceState,
    subscribed: bool,
    /// The subscription is confirmed: the direct channels are known from a reading after it.
    confirmed: bool,
    /// With sockets.
    here: bool,
    /// What time does to them: while they are here nothing before then, and if not, since when.
    /// One field for both, as there is one of these for each user.
    time_ms: u64,
}

impl State {
    /// A user got a socket.
    pub(super) fn person_came(
        &mut self,
        user: UserId,
        direct: bool,
        now_ms: u64,
        bus: &impl Bus,
        turn: &mut Turn,
    ) {
        let person = self.people.entry(user).or_insert(Person {
            said: PresenceState::Offline,
            subscribed: false,
            confirmed: false,
            here: true,
            time_ms: now_ms,
        });
        (person.here, person.time_ms) = (true, now_ms);
        if !person.subscribed {
            person.subscribed = true;
            person.confirmed = false;
            bus.subscribe(BusChannel::User(user));
        } else if person.confirmed && direct {
            turn.directs.push((user, None));
        }
        self.assess(user, now_ms, bus);
    }

    /// A user lost a socket.
    pub(super) fn person_went(&mut self, user: UserId, now_ms: u64, bus: &impl Bus) {
        if !self.user_id_to_sockets.contains_key(&user)
            && let Some(person) = self.people.get_mut(&user)
        {
            (person.here, person.time_ms) = (false, now_ms);
        }
        self.assess(user, now_ms, bus);
    }

    /// Publishes the user's state on this pod if it is another one than was published.
    fn assess(&mut self, user: UserId, now_ms: u64, bus: &impl Bus) {
        let Some(person) = self.people.get_mut(&user) else {
            return;
        };
        let state = if person.here {
            let devices = self.user_id_to_sockets.get(&user).into_iter().flatten();
            let active_until = devices
                .filter_map(|id| self.sockets.get(id)?.active_until_ms(now_ms))
                .max();
            // Who is away is active by a request only, which says so itself.
            person.time_ms = active_until.unwrap_or(u64::MAX);
            if active_until.is_some() {
                PresenceState::Active
            } else {
                PresenceState::Away
            }
        } else if person.time_ms + OFFLINE_AFTER_MS > now_ms {
            return;
        } else {
            PresenceState::Offline
        };
        if person.said != state {
            person.said = state;
            let event = PresenceEvent {
                pod: bus.pod().clone(),
                state,
            };
            bus.publish(&BusChannel::Presence(user), Bytes::from(event.encode()));
        }
    }
}

impl Entry {
    /// Until when the device is active if it asks nothing more; none: it is away.
    fn active_until_ms(&self, now_ms: u64) -> Option<u64> {
        if self.holder.away {
            return None;
        }
        self.socket.idle_at_ms(now_ms, AWAY_AFTER_MS)
    }
}

impl Hub {
    /// What a device says of its user.
    pub(crate) fn set_presence(
        &self,
        id: SocketId,
        state: PresenceState,
        now_ms: u64,
        bus: &impl Bus,
    ) {
        let mut hub = self.state.lock();
        let Some(entry) = hub.sockets.get_mut(&id) else {
            return;
        };
        entry.holder.away = state != PresenceState::Active;
        let user = entry.holder.user;
        hub.assess(user, now_ms, bus);
    }

    /// A device that was found idle has asked for something.
    pub(crate) fn asked_again(&self, id: SocketId, now_ms: u64, bus: &impl Bus) {
        let mut hub = self.state.lock();
        if let Some(entry) = hub.sockets.get(&id) {
            let user = entry.holder.user;
            hub.assess(user, now_ms, bus);
        }
    }

    /// What was published of these users, each of them named. `answer` is called under the lock:
    /// the answer has its place among the publishes.
    pub(crate) fn presence_of(&self, users: &[UserId], answer: impl FnOnce(Vec<UserPresence>)) {
        let state = self.state.lock();
        let of = |user: &UserId| UserPresence {
            user: *user,
            state: state
                .people
                .get(user)
                .map_or(PresenceState::Offline, |person| person.said),
        };
        answer(users.iter().take(ASKED_USERS).map(of).collect());
    }

    /// The sockets that listen to a channel here, and whether there are more than may be named.
    /// `None` while the channel is held: some of them may not belong to it any more.
    pub(crate) fn who(
        &self,
        channel: ChannelId,
        pod: &PodId,
    ) -> Option<(Vec<ListeningSocket>, bool)> {
        let state = self.state.lock();
        let Some(channel) = state.channels.get(&channel) else {
            // Where everything is held, nobody is vouched for.
            return (!state.suspended).then(Default::default);
        };
        if channel.gate == Gate::Held {
            return None;
        }
        let mut ids: Vec<SocketId> = channel.feed.sockets().collect();
        ids.sort_unstable();
        let truncated = ids.len() > limits::WHO_SOCKETS;
        ids.truncate(limits::WHO_SOCKETS);
        let sockets = ids.iter().filter_map(|id| {
            let entry = state.sockets.get(id)?;
            Some(ListeningSocket {
                socket: connection_id(pod, *id),
                user: entry.holder.user,
                device: entry.holder.device.clone(),
            })
        });
        Some((sockets.collect(), truncated))
    }

    /// Redis confirmed the subscription of `user-<id>`, the first time or again: a new direct
    /// channel may have been announced unheard.
    pub(crate) fn on_user_subscribed(&self, user: UserId, turn: &mut Turn) {
        let mut state = self.state.lock();
        let state = &mut *state;
        if let Some(person) = state.people.get_mut(&user) {
            person.confirmed = true;
            if state.wants_directs(user) {
                turn.directs.push((user, None));
            }
        }
    }

    /// The user was added to a channel; a direct one is joined once the store has confirmed it,
    /// also by devices that left it. Of another one the devices are told: which of those they
    /// listen to is their choice.
    pub(crate) fn on_channel_added(&self, user: UserId, channel: ChannelId, turn: &mut Turn) {
        let mut state = self.state.lock();
        let state = &mut *state;
        if channel.letter != ChannelLetter::Direct {
            return state.tell_added(user, channel, turn);
        }
        for id in state.user_id_to_sockets.get(&user).into_iter().flatten() {
            if let Some(entry) = state.sockets.get_mut(id) {
                entry.holder.left.retain(|left| *left != channel);
            }
        }
        if state.wants_directs(user) {
            turn.directs.push((user, Some(channel)));
        }
    }

    /// Every token of the user is revoked: their sockets are told so and close.
    pub(crate) fn revoke(&self, user: UserId) -> usize {
        let state = self.state.lock();
        let of_user = state.user_id_to_sockets.get(&user);
        let sockets = of_user.into_iter().flatten();
        let mut count = 0;
        for entry in sockets.filter_map(|id| state.sockets.get(id)) {
            count += 1;
            entry
                .socket
                .request_close(CloseCode::Revoked, "the token was revoked");
        }
        count
    }

    /// Sockets that the edge is to join to a direct channel of their user.
    pub(crate) fn to_join(&self, user: UserId, channel: ChannelId) -> Vec<SocketId> {
        let state = self.state.lock();
        let of_user = state.user_id_to_sockets.get(&user).into_iter().flatten();
        of_user
            .filter(|id| {
                let entry = state.sockets.get(id);
                entry.is_some_and(|entry| entry.holder.is_joined_by_edge(channel))
            })
            .copied()
            .collect()
    }

    /// What time does to people: the last socket's grace, idle devices, watches. Called once a
    /// second.
    pub(crate) fn people_tick(&self, now_ms: u64, bus: &impl Bus, turn: &mut Turn) {
        let mut state = self.state.lock();
        let state = &mut *state;
        let due = |person: &Person| !person.here || person.time_ms <= now_ms;
        let people = state.people.iter();
        let users: Vec<UserId> = people
            .filter(|(_, person)| due(person))
            .map(|(user, _)| *user)
            .collect();
        for user in users {
            state.assess(user, now_ms, bus);
            let MapEntry::Occupied(mut person) = state.people.entry(user) else {
                continue;
            };
            if person.get().here {
                continue;
            }
            let since = person.get().time_ms;
            if person.get().subscribed && since + USER_LINGER_MS <= now_ms {
                person.get_mut().subscribed = false;
                bus.unsubscribe(BusChannel::User(user));
            }
            if since + OFFLINE_AFTER_MS <= now_ms && !person.get().subscribed {
                person.remove();
            }
        }
        state.watch_tick(now_ms, bus, turn);
    }

    /// Users whose `user-<id>` is subscribed.
    #[cfg(test)]
    pub(crate) fn subscribed_users(&self) -> std::collections::BTreeSet<UserId> {
        let state = self.state.lock();
        let people = state.people.iter();
        people
            .filter(|(_, person)| person.subscribed)
            .map(|(user, _)| *user)
            .collect()
    }
}

impl State {
    /// News, and no record: it is dropped where there is little room. Counted as the channel's, so
    /// that an eviction takes it out again.
    fn tell_added(&self, user: UserId, channel: ChannelId, turn: &mut Turn) {
        let frame = text_frame(added_frame(channel).as_bytes());
        let of_user = self.user_id_to_sockets.get(&user).into_iter().flatten();
        for entry in of_user.filter_map(|id| self.sockets.get(id)) {
            let offered = entry
                .socket
                .with_outbox(|outbox| outbox.under_half() && outbox.offer_record(channel, &frame));
            if offered {
                turn.touch(&entry.socket);
            }
        }
    }

    fn wants_directs(&self, user: UserId) -> bool {
        let of_user = self.user_id_to_sockets.get(&user).into_iter().flatten();
        let mut entries = of_user.filter_map(|id| self.sockets.get(id));
        entries.any(|entry| entry.holder.direct)
    }
}

impl Holder {
    /// Whether the edge joins this socket to a direct channel by itself: not where the client has
    /// done so, left it, or listens to as many as it may.
    pub(super) fn is_joined_by_edge(&self, channel: ChannelId) -> bool {
        self.direct
            && !self.channels.contains(&channel)
            && !self.left.contains(&channel)
            && self.channels.len() < limits::JOINS_PER_SOCKET
    }

    /// The client left a direct channel: the edge does not join it again by itself.
    pub(super) fn note_left(&mut self, channel: ChannelId) {
        if channel.letter == ChannelLetter::Direct && !self.left.contains(&channel) {
            if self.left.len() >= limits::JOINS_PER_SOCKET {
                self.left.remove(0);
            }
            self.left.push(channel);
        }
    }
}

/// Names a socket to people and logs.
pub(crate) fn connection_id(pod: &PodId, id: SocketId) -> String {
    format!("{pod}-{}", id.0)
}

impl Turn {
    /// Says that a socket has something to write.
    pub(super) fn touch(&mut self, socket: &Arc<crate::socket::Socket>) {
        if !socket.mark_dirty() {
            self.dirty.push(Arc::clone(socket));
        }
    }
}
