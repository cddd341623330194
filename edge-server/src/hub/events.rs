//! What happens to a channel: the bus, the store and the clock.

use std::{collections::VecDeque, sync::Arc};

use hubbub_protocol::{BusChannel, ChannelId, ErrorBody, ErrorCode, Seq, Stored, reply_error};

use super::{
    Hub, JOIN_DEADLINE_MS, LINGER_MS, Turn,
    state::{Gate, PendingJoin},
};
use crate::feed::{Answer, Counts, Failure, Frame, Horizon, SocketId};

/// Pages that one look at a socket's room may ask for.
const ROOM_REQUESTS: usize = 8;

impl Hub {
    /// Hands records of a channel that came over the bus one after the other to its feed. The
    /// `last` ones of a turn are written at once where nothing waits before them; all others when
    /// the turn is performed, so that what comes behind them shares the write.
    pub(crate) fn on_records(
        &self,
        channel: ChannelId,
        frames: &[Frame],
        last: bool,
        now_ms: u64,
        turn: &mut Turn,
    ) -> bool {
        self.state
            .lock()
            .with_feed(channel, now_ms, turn, |channel, out| {
                let open = channel.gate == Gate::Open;
                if open {
                    out.at_once_ms = last.then_some(now_ms);
                    channel.feed.messages(frames, out);
                    out.at_once_ms = None;
                }
                open
            })
            .unwrap_or(false)
    }

    /// Hands an announcement of the consumer to the channel's feed.
    pub(crate) fn on_stored(&self, stored: Stored, now_ms: u64, turn: &mut Turn) -> bool {
        self.state
            .lock()
            .with_feed(stored.channel, now_ms, turn, |channel, out| {
                let open = channel.gate == Gate::Open;
                if open {
                    channel.feed.stored(stored, out);
                }
                open
            })
            .unwrap_or(false)
    }

    /// Redis confirmed a SUBSCRIBE. True: the channel is held, and its memberships must be read
    /// again ([`Hub::listening_users`], [`Hub::reopen`]).
    pub(crate) fn on_subscribed(&self, channel: ChannelId, now_ms: u64, turn: &mut Turn) -> bool {
        self.state
            .lock()
            .with_feed(channel, now_ms, turn, |channel, out| match channel.gate {
                Gate::Open => {
                    channel.feed.subscribed(out);
                    false
                }
                Gate::Held => true,
            })
            .unwrap_or(false)
    }

    /// The sweep found the head of the channel with this key in its shard above its horizon, twice.
    pub(crate) fn on_head(&self, key: i64, head: Seq, now_ms: u64, turn: &mut Turn) {
        let mut state = self.state.lock();
        let Some(channel) = state.channel_of(key).map(|(id, _)| id) else {
            return;
        };
        state.with_feed(channel, now_ms, turn, |channel, out| {
            if channel.gate == Gate::Open {
                channel.feed.head_seen(head, out);
            }
        });
    }

    /// What is known here of the channel with this key in its shard.
    pub(crate) fn horizon_of(&self, key: i64) -> Horizon {
        let state = self.state.lock();
        match state.channel_of(key) {
            None => Horizon::NoFeed,
            Some((_, channel)) => channel.feed.horizon().map_or(Horizon::Unknown, Horizon::At),
        }
    }

    /// The store's answer to a feed's question; one to a feed that is gone is dropped. While the
    /// channel is held an answer does not count: it is asked for again when it is open.
    pub(crate) fn on_answer(
        &self,
        channel: ChannelId,
        request: u64,
        answer: Result<Answer, Failure>,
        now_ms: u64,
    ) -> Turn {
        let mut turn = Turn::default();
        self.state
            .lock()
            .with_feed(channel, now_ms, &mut turn, |channel, out| {
                match channel.gate {
                    Gate::Open => channel.feed.answer(request, answer, now_ms, out),
                    Gate::Held => channel.feed.cancelled(request),
                }
            });
        turn
    }

    /// A socket's outbox fell under half: its readers go on.
    pub(crate) fn on_room(&self, id: SocketId, now_ms: u64) -> Turn {
        let mut turn = Turn::default();
        let mut state = self.state.lock();
        let Some(entry) = state.sockets.get_mut(&id) else {
            return turn;
        };
        // Each channel that is behind asks for a page, and a few pages fill the outbox: the
        // others are given their turn at the next tick.
        let from = entry.holder.next_room.min(entry.holder.channels.len());
        let mut channels = entry.holder.channels.split_off(from);
        channels.append(&mut entry.holder.channels);
        entry.holder.channels.clone_from(&channels);
        entry.holder.next_room = channels.len();
        for (at, channel) in channels.into_iter().enumerate() {
            if turn.requests.len() >= ROOM_REQUESTS {
                if let Some(entry) = state.sockets.get_mut(&id) {
                    entry.holder.next_room = at;
                }
                state.waits_for_room.insert(id);
                break;
            }
            state.with_feed(channel, now_ms, &mut turn, |channel, out| {
                if channel.gate == Gate::Open {
                    channel.feed.room(id, out);
                }
            });
        }
        turn
    }

    /// What time does: joins without an answer, channels without listeners, questions to be asked
    /// again, `synced` that are due and those without a ride. Called every 100 ms or so.
    pub(crate) fn tick(&self, now_ms: u64, unsubscribe: impl Fn(BusChannel)) -> Turn {
        let mut turn = self.time_passed(now_ms, unsubscribe);
        self.tell_synced(now_ms, &mut turn);
        turn
    }

    /// Tells the sockets of each channel whose horizon has moved since the last tick; what has not
    /// ridden on a write by the next one gets one of its own.
    fn tell_synced(&self, now_ms: u64, turn: &mut Turn) {
        let untold: Vec<ChannelId> = self.state.lock().untold.drain().collect();
        for channel in untold {
            // The lock is given back between two: thousands of sockets may have to be told.
            let mut state = self.state.lock();
            // One that is held is told when it is open: somebody may be no member any more.
            state.with_feed(channel, now_ms, turn, |channel, out| {
                if channel.gate == Gate::Open {
                    channel.feed.tell_synced(out);
                }
            });
        }
        let mut state = self.state.lock();
        let state = &mut *state;
        for id in state.synced.drain() {
            if let Some(entry) = state.sockets.get(&id) {
                entry.socket.with_outbox(|outbox| outbox.make_synced_due());
                state.synced_due.push(id);
            }
        }
    }

    fn time_passed(&self, now_ms: u64, unsubscribe: impl Fn(BusChannel)) -> Turn {
        let mut turn = Turn::default();
        let mut state = self.state.lock();
        let state = &mut *state;
        #[cfg(feature = "mutants")]
        self.evict_late(state, now_ms, &mut turn);
        while let Some((deadline_ms, id, channel)) = state.deadlines.front().copied()
            && deadline_ms <= now_ms
        {
            state.deadlines.pop_front();
            let late =
                |join: &PendingJoin| join.channel == channel && join.deadline_ms == deadline_ms;
            let Some(entry) = state.sockets.get_mut(&id) else {
                continue;
            };
            let Some(at) = entry.holder.joins.iter().position(late) else {
                continue;
            };
            let placed = state
                .channels
                .get(&channel)
                .is_some_and(|channel| channel.feed.has_place(id));
            if placed {
                // It only waits for its turn, behind what this socket has to read first.
                let deadline_ms = now_ms + JOIN_DEADLINE_MS;
                entry.holder.joins[at].deadline_ms = deadline_ms;
                state.deadlines.push_back((deadline_ms, id, channel));
                continue;
            }
            let join = entry.holder.take_join(at);
            let (socket, request) = (Arc::clone(&entry.socket), join.id);
            if join.by_edge.is_some() {
                // Nobody waits for an answer: it is tried again.
                turn.directs.push((entry.holder.user, Some(channel)));
            }
            state.leave(id, channel, now_ms, &mut turn);
            if let Some(request) = request {
                let error = ErrorBody::new(
                    ErrorCode::BusUnavailable,
                    "the channel could not be opened in time: join again",
                )
                .retry_after_ms(1_000);
                socket.push_text(&reply_error(Some(&request), &error));
                if !socket.mark_dirty() {
                    turn.dirty.push(socket);
                }
            }
        }
        if state.deadlines.is_empty() {
            // A storm of joins made room for one of each socket; an empty list takes none.
            state.deadlines = VecDeque::new();
        }
        let retrying: Vec<ChannelId> = state.retrying.iter().copied().collect();
        for channel in retrying {
            let known = state.with_feed(channel, now_ms, &mut turn, |channel, out| {
                // What is due is taken by `next_request`, which follows every turn.
                (channel.gate == Gate::Open, out.channel)
            });
            if known.is_none() {
                state.retrying.remove(&channel);
            }
        }
        for id in std::mem::take(&mut state.waits_for_room) {
            if let Some(entry) = state.sockets.get(&id) {
                entry.socket.want_room();
                if !entry.socket.mark_dirty() {
                    turn.dirty.push(Arc::clone(&entry.socket));
                }
            }
        }
        for id in state.synced_due.drain(..) {
            let Some(entry) = state.sockets.get(&id) else {
                continue;
            };
            let alone = entry.socket.with_outbox(|outbox| {
                let alone = outbox.synced_overdue();
                if alone {
                    outbox.flush_synced();
                }
                alone
            });
            if alone && !entry.socket.mark_dirty() {
                turn.dirty.push(Arc::clone(&entry.socket));
            }
        }
        while let Some((since_ms, id)) = state.emptied.front().copied()
            && since_ms + LINGER_MS <= now_ms
        {
            state.emptied.pop_front();
            let channel = state.channels.get(&id);
            if channel.is_some_and(|channel| channel.empty_since_ms == Some(since_ms)) {
                state.channels.remove(&id);
                state.retrying.remove(&id);
                unsubscribe(BusChannel::Channel(id));
            }
        }
        turn
    }

    /// What the feeds did since the last call.
    pub(crate) fn take_counts(&self) -> Counts {
        std::mem::take(&mut self.state.lock().counts)
    }
}
