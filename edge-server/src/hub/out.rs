//! The sockets as a feed sees them.

use std::sync::Arc;

use bytes::Bytes;
use hubbub_mutant::{Mutant, planted};
use hubbub_protocol::{
    ChannelId, CloseCode, JoinReply, Joined, Seq, ServerFrame, replay_frame, reply_ok, synced_frame,
};

use super::{
    serial::{BySocketId, SocketIds},
    state::Entry,
};
use crate::{
    feed::{Burst, Outboxes, SocketId},
    outbox::Outbox,
    socket::{Socket, Written},
    wire::text_frame,
};

/// The sockets as a feed sees them.
pub(super) struct Out<'a> {
    pub(super) channel: ChannelId,
    pub(super) sockets: &'a mut BySocketId<Entry>,
    pub(super) synced: &'a mut SocketIds,
    pub(super) dirty: &'a mut Vec<Arc<Socket>>,
    /// The last `synced`, encoded: all attached sockets are told the same.
    pub(super) encoded: Option<(Seq, Bytes)>,
    /// The clock, if nothing more comes in this turn that could share a write with a burst: it is
    /// written at once, while what belongs to the socket is at hand.
    pub(super) at_once_ms: Option<u64>,
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

    fn write_past(&self, socket: SocketId, burst: &Burst) -> Written {
        let Some(now_ms) = self.at_once_ms else {
            return Written::Nothing;
        };
        let Some(entry) = self.sockets.get(&socket) else {
            return Written::Nothing;
        };
        entry.socket.write_past(self.channel, burst, now_ms)
    }

    /// Offers so many frames; `f` gives how many of them the outbox took.
    fn give(
        &mut self,
        socket: SocketId,
        frames: usize,
        f: impl FnOnce(&mut Outbox) -> usize,
    ) -> usize {
        let Some(entry) = self.sockets.get(&socket) else {
            return frames;
        };
        // The wish for room is noted under the outbox's lock: a flush on another thread either
        // sees it or has made the room before.
        let taken = entry.socket.with_outbox(|outbox| {
            let taken = f(outbox);
            if taken < frames {
                entry.socket.want_room();
            }
            taken
        });
        if taken > 0 && !entry.socket.mark_dirty() {
            self.dirty.push(Arc::clone(&entry.socket));
        }
        taken
    }
}

impl Outboxes for Out<'_> {
    fn offer(&mut self, socket: SocketId, frame: &Bytes) -> bool {
        let channel = self.channel;
        self.give(socket, 1, |outbox| {
            usize::from(outbox.offer_record(channel, frame))
        }) == 1
    }

    fn offer_all(&mut self, socket: SocketId, burst: &Burst) -> usize {
        let channel = self.channel;
        let frames = burst.frames().len();
        match self.write_past(socket, burst) {
            Written::Nothing => {}
            Written::Whole => return frames,
            Written::Part => {
                self.touch(socket, |_| {});
                return frames;
            }
        }
        self.give(socket, frames, |outbox| outbox.offer_burst(channel, burst))
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
        let Some(join) = entry.holder.take_join_of(reply.channel) else {
            return;
        };
        if let Some(with) = join.by_edge {
            let joined = Joined {
                channel: reply.channel,
                head: reply.head,
                with: Some(with),
            };
            let frame = ServerFrame::encode_tagged("joined", &joined);
            return self.touch(socket, |socket| socket.push_text(&frame));
        }
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
        if planted(Mutant::M18) {
            // As a frame like any other, so that what is behind it stays behind it.
            let frame = synced_frame(channel, seq);
            return self.touch(socket, |socket| socket.push_text(&frame));
        }
        let frame = match &self.encoded {
            Some((of, frame)) if *of == seq => frame,
            _ => {
                let frame = text_frame(synced_frame(channel, seq).as_bytes());
                &self.encoded.insert((seq, frame)).1
            }
        };
        if let Some(entry) = self.sockets.get(&socket) {
            entry
                .socket
                .with_outbox(|outbox| outbox.set_synced(channel, seq, frame));
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
