use bytes::Bytes;
use hubbub_protocol::{ChannelId, CloseCode, JoinReply, MessageKey, Seq};

use super::Burst;

/// One WebSocket of this pod; never used again while the process lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SocketId(pub u64);

/// A record of the channel as it goes to sockets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Where it is in the channel.
    pub seq: Seq,
    /// Who sent it under which id.
    pub key: MessageKey,
    /// The encoded WebSocket frame (header and JSON), shared by all sockets.
    pub bytes: Bytes,
}

/// The outboxes of the pod's sockets, as a feed sees them: all in memory, nothing waits.
///
/// After an `offer` or an `under_half` that was false the feed waits for
/// [`Feed::room`](super::Feed::room), which is called once the outbox is under half: if outboxes
/// are drained by other threads, the note that a feed waits is made under the outbox's own lock,
/// in the same step. A socket that is closing may refuse everything, or take everything and lose
/// it; the feed is told of its end by `leave`.
pub trait Outboxes {
    /// Queues the frame; `false` = no room, nothing was queued. An outbox that is under half has
    /// room for at least one frame.
    fn offer(&mut self, socket: SocketId, frame: &Bytes) -> bool;

    /// Queues the frames in their order; gives how many there was room for. The others were not
    /// queued, as after an [`Self::offer`] that was false.
    fn offer_all(&mut self, socket: SocketId, burst: &Burst) -> usize {
        let frames = burst.frames().iter();
        frames.take_while(|frame| self.offer(socket, frame)).count()
    }

    /// Whether the outbox is less than half full, in bytes and in frames.
    fn under_half(&self, socket: SocketId) -> bool;

    /// Queues the reply to the socket's last `join` of this channel, in order with the offers.
    /// Always accepted (a join is answered once, so it is bounded).
    fn joined(&mut self, socket: SocketId, reply: JoinReply);

    /// Queues `replay{channel, since}` in order with the offers. Always accepted: there is at most
    /// one for each refused offer, join or page.
    fn replay(&mut self, socket: SocketId, channel: ChannelId, since: Seq);

    /// Queues `synced{channel, seq}` behind what is queued. Without room it waits outside the
    /// outbox, the newest per channel, and is put behind what is in it once there is room, before
    /// anything else is taken; never ahead of anything.
    fn synced(&mut self, socket: SocketId, channel: ChannelId, seq: Seq);

    /// Forgets a `synced` of the channel that waits outside the outbox (leave, or a second join).
    fn drop_synced(&mut self, socket: SocketId, channel: ChannelId);

    /// Closes the socket: the feed has forgotten it and cannot serve it. The caller still calls
    /// `leave` on the socket's other feeds.
    fn close(&mut self, socket: SocketId, why: CloseCode);
}
