//! Who is here: sockets by user, channels with their feeds and listeners. Plain maps under one
//! lock, no I/O in it; what must be done outside comes back as a [`Turn`].

mod events;
mod loads;
mod members;
mod out;
mod passing;
mod people;
#[cfg(test)]
mod people_tests;
mod registration;
mod serial;
mod state;
#[cfg(test)]
mod tests;
mod turn;
mod watching;
#[cfg(test)]
mod who_tests;

use std::{
    collections::{HashMap, HashSet, VecDeque},
    num::NonZeroUsize,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use hubbub_protocol::{
    BusChannel, ChannelId, DeviceId, ErrorBody, ErrorCode, RequestId, Seq, UserId, reply_error,
};
use lru::LruCache;
use parking_lot::Mutex;
use rustc_hash::FxHashSet;
#[cfg(test)]
use smallvec::SmallVec;
use tokio::sync::Notify;

pub(crate) use self::{
    loads::Loads,
    members::Reopened,
    passing::Passed,
    people::{Bus, connection_id},
    registration::Registration,
    turn::Turn,
};
use self::{
    serial::{BySocketId, SocketIds},
    state::{Channel, Gate, HeldJoin, PendingJoin, State},
};
use crate::{
    feed::{Counts, Feed, Frame, Limits, SocketId},
    people::{
        marks::{GATHERED, Marks},
        typing::TypingRate,
        watches::Watches,
    },
    socket::Socket,
    wire::text_frame,
};

/// A join that nobody answered by then (the bus gives no confirmation) is refused. Longer than
/// the store's read deadline: a store that is away has an answer of its own.
const JOIN_DEADLINE_MS: u64 = 8_000;

/// A channel without listeners is kept this long against churn, then unsubscribed and forgotten.
const LINGER_MS: u64 = 1_000;

/// Memberships that are remembered by the store's word; past it the one used longest ago is asked
/// for again.
const VOUCHED: NonZeroUsize = NonZeroUsize::new(65_536).expect("not zero");

/// What the hub holds of a socket, lists apart.
#[cfg(test)]
pub(crate) const ENTRY_BYTES: usize =
    size_of::<(SocketId, state::Entry)>() + size_of::<state::Holder>();

/// A join that passed the membership check.
#[derive(Debug)]
pub(crate) struct JoinRequest {
    /// Where.
    pub(crate) channel: ChannelId,
    /// The client's cursor.
    pub(crate) since: Option<Seq>,
    /// Strictly by seq?
    pub(crate) ordered: bool,
    /// What to reply to.
    pub(crate) id: Option<RequestId>,
    /// [`Hub::evictions`] before the check.
    pub(crate) evictions: u64,
    /// The edge joins by itself, to a direct channel with this user. The client's own joins and
    /// leaves go before.
    pub(crate) by_edge: Option<UserId>,
}

/// Why a join was not begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum JoinRefused {
    /// Somebody was evicted since the membership was read: read it again.
    Evicted,
    /// The socket is not registered any more.
    Gone,
}

/// See the module. One per edge.
pub(crate) struct Hub {
    state: Mutex<State>,
    next_socket: AtomicU64,
    evictions: AtomicU64,
    sockets: AtomicUsize,
    /// Marks wait for their time.
    marks_wait: Notify,
}

impl std::fmt::Debug for Hub {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hub")
            .field("sockets", &self.sockets)
            .finish_non_exhaustive()
    }
}

impl Hub {
    /// An empty hub. `recent_bytes` bounds the frames that all feeds keep together.
    pub(crate) fn new(recent_bytes: usize) -> Self {
        // Grows with use: `LruCache::new` would reserve the whole table at once.
        let mut vouched = LruCache::unbounded();
        vouched.resize(VOUCHED);
        Self {
            state: Mutex::new(State {
                sockets: BySocketId::default(),
                user_id_to_sockets: HashMap::new(),
                people: HashMap::new(),
                watches: Watches::default(),
                marks: Marks::new(GATHERED),
                typing: TypingRate::new(),
                vouched,
                channels: HashMap::new(),
                synced: SocketIds::default(),
                untold: FxHashSet::default(),
                synced_due: Vec::new(),
                retrying: HashSet::new(),
                deadlines: VecDeque::new(),
                waits_for_room: SocketIds::default(),
                emptied: VecDeque::new(),
                limits: Limits::new(recent_bytes as u64),
                counts: Counts::default(),
                next_epoch: 1,
                suspended: true,
                changed_loads: None,
                #[cfg(feature = "mutants")]
                late_evictions: VecDeque::new(),
            }),
            next_socket: AtomicU64::new(1),
            evictions: AtomicU64::new(0),
            sockets: AtomicUsize::new(0),
            marks_wait: Notify::new(),
        }
    }

    /// A fresh key for a socket.
    pub(crate) fn next_socket_id(&self) -> SocketId {
        SocketId(self.next_socket.fetch_add(1, Ordering::Relaxed))
    }

    /// Sockets registered now.
    pub(crate) fn sockets(&self) -> usize {
        self.sockets.load(Ordering::Relaxed)
    }

    /// Channels that a socket listens to.
    pub(crate) fn joins_of(&self, id: SocketId) -> usize {
        self.state
            .lock()
            .sockets
            .get(&id)
            .map_or(0, |entry| entry.holder.channels.len())
    }

    /// Whether a socket listens to a channel, or is about to.
    pub(crate) fn is_joined(&self, id: SocketId, channel: ChannelId) -> bool {
        let state = self.state.lock();
        state
            .sockets
            .get(&id)
            .is_some_and(|entry| entry.holder.channels.contains(&channel))
    }

    /// Begins a join of a member. `subscribe` is called, under the lock so that orders to the
    /// bus keep their order, if this is the channel's first listener.
    pub(crate) fn join(
        &self,
        id: SocketId,
        request: JoinRequest,
        now_ms: u64,
        subscribe: impl FnOnce(BusChannel),
    ) -> Result<Turn, JoinRefused> {
        let mut turn = Turn::default();
        let mut state = self.state.lock();
        let state = &mut *state;
        let channel = request.channel;
        let entry = state.sockets.get_mut(&id).ok_or(JoinRefused::Gone)?;
        if self.evictions() != request.evictions {
            return Err(JoinRefused::Evicted);
        }
        let user = entry.holder.user;
        match request.by_edge {
            Some(_) if !entry.holder.is_joined_by_edge(channel) => return Ok(turn),
            Some(_) => {}
            None => entry.holder.left.retain(|left| *left != channel),
        }
        // A second join replaces the first: an answer that is still owed belongs to it alone.
        let first = entry.holder.take_join_of(channel);
        if let Some(first_id) = first.and_then(|join| join.id) {
            let error = ErrorBody::new(
                ErrorCode::InvalidField,
                "a second join of the channel took this one's place",
            );
            entry
                .socket
                .push_text(&reply_error(Some(&first_id), &error));
        }
        let deadline_ms = now_ms + JOIN_DEADLINE_MS;
        entry.holder.joins.push(PendingJoin {
            channel,
            id: request.id,
            by_edge: request.by_edge,
            deadline_ms,
        });
        state.deadlines.push_back((deadline_ms, id, channel));
        let again = entry.holder.channels.contains(&channel);
        if !again {
            entry.holder.channels.push(channel);
        }
        if !state.channels.contains_key(&channel) {
            let epoch = state.next_epoch;
            state.next_epoch += 1;
            let feed = Feed::new(channel, state.limits.clone());
            state.channels.insert(
                channel,
                Box::new(Channel {
                    feed,
                    epoch,
                    gate: if state.suspended {
                        Gate::Held
                    } else {
                        Gate::Open
                    },
                    held: BySocketId::default(),
                    members: HashSet::new(),
                    listeners: 0,
                    empty_since_ms: None,
                }),
            );
            subscribe(BusChannel::Channel(channel));
        }
        state.with_feed(channel, now_ms, &mut turn, |channel, out| {
            // A held channel vouches for nobody: its memberships are read again first.
            if channel.gate == Gate::Open {
                channel.members.insert(user);
            }
            if !again {
                channel.listeners += 1;
            }
            channel.empty_since_ms = None;
            let (since, ordered) = (request.since, request.ordered);
            channel.join(id, HeldJoin { since, ordered }, out);
        });
        if !again {
            state.note_load(channel);
        }
        Ok(turn)
    }

    /// Ends a socket's listening to a channel, because its client says so; false if it did not listen.
    pub(crate) fn leave(&self, id: SocketId, channel: ChannelId, now_ms: u64) -> (Turn, bool) {
        let mut turn = Turn::default();
        let mut state = self.state.lock();
        if let Some(entry) = state.sockets.get_mut(&id) {
            entry.holder.note_left(channel);
        }
        let left = state.leave(id, channel, now_ms, &mut turn);
        (turn, left)
    }

    /// Channels with a feed.
    pub(crate) fn open_channels(&self) -> Vec<ChannelId> {
        self.state.lock().channels.keys().copied().collect()
    }

    /// Every socket, with when its token expires (seconds since 1970).
    pub(crate) fn all_sockets(&self) -> Vec<(Arc<Socket>, i64)> {
        self.sockets_of_turn(0, 1)
    }

    /// The sockets whose turn it is when they take `turns` turns: each has its own by its id, and
    /// `turn` counts on. With each, when its token expires (seconds since 1970).
    pub(crate) fn sockets_of_turn(&self, turn: u64, turns: u64) -> Vec<(Arc<Socket>, i64)> {
        let state = self.state.lock();
        let due = state
            .sockets
            .iter()
            .filter(|(id, _)| id.0 % turns == turn % turns);
        due.map(|(_, entry)| (Arc::clone(&entry.socket), entry.holder.expires_at_s))
            .collect()
    }

    /// Figures for metrics and the debug page.
    pub(crate) fn state(&self) -> serde_json::Value {
        let state = self.state.lock();
        let channels: serde_json::Map<String, serde_json::Value> = state
            .channels
            .iter()
            .take(1_000)
            .map(|(id, channel)| {
                let value = serde_json::json!({
                    "horizon": channel.feed.horizon(),
                    "listeners": channel.listeners,
                    "held": channel.gate == Gate::Held,
                });
                (id.to_string(), value)
            })
            .collect();
        let devices: HashSet<&DeviceId> =
            state.sockets.values().map(|e| &e.holder.device).collect();
        serde_json::json!({
            "sockets": state.sockets.len(),
            "users": state.user_id_to_sockets.len(),
            "watched": state.watches.len(),
            "devices": devices.len(),
            "channels": state.channels.len(),
            "suspended": state.suspended,
            "outbox_bytes": state.sockets.values()
                .map(|e| e.socket.with_outbox(|o| o.bytes())).sum::<usize>(),
            "feeds": channels,
        })
    }

    /// Open channels.
    pub(crate) fn channels(&self) -> usize {
        self.state.lock().channels.len()
    }

    /// What must hold between any two turns.
    #[cfg(test)]
    pub(crate) fn check_invariants(&self) {
        let state = self.state.lock();
        let mut listeners: HashMap<ChannelId, usize> = HashMap::new();
        for (id, entry) in &state.sockets {
            assert!(
                state
                    .user_id_to_sockets
                    .get(&entry.holder.user)
                    .is_some_and(|all| all.contains(id)),
                "socket {id:?} is not among those of its user"
            );
            for channel in &entry.holder.channels {
                *listeners.entry(*channel).or_default() += 1;
                assert!(
                    state.channels.contains_key(channel),
                    "{channel} is joined but not open"
                );
            }
        }
        for (id, channel) in &state.channels {
            let counted = listeners.get(id).copied().unwrap_or(0);
            assert_eq!(channel.listeners, counted, "listeners of {id}");
            assert_eq!(
                channel.empty_since_ms.is_some(),
                counted == 0,
                "linger of {id}"
            );
            channel
                .feed
                .check_invariants()
                .expect("the feed's own invariants");
        }
        for user in state.user_id_to_sockets.keys() {
            assert!(state.people.contains_key(user), "{user} is here");
        }
        state.watches.check_invariants();
        let of_users: usize = state.user_id_to_sockets.values().map(SmallVec::len).sum();
        assert_eq!(of_users, state.sockets.len(), "sockets by user");
    }
}

/// The frame of a record, as every socket of the channel gets it.
pub(crate) fn frame_of(seq: Seq, key: hubbub_protocol::MessageKey, json: &[u8]) -> Frame {
    Frame {
        seq,
        key,
        bytes: text_frame(json),
    }
}
