//! Who is here: sockets by user, channels with their feeds and listeners. Plain maps under one
//! lock, no I/O in it; what must be done outside comes back as a [`Turn`].

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use hubbub_protocol::{
    BusChannel, ChannelId, ChannelLetter, CloseCode, DeviceId, ErrorBody, ErrorCode, JoinReply,
    RequestId, Seq, Stored, UserId, left_frame, replay_frame, reply_error, reply_ok,
};
use parking_lot::Mutex;

use crate::{
    Edge,
    feed::{Answer, Counts, Failure, Feed, Frame, Horizon, Limits, Outboxes, Request, SocketId},
    handshake::Identity,
    socket::Socket,
    wire::text_frame,
};

/// A join that nobody answered by then (the bus gives no confirmation) is refused.
const JOIN_DEADLINE_MS: u64 = 5_000;
/// A channel without listeners is kept this long against churn, then unsubscribed and forgotten.
const LINGER_MS: u64 = 1_000;

/// What a turn under the lock left to be done outside of it.
#[derive(Debug, Default)]
pub(crate) struct Turn {
    /// Sockets with something to write.
    pub(crate) dirty: Vec<Arc<Socket>>,
    /// Questions to the store.
    pub(crate) requests: Vec<(ChannelId, Request)>,
}

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
}

/// Why a join was not begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum JoinRefused {
    /// Somebody was evicted since the membership was read: read it again.
    Evicted,
    /// The socket is not registered any more.
    Gone,
}

/// Whether a channel's feed may reach its sockets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Gate {
    /// It may.
    Open,
    /// The bus was away: the memberships are read again before anything is relayed, since a
    /// removal may have gone past this pod.
    Held,
}

#[derive(Debug)]
struct PendingJoin {
    channel: ChannelId,
    id: Option<RequestId>,
    deadline_ms: u64,
}

#[derive(Debug)]
struct Entry {
    socket: Arc<Socket>,
    user: UserId,
    device: DeviceId,
    expires_at_s: i64,
    channels: Vec<ChannelId>,
    joins: Vec<PendingJoin>,
}

#[derive(Debug)]
struct Channel {
    feed: Feed,
    /// Tells this feed from an earlier one of the channel.
    epoch: u64,
    gate: Gate,
    /// Users that the primary called members since the feed opened; evictions take them out.
    members: HashSet<UserId>,
    listeners: usize,
    empty_since_ms: Option<u64>,
}

struct State {
    sockets: HashMap<SocketId, Entry>,
    user_id_to_sockets: HashMap<UserId, Vec<SocketId>>,
    channels: HashMap<ChannelId, Channel>,
    /// Sockets with a `synced` that waits for a write to ride on.
    synced: HashSet<SocketId>,
    /// Channels whose feed has a question to ask again later.
    retrying: HashSet<ChannelId>,
    limits: Limits,
    counts: Counts,
    next_epoch: u64,
    /// There is no lease: everything is held until it is there.
    suspended: bool,
}

/// See the module. One per edge.
pub(crate) struct Hub {
    state: Mutex<State>,
    next_socket: AtomicU64,
    evictions: AtomicU64,
    sockets: AtomicUsize,
}

impl std::fmt::Debug for Hub {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hub")
            .field("sockets", &self.sockets)
            .finish_non_exhaustive()
    }
}

/// The sockets as a feed sees them.
struct Out<'a> {
    channel: ChannelId,
    sockets: &'a mut HashMap<SocketId, Entry>,
    synced: &'a mut HashSet<SocketId>,
    dirty: &'a mut Vec<Arc<Socket>>,
}

impl Out<'_> {
    fn touch(&mut self, id: SocketId, f: impl FnOnce(&Socket)) {
        if let Some(entry) = self.sockets.get(&id) {
            f(&entry.socket);
            if !entry.socket.mark_dirty() {
                self.dirty.push(Arc::clone(&entry.socket));
            }
        }
    }
}

impl Outboxes for Out<'_> {
    fn offer(&mut self, socket: SocketId, frame: &Bytes) -> bool {
        let Some(entry) = self.sockets.get(&socket) else {
            return true;
        };
        // The wish for room is noted under the outbox's lock: a flush on another thread either
        // sees it or has made the room before.
        let taken = entry.socket.with_outbox(|outbox| {
            let taken = outbox.offer_record(self.channel, frame);
            if !taken {
                entry.socket.want_room();
            }
            taken
        });
        if taken && !entry.socket.mark_dirty() {
            self.dirty.push(Arc::clone(&entry.socket));
        }
        taken
    }

    fn under_half(&self, socket: SocketId) -> bool {
        let Some(entry) = self.sockets.get(&socket) else {
            return false;
        };
        entry.socket.with_outbox(|outbox| {
            let under = outbox.under_half();
            if !under {
                entry.socket.want_room();
            }
            under
        })
    }

    fn joined(&mut self, socket: SocketId, reply: JoinReply) {
        let Some(entry) = self.sockets.get_mut(&socket) else {
            return;
        };
        let Some(at) = entry
            .joins
            .iter()
            .position(|join| join.channel == reply.channel)
        else {
            return;
        };
        let join = entry.joins.remove(at);
        if let Some(id) = join.id {
            self.touch(socket, |socket| socket.push_text(&reply_ok(&id, &reply)));
        }
    }

    fn replay(&mut self, socket: SocketId, channel: ChannelId, since: Seq) {
        self.touch(socket, |socket| {
            socket.push_text(&replay_frame(channel, since))
        });
    }

    fn synced(&mut self, socket: SocketId, channel: ChannelId, seq: Seq) {
        if let Some(entry) = self.sockets.get(&socket) {
            entry.socket.with_outbox(|o| o.set_synced(channel, seq));
            self.synced.insert(socket);
        }
    }

    fn drop_synced(&mut self, socket: SocketId, channel: ChannelId) {
        if let Some(entry) = self.sockets.get(&socket) {
            entry.socket.with_outbox(|o| o.drop_synced(channel));
        }
    }

    fn close(&mut self, socket: SocketId, why: CloseCode) {
        if let Some(entry) = self.sockets.get(&socket) {
            entry
                .socket
                .request_close(why, "a channel cannot be served on this socket now");
        }
    }
}

impl State {
    /// Runs `f` on a channel's feed with the sockets beside it, then collects what the feed asks
    /// of the store.
    fn with_feed<T>(
        &mut self,
        channel: ChannelId,
        now_ms: u64,
        turn: &mut Turn,
        f: impl FnOnce(&mut Channel, &mut Out<'_>) -> T,
    ) -> Option<T> {
        let entry = self.channels.get_mut(&channel)?;
        let mut out = Out {
            channel,
            sockets: &mut self.sockets,
            synced: &mut self.synced,
            dirty: &mut turn.dirty,
        };
        let result = f(entry, &mut out);
        while let Some(request) = entry.feed.next_request(now_ms, &out) {
            turn.requests.push((channel, request));
        }
        add(&mut self.counts, entry.feed.take_counts());
        if entry.feed.next_due_ms().is_some() {
            self.retrying.insert(channel);
        } else {
            self.retrying.remove(&channel);
        }
        Some(result)
    }

    fn channel_of(&self, number: i64) -> Option<(ChannelId, &Channel)> {
        [ChannelLetter::Channel, ChannelLetter::Direct]
            .into_iter()
            .find_map(|letter| {
                let id = ChannelId::new(letter, number)?;
                self.channels.get(&id).map(|channel| (id, channel))
            })
    }

    fn leave(&mut self, id: SocketId, channel: ChannelId, now_ms: u64, turn: &mut Turn) -> bool {
        let Some(entry) = self.sockets.get_mut(&id) else {
            return false;
        };
        let Some(at) = entry.channels.iter().position(|c| *c == channel) else {
            return false;
        };
        entry.channels.swap_remove(at);
        entry.joins.retain(|join| join.channel != channel);
        self.with_feed(channel, now_ms, turn, |channel, out| {
            channel.feed.leave(id, out);
            channel.listeners -= 1;
            if channel.listeners == 0 {
                channel.empty_since_ms = Some(now_ms);
            }
        });
        true
    }
}

impl State {
    fn evict(&mut self, channel: ChannelId, user: UserId, now_ms: u64, turn: &mut Turn) -> u64 {
        if let Some(channel) = self.channels.get_mut(&channel) {
            channel.members.remove(&user);
        }
        let mut listening = 0;
        for id in self
            .user_id_to_sockets
            .get(&user)
            .cloned()
            .unwrap_or_default()
        {
            let owed = self.sockets.get_mut(&id).and_then(|entry| {
                let at = entry
                    .joins
                    .iter()
                    .position(|join| join.channel == channel)?;
                entry.joins.remove(at).id
            });
            let listened = self.leave(id, channel, now_ms, turn);
            if let Some(entry) = self.sockets.get(&id) {
                entry.socket.with_outbox(|outbox| outbox.purge(channel));
                if listened {
                    listening += 1;
                    entry.socket.push_text(&left_frame(channel));
                }
                if let Some(request) = owed {
                    let error =
                        ErrorBody::new(ErrorCode::ChannelNotFound, "no such channel for you");
                    entry.socket.push_text(&reply_error(Some(&request), &error));
                }
                if !entry.socket.mark_dirty() {
                    turn.dirty.push(Arc::clone(&entry.socket));
                }
            }
        }
        listening
    }
}

impl Hub {
    /// An empty hub. `recent_bytes` bounds the frames that all feeds keep together.
    pub(crate) fn new(recent_bytes: usize) -> Self {
        Self {
            state: Mutex::new(State {
                sockets: HashMap::new(),
                user_id_to_sockets: HashMap::new(),
                channels: HashMap::new(),
                synced: HashSet::new(),
                retrying: HashSet::new(),
                limits: Limits::new(recent_bytes as u64),
                counts: Counts::default(),
                next_epoch: 1,
                suspended: true,
            }),
            next_socket: AtomicU64::new(1),
            evictions: AtomicU64::new(0),
            sockets: AtomicUsize::new(0),
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

    /// Counts evictions. A membership read before the count changed may be stale.
    pub(crate) fn evictions(&self) -> u64 {
        self.evictions.load(Ordering::Acquire)
    }

    fn register(&self, socket: &Arc<Socket>, identity: &Identity, most: usize) {
        let mut state = self.state.lock();
        let entry = Entry {
            socket: Arc::clone(socket),
            user: identity.user,
            device: identity.device.clone(),
            expires_at_s: identity.expires_at_s,
            channels: Vec::new(),
            joins: Vec::new(),
        };
        state.sockets.insert(socket.id, entry);
        let of_user = state.user_id_to_sockets.entry(identity.user).or_default();
        of_user.push(socket.id);
        // Ids only grow, so the first is the oldest.
        let oldest = (of_user.len() > most).then(|| of_user[0]);
        if let Some(entry) = oldest.and_then(|id| state.sockets.get(&id)) {
            entry.socket.request_close(
                CloseCode::Replaced,
                "a newer connection of this user took this one's place",
            );
        }
        self.sockets.fetch_add(1, Ordering::Relaxed);
    }

    fn unregister(&self, id: SocketId, now_ms: u64) -> Turn {
        let mut turn = Turn::default();
        let mut state = self.state.lock();
        let channels = state
            .sockets
            .get(&id)
            .map(|entry| entry.channels.clone())
            .unwrap_or_default();
        for channel in channels {
            state.leave(id, channel, now_ms, &mut turn);
        }
        state.synced.remove(&id);
        if let Some(entry) = state.sockets.remove(&id) {
            if let Some(of_user) = state.user_id_to_sockets.get_mut(&entry.user) {
                of_user.retain(|socket| *socket != id);
                if of_user.is_empty() {
                    state.user_id_to_sockets.remove(&entry.user);
                }
            }
            self.sockets.fetch_sub(1, Ordering::Relaxed);
        }
        turn
    }

    /// Channels that a socket listens to.
    pub(crate) fn joins_of(&self, id: SocketId) -> usize {
        self.state
            .lock()
            .sockets
            .get(&id)
            .map_or(0, |entry| entry.channels.len())
    }

    /// Whether a socket listens to a channel, or is about to.
    pub(crate) fn is_joined(&self, id: SocketId, channel: ChannelId) -> bool {
        let state = self.state.lock();
        state
            .sockets
            .get(&id)
            .is_some_and(|entry| entry.channels.contains(&channel))
    }

    /// Runs `f`, which must not wait, if an open feed vouches for the membership; evictions are
    /// kept out meanwhile.
    pub(crate) fn if_member<T>(
        &self,
        channel: ChannelId,
        user: UserId,
        f: impl FnOnce() -> T,
    ) -> Option<T> {
        let state = self.state.lock();
        let channel = state.channels.get(&channel)?;
        (channel.gate == Gate::Open && channel.members.contains(&user)).then(f)
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
        let user = entry.user;
        // A second join replaces the first: an answer that is still owed belongs to it alone.
        if let Some(at) = entry.joins.iter().position(|join| join.channel == channel) {
            let first = entry.joins.remove(at);
            if let Some(first_id) = first.id {
                let error = ErrorBody::new(
                    ErrorCode::InvalidField,
                    "a second join of the channel took this one's place",
                );
                entry
                    .socket
                    .push_text(&reply_error(Some(&first_id), &error));
            }
        }
        entry.joins.push(PendingJoin {
            channel,
            id: request.id,
            deadline_ms: now_ms + JOIN_DEADLINE_MS,
        });
        let again = entry.channels.contains(&channel);
        if !again {
            entry.channels.push(channel);
        }
        if !state.channels.contains_key(&channel) {
            let epoch = state.next_epoch;
            state.next_epoch += 1;
            let feed = Feed::new(channel, state.limits.clone());
            state.channels.insert(
                channel,
                Channel {
                    feed,
                    epoch,
                    gate: if state.suspended {
                        Gate::Held
                    } else {
                        Gate::Open
                    },
                    members: HashSet::new(),
                    listeners: 0,
                    empty_since_ms: None,
                },
            );
            subscribe(BusChannel::Channel(channel));
        }
        state.with_feed(channel, now_ms, &mut turn, |channel, out| {
            channel.members.insert(user);
            if !again {
                channel.listeners += 1;
            }
            channel.empty_since_ms = None;
            channel.feed.join(id, request.since, request.ordered, out);
        });
        Ok(turn)
    }

    /// Ends a socket's listening to a channel; false if it did not listen.
    pub(crate) fn leave(&self, id: SocketId, channel: ChannelId, now_ms: u64) -> (Turn, bool) {
        let mut turn = Turn::default();
        let left = self.state.lock().leave(id, channel, now_ms, &mut turn);
        (turn, left)
    }

    /// Hands a record that came over the bus to the channel's feed.
    pub(crate) fn on_record(
        &self,
        channel: ChannelId,
        frame: Frame,
        now_ms: u64,
        turn: &mut Turn,
    ) -> bool {
        self.state
            .lock()
            .with_feed(channel, now_ms, turn, |channel, out| {
                let open = channel.gate == Gate::Open;
                if open {
                    channel.feed.message(frame, out);
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

    /// The bus is lost, or this pod's lease has lapsed: nothing is relayed before the memberships
    /// were read again.
    pub(crate) fn hold_all(&self) {
        let mut state = self.state.lock();
        state.suspended = true;
        for channel in state.channels.values_mut() {
            channel.gate = Gate::Held;
            channel.members.clear();
        }
    }

    /// Channels with a feed.
    pub(crate) fn open_channels(&self) -> Vec<ChannelId> {
        self.state.lock().channels.keys().copied().collect()
    }

    /// The lease is back. Returns the channels to subscribe again.
    pub(crate) fn resume_all(&self) -> Vec<ChannelId> {
        let mut state = self.state.lock();
        state.suspended = false;
        state.channels.keys().copied().collect()
    }

    /// Users that listen to a channel here, and the life of its feed.
    pub(crate) fn listening_users(&self, channel: ChannelId) -> Option<(u64, Vec<UserId>)> {
        let state = self.state.lock();
        let channel = state.channels.get(&channel)?;
        let users: HashSet<UserId> = channel
            .feed
            .sockets()
            .filter_map(|id| state.sockets.get(&id))
            .map(|entry| entry.user)
            .collect();
        Some((channel.epoch, users.into_iter().collect()))
    }

    /// Opens a held channel again: `members` are those of `asked` that the primary still calls
    /// members; the others are evicted. False: somebody else joined or was evicted meanwhile, so
    /// the answer is stale and is to be asked for again.
    pub(crate) fn reopen(
        &self,
        channel: ChannelId,
        epoch: u64,
        asked: &[UserId],
        members: &[UserId],
        evictions: u64,
        now_ms: u64,
    ) -> (Turn, bool) {
        let mut turn = Turn::default();
        let mut state = self.state.lock();
        let state = &mut *state;
        let entry = match state.channels.get(&channel) {
            Some(entry) if entry.epoch == epoch && entry.gate == Gate::Held && !state.suspended => {
                entry
            }
            // Opened, closed, or held for the lease, whose return subscribes again.
            _ => return (turn, true),
        };
        let listeners: Vec<SocketId> = entry.feed.sockets().collect();
        let joined_since = listeners.iter().any(|id| {
            state
                .sockets
                .get(id)
                .is_some_and(|entry| !asked.contains(&entry.user))
        });
        if joined_since || self.evictions() != evictions {
            return (turn, false);
        }
        for user in asked.iter().filter(|user| !members.contains(user)) {
            self.evictions.fetch_add(1, Ordering::Release);
            state.evict(channel, *user, now_ms, &mut turn);
        }
        state.with_feed(channel, now_ms, &mut turn, |channel, out| {
            channel.gate = Gate::Open;
            channel.members.extend(members.iter().copied());
            channel.feed.subscribed(out);
        });
        for id in listeners {
            state.with_feed(channel, now_ms, &mut turn, |channel, out| {
                channel.feed.room(id, out)
            });
        }
        (turn, true)
    }

    /// The sweep found the head of the channel with this number above its horizon, twice.
    pub(crate) fn on_head(&self, number: i64, head: Seq, now_ms: u64, turn: &mut Turn) {
        let mut state = self.state.lock();
        let Some(channel) = state.channel_of(number).map(|(id, _)| id) else {
            return;
        };
        state.with_feed(channel, now_ms, turn, |channel, out| {
            if channel.gate == Gate::Open {
                channel.feed.head_seen(head, out);
            }
        });
    }

    /// What the feeds did since the last call.
    pub(crate) fn take_counts(&self) -> Counts {
        std::mem::take(&mut self.state.lock().counts)
    }

    /// What is known here of the channel with this number.
    pub(crate) fn horizon_of(&self, number: i64) -> Horizon {
        let state = self.state.lock();
        match state.channel_of(number) {
            None => Horizon::NoFeed,
            Some((_, channel)) => channel.feed.horizon().map_or(Horizon::Unknown, Horizon::At),
        }
    }

    /// The store's answer to a feed's question; one to a feed that is gone is dropped. While the
    /// channel is held an answer does not count: it is asked for again.
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
                let answer = match channel.gate {
                    Gate::Open => answer,
                    Gate::Held => Err(Failure {
                        reason: "the bus was away: memberships are read again".to_owned(),
                        jitter: rand::random(),
                    }),
                };
                channel.feed.answer(request, answer, now_ms, out);
            });
        turn
    }

    /// A socket's outbox fell under half: its readers go on.
    pub(crate) fn on_room(&self, id: SocketId, now_ms: u64) -> Turn {
        let mut turn = Turn::default();
        let mut state = self.state.lock();
        let channels = state
            .sockets
            .get(&id)
            .map(|entry| entry.channels.clone())
            .unwrap_or_default();
        for channel in channels {
            state.with_feed(channel, now_ms, &mut turn, |channel, out| {
                if channel.gate == Gate::Open {
                    channel.feed.room(id, out);
                }
            });
        }
        turn
    }

    /// Contract P8: `user` gets nothing more of `channel`, and no cache calls them a member.
    /// Returns how many of their sockets listened.
    pub(crate) fn evict(&self, channel: ChannelId, user: UserId, now_ms: u64) -> (Turn, u64) {
        let mut turn = Turn::default();
        let mut state = self.state.lock();
        self.evictions.fetch_add(1, Ordering::Release);
        let listening = state.evict(channel, user, now_ms, &mut turn);
        (turn, listening)
    }

    /// What time does: joins without an answer, channels without listeners, questions to be asked
    /// again, `synced` without a ride. Called every 100 ms or so.
    pub(crate) fn tick(&self, now_ms: u64, unsubscribe: impl Fn(BusChannel)) -> Turn {
        let mut turn = Turn::default();
        let mut state = self.state.lock();
        let state = &mut *state;
        let mut late = Vec::new();
        for (id, entry) in &mut state.sockets {
            if entry.joins.iter().any(|join| join.deadline_ms <= now_ms) {
                late.extend(
                    entry
                        .joins
                        .iter()
                        .filter(|j| j.deadline_ms <= now_ms)
                        .map(|j| (*id, j.channel)),
                );
            }
        }
        for (id, channel) in late {
            let owed = state.sockets.get_mut(&id).and_then(|entry| {
                let at = entry
                    .joins
                    .iter()
                    .position(|join| join.channel == channel)?;
                Some((Arc::clone(&entry.socket), entry.joins.remove(at).id))
            });
            state.leave(id, channel, now_ms, &mut turn);
            if let Some((socket, Some(request))) = owed {
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
        for id in std::mem::take(&mut state.synced) {
            if let Some(entry) = state.sockets.get(&id) {
                entry.socket.with_outbox(|outbox| outbox.flush_synced());
                if !entry.socket.mark_dirty() {
                    turn.dirty.push(Arc::clone(&entry.socket));
                }
            }
        }
        state.channels.retain(|id, channel| {
            let lingered = channel.listeners == 0
                && channel
                    .empty_since_ms
                    .is_some_and(|since| since + LINGER_MS <= now_ms);
            if lingered {
                state.retrying.remove(id);
                unsubscribe(BusChannel::Channel(*id));
            }
            !lingered
        });
        turn
    }

    /// Every socket, with when its token expires (seconds since 1970).
    pub(crate) fn all_sockets(&self) -> Vec<(Arc<Socket>, i64)> {
        let state = self.state.lock();
        state
            .sockets
            .values()
            .map(|e| (Arc::clone(&e.socket), e.expires_at_s))
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
        let devices: HashSet<&DeviceId> = state.sockets.values().map(|e| &e.device).collect();
        serde_json::json!({
            "sockets": state.sockets.len(),
            "users": state.user_id_to_sockets.len(),
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
                    .get(&entry.user)
                    .is_some_and(|all| all.contains(id)),
                "socket {id:?} is not among those of its user"
            );
            for channel in &entry.channels {
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
        let of_users: usize = state.user_id_to_sockets.values().map(Vec::len).sum();
        assert_eq!(of_users, state.sockets.len(), "sockets by user");
    }
}

fn add(sum: &mut Counts, more: Counts) {
    sum.repeated += more.repeated;
    sum.resent += more.resent;
    sum.unkept += more.unkept;
    sum.repaired += more.repaired;
    sum.behind_at_subscribe += more.behind_at_subscribe;
    sum.behind_at_sweep += more.behind_at_sweep;
    sum.merged += more.merged;
    sum.detached += more.detached;
    sum.unrecovered += more.unrecovered;
    sum.failed += more.failed;
}

impl Turn {
    /// Adds what another turn left to be done.
    pub(crate) fn merge(&mut self, other: Self) {
        self.dirty.extend(other.dirty);
        self.requests.extend(other.requests);
    }
}

/// A socket's place in the hub: taken at once, given back when this is dropped.
#[derive(Debug)]
pub(crate) struct Registration {
    edge: Arc<Edge>,
    id: SocketId,
}

impl Registration {
    /// Registers a socket. The oldest socket of a user with too many is asked to close.
    pub(crate) fn new(edge: Arc<Edge>, socket: &Arc<Socket>, identity: &Identity) -> Self {
        edge.hub
            .register(socket, identity, edge.config.max_sockets_per_user);
        Self {
            id: socket.id,
            edge,
        }
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let turn = self.edge.hub.unregister(self.id, self.edge.now_ms());
        self.edge.perform(turn);
        self.edge.unregistered.notify_one();
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
