use hubbub_protocol::{ChannelId, Seq, Stored};

use super::{Answer, Failure, Frame, Limits, Outboxes, Request, SocketId};

/// What a feed did since it was last asked; for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Live messages dropped because the horizon or `recent` has their seq.
    pub repeated: u64,
    /// Live messages dropped because their (sender, id) is known: a resend.
    pub resent: u64,
    /// Live messages kept without their frame: the bytes bound was reached.
    pub unkept: u64,
    /// Rows given to attached sockets by a repair.
    pub repaired: u64,
    /// Heads above the horizon found by a head read (a subscribe confirmation).
    pub behind_at_subscribe: u64,
    /// Heads above the horizon found by the sweep.
    pub behind_at_sweep: u64,
    /// `waiting` was full and became one range.
    pub merged: u64,
    /// Attached sockets that refused a frame and went back to reading.
    pub detached: u64,
    /// Joins answered `recovered:false`.
    pub unrecovered: u64,
    /// Requests to the store that failed.
    pub failed: u64,
}

/// The feed of one channel.
#[derive(Debug)]
pub struct Feed {}

impl Feed {
    /// A feed that waits for its first subscribe confirmation.
    pub fn new(_channel: ChannelId, _limits: Limits) -> Self {
        todo!()
    }

    /// SUBSCRIBE was confirmed (the first time, or again after a disconnection, a failed probe or
    /// a full inbox). A head read that was taken before does not count any more.
    pub fn subscribed<O: Outboxes>(&mut self, _out: &mut O) {
        todo!()
    }

    /// A live record came from the bus.
    pub fn message<O: Outboxes>(&mut self, _frame: Frame, _out: &mut O) {
        todo!()
    }

    /// The consumer's announcement came from the bus.
    pub fn stored<O: Outboxes>(&mut self, _stored: Stored, _out: &mut O) {
        todo!()
    }

    /// The sweep found the head above the horizon, 300 ms ago and still.
    pub fn head_seen<O: Outboxes>(&mut self, _head: Seq, _out: &mut O) {
        todo!()
    }

    /// A socket joins; its membership has been checked. A second join replaces the first.
    pub fn join<O: Outboxes>(
        &mut self,
        _socket: SocketId,
        _since: Option<Seq>,
        _ordered: bool,
        _out: &mut O,
    ) {
        todo!()
    }

    /// A socket leaves or is gone; nothing of the channel is given to it any more. An unanswered
    /// join is never answered. One that never joined is no error.
    pub fn leave<O: Outboxes>(&mut self, _socket: SocketId, _out: &mut O) {
        todo!()
    }

    /// The outbox of a socket fell under half. A socket that is not reading is no error.
    pub fn room<O: Outboxes>(&mut self, _socket: SocketId, _out: &mut O) {
        todo!()
    }

    /// What the store said to the request with this id. An id that is not in flight is ignored.
    pub fn answer<O: Outboxes>(
        &mut self,
        _id: u64,
        _answer: Result<Answer, Failure>,
        _now_ms: u64,
        _out: &mut O,
    ) {
        todo!()
    }

    /// The next request for the store, to be performed now; at most two are in flight, one of the
    /// feed itself and one page for its readers.
    pub fn next_request<O: Outboxes>(&mut self, _now_ms: u64, _out: &O) -> Option<Request> {
        todo!()
    }

    /// When a request that failed is to be tried again: call [`Self::next_request`] then.
    pub fn next_due_ms(&self) -> Option<u64> {
        todo!()
    }

    /// The seq through which everything has been delivered; `None` until the head was read.
    pub fn horizon(&self) -> Option<Seq> {
        todo!()
    }

    /// Whether it has no sockets.
    pub fn is_idle(&self) -> bool {
        todo!()
    }

    /// The sockets that joined, in any order.
    pub fn sockets(&self) -> impl Iterator<Item = SocketId> + '_ {
        std::iter::empty()
    }

    /// How many sockets joined.
    pub fn len(&self) -> usize {
        todo!()
    }

    /// What happened since the last call.
    pub fn take_counts(&mut self) -> Counts {
        todo!()
    }

    /// Checks what must hold between any two calls; `Err` names what does not.
    pub fn check_invariants(&self) -> Result<(), String> {
        todo!()
    }
}
