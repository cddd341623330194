//! The outboxes of the model: bounded, drained at random speeds, lost with their connection.

use std::collections::VecDeque;

use bytes::Bytes;
use hubbub_protocol::{ChannelId, CloseCode, JoinReply, Seq};

use crate::feed::{
    Outboxes, SocketId,
    rule::{self, Rule},
};

use super::store::{CHANNELS, LONGEST, PARTITIONS, channel_of, partition_of};

const BYTES: usize = CHANNELS * (LONGEST + 1) * 2;
/// The frames are slices of it: two bytes, channel and seq.
static FRAMES: [u8; BYTES] = frames();

#[expect(clippy::cast_possible_truncation, reason = "both are far below 256")]
const fn frames() -> [u8; BYTES] {
    let mut bytes = [0; BYTES];
    let mut at = 0;
    while at < BYTES / 2 {
        bytes[2 * at] = (at / (LONGEST + 1)) as u8;
        bytes[2 * at + 1] = (at % (LONGEST + 1)) as u8;
        at += 1;
    }
    bytes
}

pub(super) fn frame_bytes(channel: usize, seq: Seq) -> Bytes {
    let at = 2 * (channel * (LONGEST + 1) + usize::try_from(seq.0).expect("small"));
    Bytes::from_static(&FRAMES[at..at + 2])
}

/// What the edge was doing when a frame was offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    /// A page for readers was answered.
    Page,
    /// Everything else: live messages and repairs, whose ids the feed has seen.
    Feed,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Item {
    Frame(Seq, Cause),
    Reply {
        head: Option<Seq>,
        recovered: bool,
        /// The join had no `since`.
        fresh: bool,
        /// Which join of the channel on this connection it answers.
        join: u32,
    },
    Replay(Seq),
    Synced(Seq),
}

#[derive(Debug)]
pub(super) struct Outbox {
    pub(super) edge: usize,
    pub(super) client: usize,
    pub(super) open: bool,
    capacity: usize,
    /// `synced` frames wait outside until the next write, room or not, and go behind what is there.
    rides: bool,
    queue: VecDeque<(usize, Item)>,
    /// `synced` frames that found it full, one a channel, with the number of their join.
    outside: Vec<(usize, Seq, u32)>,
    /// The `since` of the last join of each channel.
    pub(super) since: [Option<Seq>; CHANNELS],
    /// Joins so far, by channel.
    pub(super) joins: [u32; CHANNELS],
}

#[derive(Debug, Default)]
pub(super) struct Sockets {
    pub(super) all: Vec<Outbox>,
    pub(super) cause: Option<Cause>,
    /// As the store has them now.
    pub(super) heads: [Seq; CHANNELS],
    /// Whether a store request of this edge's feed has failed, by edge and channel.
    pub(super) failed: Vec<[bool; CHANNELS]>,
    /// The messages in the log, by partition and offset.
    pub(super) numbers: [Vec<u16>; PARTITIONS],
    /// Messages whose row an open feed has delivered for its horizon, by edge and channel: it must
    /// not show a copy of them any more. `None` = it may have forgotten.
    pub(super) advanced: Option<Vec<[Vec<u16>; CHANNELS]>>,
    /// Sockets that a feed has closed and the edge has not dealt with.
    pub(super) closed: Vec<SocketId>,
    pub(super) violation: Option<String>,
}

impl Sockets {
    pub(super) fn connect(
        &mut self,
        edge: usize,
        client: usize,
        capacity: usize,
        rides: bool,
    ) -> SocketId {
        self.all.push(Outbox {
            edge,
            client,
            open: true,
            capacity,
            rides,
            queue: VecDeque::new(),
            outside: Vec::new(),
            since: [None; CHANNELS],
            joins: [0; CHANNELS],
        });
        SocketId(self.all.len() as u64 - 1)
    }

    pub(super) fn get(&mut self, socket: SocketId) -> &mut Outbox {
        &mut self.all[usize::try_from(socket.0).expect("small")]
    }

    fn look(&self, socket: SocketId) -> &Outbox {
        &self.all[usize::try_from(socket.0).expect("small")]
    }

    /// The feed is gone.
    pub(super) fn forget(&mut self, edge: usize, channel: usize) {
        self.failed[edge][channel] = false;
        if let Some(advanced) = &mut self.advanced {
            advanced[edge][channel].clear();
        }
    }

    fn violated(&mut self, what: String) {
        self.violation.get_or_insert(what);
    }

    fn put(&mut self, socket: SocketId, channel: ChannelId, item: Item) {
        let outbox = self.get(socket);
        if !outbox.open {
            return;
        }
        outbox.queue.push_back((channel_of(channel.number()), item));
        // A reply and its `replay` are the client's own doing; the others are bounded.
        let reply = |(_, item): &&(usize, Item)| matches!(item, Item::Reply { .. });
        let replies = outbox.queue.iter().filter(reply).count();
        if outbox.queue.len() > outbox.capacity + 2 * replies + 3 * CHANNELS {
            self.violated(format!("{socket:?}: the outbox is far above its bound"));
        }
    }
}

impl Outbox {
    fn is_full(&self) -> bool {
        self.queue.len() >= self.capacity
    }

    fn is_under_half(&self) -> bool {
        2 * self.queue.len() < self.capacity
    }

    /// The client takes the first frame; whether the outbox fell under half by that.
    pub(super) fn take(&mut self) -> Result<Option<(usize, Item, bool)>, String> {
        let was = self.is_under_half();
        let waits = if self.rides { self.outside.len() } else { 0 };
        for (channel, seq, join) in self.outside.drain(..waits) {
            if join != self.joins[channel] {
                return Err(format!("synced {seq:?} of an earlier join"));
            }
            self.queue.push_back((channel, Item::Synced(seq)));
        }
        let Some((channel, item)) = self.queue.pop_front() else {
            return Ok(None);
        };
        while !self.is_full() && !self.outside.is_empty() {
            let (channel, seq, join) = self.outside.remove(0);
            if join != self.joins[channel] {
                return Err(format!("synced {seq:?} of an earlier join"));
            }
            self.queue.push_back((channel, Item::Synced(seq)));
        }
        Ok(Some((channel, item, !was && self.is_under_half())))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty() && self.outside.is_empty()
    }
}

impl Outboxes for Sockets {
    fn offer(&mut self, socket: SocketId, frame: &Bytes) -> bool {
        let cause = self.cause.unwrap_or(Cause::Feed);
        let outbox = self.get(socket);
        if !outbox.open {
            return true;
        }
        if outbox.is_full() {
            return false;
        }
        let (channel, seq) = (usize::from(frame[0]), Seq(u64::from(frame[1])));
        outbox.queue.push_back((channel, Item::Frame(seq, cause)));
        let edge = outbox.edge;
        let number = self.numbers[partition_of(channel)][usize::from(frame[1]) - 1];
        if cause == Cause::Feed
            && let Some(advanced) = &self.advanced
            && advanced[edge][channel].contains(&number)
        {
            self.violated(format!(
                "A3: copy {seq:?} of a row that the feed has delivered"
            ));
        }
        true
    }

    fn under_half(&self, socket: SocketId) -> bool {
        let outbox = self.look(socket);
        !outbox.open || outbox.is_under_half()
    }

    fn joined(&mut self, socket: SocketId, reply: JoinReply) {
        let channel = channel_of(reply.channel.number());
        let outbox = self.look(socket);
        let ahead = outbox.since[channel] > Some(self.heads[channel]);
        let excused = ahead || self.failed[outbox.edge][channel];
        let unexcused = outbox.open && !reply.recovered && !excused;
        let item = Item::Reply {
            head: reply.head,
            recovered: reply.recovered,
            fresh: outbox.since[channel].is_none(),
            join: outbox.joins[channel],
        };
        if unexcused {
            self.violated(format!("{socket:?}: recovered:false without a reason"));
        }
        self.put(socket, reply.channel, item);
    }

    fn replay(&mut self, socket: SocketId, channel: ChannelId, since: Seq) {
        self.put(socket, channel, Item::Replay(since));
    }

    fn synced(&mut self, socket: SocketId, channel: ChannelId, seq: Seq) {
        let channel = channel_of(channel.number());
        let head = self.heads[channel];
        let outbox = self.get(socket);
        if !outbox.open {
            return;
        }
        outbox.outside.retain(|(c, ..)| *c != channel);
        if !rule::holds(Rule::SyncedIsNeverAhead) {
            outbox.queue.push_front((channel, Item::Synced(seq)));
        } else if outbox.is_full() || outbox.rides {
            outbox.outside.push((channel, seq, outbox.joins[channel]));
        } else {
            outbox.queue.push_back((channel, Item::Synced(seq)));
        }
        if seq > head {
            self.violated(format!(
                "{socket:?}: synced {seq:?} above the head {head:?}"
            ));
        }
    }

    fn drop_synced(&mut self, socket: SocketId, channel: ChannelId) {
        let channel = channel_of(channel.number());
        self.get(socket).outside.retain(|(c, ..)| *c != channel);
    }

    fn close(&mut self, socket: SocketId, _why: CloseCode) {
        self.closed.push(socket);
    }
}
