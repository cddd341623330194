//! The maps, and what is done to them under the lock.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
};

use hubbub_protocol::{
    ChannelId, DeviceId, ErrorBody, ErrorCode, RequestId, Seq, UserId, left_frame, reply_error,
};
use rustc_hash::FxHashSet;
use smallvec::SmallVec;
use thin_vec::ThinVec;

use lru::LruCache;

use super::{
    Turn,
    out::Out,
    people::Person,
    serial::{BySocketId, SocketIds},
};
use crate::{
    feed::{Counts, Feed, Limits, SocketId},
    people::{marks::Marks, typing::TypingRate, watches::Watches},
    socket::Socket,
};

/// Whether a channel's feed may reach its sockets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Gate {
    /// It may.
    Open,
    /// The bus was away: the memberships are read again before anything is relayed, since a
    /// removal may have gone past this pod.
    Held,
}

#[derive(Debug)]
pub(super) struct PendingJoin {
    pub(super) channel: ChannelId,
    pub(super) id: Option<RequestId>,
    /// The edge joined by itself, to a direct channel with this user: told by `joined`.
    pub(super) by_edge: Option<UserId>,
    pub(super) deadline_ms: u64,
}

/// A socket of this pod. Small, since the map of them is looked up for every delivery.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) socket: Arc<Socket>,
    pub(super) holder: Box<Holder>,
}

/// Who holds a socket, and what it listens to. Lists that are empty as a rule take a word.
#[derive(Debug)]
pub(super) struct Holder {
    pub(super) user: UserId,
    pub(super) device: DeviceId,
    pub(super) expires_at_s: i64,
    pub(super) channels: Vec<ChannelId>,
    pub(super) joins: ThinVec<PendingJoin>,
    /// The first of `channels` that has not had its turn at this socket's room.
    pub(super) next_room: usize,
    /// The edge joins it to the direct channels of its user.
    pub(super) direct: bool,
    /// Direct channels that the client left, the oldest first; bounded.
    pub(super) left: ThinVec<ChannelId>,
    /// The client says that nobody is at the device.
    pub(super) away: bool,
}

impl Holder {
    /// Takes out the join at this place of `joins`.
    pub(super) fn take_join(&mut self, at: usize) -> PendingJoin {
        let join = self.joins.remove(at);
        self.give_back_joins();
        join
    }

    /// Takes out the join of this channel, if its answer is still owed.
    pub(super) fn take_join_of(&mut self, channel: ChannelId) -> Option<PendingJoin> {
        let at = self.joins.iter().position(|join| join.channel == channel)?;
        Some(self.take_join(at))
    }

    /// A socket joins once and listens for hours: the list's room is not kept meanwhile.
    fn give_back_joins(&mut self) {
        if self.joins.is_empty() {
            self.joins = ThinVec::new();
        }
    }
}

#[derive(Debug)]
pub(super) struct Channel {
    pub(super) feed: Feed,
    /// Tells this feed from an earlier one of the channel.
    pub(super) epoch: u64,
    pub(super) gate: Gate,
    /// Joins that came while it was held. Their memberships were read, but who was removed since
    /// is known only when it opens: until then they get nothing, not even a reply.
    pub(super) held: BySocketId<HeldJoin>,
    /// Users that the primary called members since the feed opened; evictions take them out.
    pub(super) members: HashSet<UserId>,
    pub(super) listeners: usize,
    pub(super) empty_since_ms: Option<u64>,
}

#[derive(Debug)]
pub(super) struct HeldJoin {
    pub(super) since: Option<Seq>,
    pub(super) ordered: bool,
}

impl Channel {
    /// A member's socket joins: now, or when the channel is open.
    pub(super) fn join(&mut self, socket: SocketId, join: HeldJoin, out: &mut Out<'_>) {
        if self.gate == Gate::Held {
            // A second join replaces the first.
            self.feed.leave(socket, out);
            self.held.insert(socket, join);
        } else {
            self.feed.join(socket, join.since, join.ordered, out);
        }
    }

    pub(super) fn leave(&mut self, socket: SocketId, out: &mut Out<'_>) {
        self.held.remove(&socket);
        self.feed.leave(socket, out);
    }

    /// The memberships were read again, and whoever is none has left.
    pub(super) fn open(&mut self, members: HashSet<UserId>, out: &mut Out<'_>) {
        self.gate = Gate::Open;
        self.members = members;
        self.feed.subscribed(out);
        for (socket, join) in std::mem::take(&mut self.held) {
            self.feed.join(socket, join.since, join.ordered, out);
        }
    }

    /// The sockets that listen to it, or are about to.
    pub(super) fn sockets(&self) -> impl Iterator<Item = SocketId> + '_ {
        self.feed.sockets().chain(self.held.keys().copied())
    }
}

pub(super) struct State {
    /// Looked up for every delivery.
    pub(super) sockets: BySocketId<Entry>,
    pub(super) user_id_to_sockets: HashMap<UserId, SmallVec<[SocketId; 2]>>,
    /// Users with sockets, and those who had some a moment ago.
    pub(super) people: HashMap<UserId, Person>,
    pub(super) watches: Watches,
    pub(super) marks: Marks,
    pub(super) typing: TypingRate,
    /// Members by the store's word, beside those that open feeds vouch for; evictions take them
    /// out, and a loss of the bus or of the lease takes all.
    pub(super) vouched: LruCache<(ChannelId, UserId), ()>,
    /// Boxed: a table that has grown is half empty, and a feed is large.
    pub(super) channels: HashMap<ChannelId, Box<Channel>>,
    /// Sockets that were given a `synced` since the last tick; it waits for a write to ride on.
    pub(super) synced: SocketIds,
    /// Those of the tick before: what still waits gets a write of its own at the next one.
    pub(super) synced_due: Vec<SocketId>,
    /// Channels whose horizon has moved since the last tick: their sockets are told at the next
    /// one, once for all that came in between. The store gives channels their ids, so nobody can
    /// choose them to collide: a quick hash will do.
    pub(super) untold: FxHashSet<ChannelId>,
    /// Channels whose feed has a question to ask again later.
    pub(super) retrying: HashSet<ChannelId>,
    /// Sockets some of whose channels have not had their turn at the room in the outbox.
    pub(super) waits_for_room: SocketIds,
    /// Joins in the order of their deadlines; one that was answered since is passed over.
    pub(super) deadlines: VecDeque<(u64, SocketId, ChannelId)>,
    /// Channels whose last listener left, in that order; one that has listeners again, or lost its
    /// last one later, is passed over. So a tick costs nothing for the channels that stay open.
    pub(super) emptied: VecDeque<(u64, ChannelId)>,
    pub(super) limits: Limits,
    pub(super) counts: Counts,
    pub(super) next_epoch: u64,
    /// There is no lease: everything is held until it is there.
    pub(super) suspended: bool,
    /// Channels whose listeners have changed; `None` while nobody watches the dashboard.
    pub(super) changed_loads: Option<FxHashSet<ChannelId>>,
    /// Planted mistake M9: when, and who.
    #[cfg(feature = "mutants")]
    pub(super) late_evictions: VecDeque<(u64, ChannelId, UserId)>,
}

impl State {
    /// Runs `f` on a channel's feed with the sockets beside it, then lets the feed serve what it
    /// has in memory, and collects what it asks of the store. The lease has been checked.
    pub(super) fn with_feed<T>(
        &mut self,
        channel: ChannelId,
        now_ms: u64,
        turn: &mut Turn,
        f: impl FnOnce(&mut Channel, &mut Out<'_>) -> T,
    ) -> Option<T> {
        self.with_feed_unserved(channel, now_ms, turn, |channel, out| {
            let result = f(channel, out);
            // Under the terms of an answer of the store.
            if channel.gate == Gate::Open {
                channel.feed.serve_from_tail(out);
            }
            result
        })
    }

    /// The same where the lease was not looked at: nobody is served.
    fn with_feed_unserved<T>(
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
            encoded: None,
            at_once_ms: None,
        };
        let result = f(entry, &mut out);
        // A held channel asks nothing: no answer could be used.
        while entry.gate == Gate::Open
            && let Some(request) = entry.feed.next_request(now_ms, &out)
        {
            turn.requests.push((channel, request));
        }
        self.counts += entry.feed.take_counts();
        if entry.feed.next_due_ms().is_some() {
            self.retrying.insert(channel);
        } else {
            self.retrying.remove(&channel);
        }
        if entry.feed.is_untold() {
            self.untold.insert(channel);
        }
        Some(result)
    }

    /// The channel of a shard's key.
    pub(super) fn channel_of(&self, key: i64) -> Option<(ChannelId, &Channel)> {
        let id = ChannelId::from_shard_key(key)?;
        self.channels.get(&id).map(|channel| (id, &**channel))
    }

    pub(super) fn leave(
        &mut self,
        id: SocketId,
        channel: ChannelId,
        now_ms: u64,
        turn: &mut Turn,
    ) -> bool {
        let Some(entry) = self.sockets.get_mut(&id) else {
            return false;
        };
        let Some(at) = entry.holder.channels.iter().position(|c| *c == channel) else {
            return false;
        };
        entry.holder.channels.swap_remove(at);
        entry.holder.joins.retain(|join| join.channel != channel);
        entry.holder.give_back_joins();
        let emptied = self.with_feed_unserved(channel, now_ms, turn, |channel, out| {
            channel.leave(id, out);
            channel.listeners -= 1;
            if channel.listeners == 0 {
                channel.empty_since_ms = Some(now_ms);
            }
            channel.listeners == 0
        });
        if emptied == Some(true) {
            self.emptied.push_back((now_ms, channel));
        }
        self.note_load(channel);
        true
    }

    pub(super) fn evict(
        &mut self,
        channel: ChannelId,
        user: UserId,
        now_ms: u64,
        turn: &mut Turn,
    ) -> u64 {
        if let Some(channel) = self.channels.get_mut(&channel) {
            channel.members.remove(&user);
        }
        self.forget_member(channel, user);
        let mut listening = 0;
        for id in self
            .user_id_to_sockets
            .get(&user)
            .cloned()
            .unwrap_or_default()
        {
            let owed = self
                .sockets
                .get_mut(&id)
                .and_then(|entry| entry.holder.take_join_of(channel)?.id);
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
