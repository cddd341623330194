//! What waits to be written on one socket: shared frames, bounded, never dropped from the middle.
//!
//! Pure: the socket (`socket.rs`) writes what is here into the kernel.

use std::{collections::VecDeque, io::IoSlice};

use bytes::Bytes;
use hubbub_mutant::{Mutant, planted};
use hubbub_protocol::{ChannelId, Seq, ServerFrame, UserPresence};
use thin_vec::ThinVec;

use crate::{
    feed::Burst,
    wire::{frame_length, text_frame},
};

/// Bytes of records that may wait (contract P10).
pub(crate) const OUTBOX_BYTES: usize = 1024 * 1024;
/// Records that may wait.
pub(crate) const OUTBOX_FRAMES: usize = 256;
/// Bytes of replies and control frames that may wait beside them before the connection stops
/// reading requests.
pub(crate) const CONTROL_BYTES: usize = 64 * 1024;
/// Pieces given to the kernel in one call.
const SLICES: usize = 64;

/// Frames and bytes of records that may wait. For the mistakes that show only at the bound it is a
/// small one, which every burst reaches.
fn bounds() -> (usize, usize) {
    let at_the_bound = [
        Mutant::M10,
        Mutant::RefusedIsDetached,
        Mutant::ReaderGetsNoLive,
    ];
    if at_the_bound.into_iter().any(planted) {
        (16, 64 * 1024)
    } else {
        (OUTBOX_FRAMES, OUTBOX_BYTES)
    }
}

#[derive(Debug)]
struct Entry {
    bytes: Bytes,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// So many records of a channel, one behind the other: they count against the bound, and go
    /// when their reader is evicted.
    Records(ChannelId, u32),
    /// A `synced`: says that what was queued before it has been given, so it goes with that.
    Synced(ChannelId),
    /// A reply or another control frame.
    Control,
}

impl Entry {
    /// Drops the records that the kernel has nothing of; gives their number and their bytes. What
    /// it has in part is finished: half a frame would break the connection.
    fn cut(&mut self, written: usize) -> (usize, usize) {
        let Kind::Records(channel, records @ 2..) = self.kind else {
            return (0, 0);
        };
        let (mut begun, mut end) = (0, 0);
        while begun < records
            && end < written
            && let Some(length) = frame_length(&self.bytes[end..])
        {
            begun += 1;
            end += length;
        }
        let dropped = self.bytes.len() - end;
        self.bytes.truncate(end);
        self.kind = Kind::Records(channel, begun);
        ((records - begun) as usize, dropped)
    }
}

#[derive(Debug)]
struct Synced {
    channel: ChannelId,
    seq: Seq,
    /// Shared by all sockets that are told the same.
    frame: Bytes,
}

/// The queue of one socket. Lists that are empty in a quiet one take a word.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    entries: VecDeque<Entry>,
    /// Bytes of the first entry that the kernel has already.
    written: usize,
    record_bytes: usize,
    record_frames: usize,
    control_bytes: usize,
    /// The newest `synced` of each channel. It goes behind everything that waits when there is a
    /// write anyway: at once with a reply, and with records once it is due.
    synced: ThinVec<Synced>,
    /// A `synced` has waited since the last tick of the wheel. In a busy channel one rides
    /// a tick, not one with each record; in a quiet one it has a write of its own at the next tick.
    synced_due: bool,
    /// Nothing has been queued since the last [`Outbox::rest`].
    rested: bool,
    /// Presence that waits for room among the replies, the newest of each watched user.
    held: ThinVec<UserPresence>,
    /// Set by a close frame: nothing may follow it (RFC 6455, 5.5.1).
    closed: bool,
    /// Records were dropped that it had taken: it takes no more, and the socket is closed.
    forsaken: bool,
}

impl Outbox {
    /// Queues a record's frame; false if there is no room, and then nothing was queued.
    pub(crate) fn offer_record(&mut self, channel: ChannelId, bytes: &Bytes) -> bool {
        if self.is_going() {
            // What is not written now comes with the resume.
            return false;
        }
        // A single frame above the bound must still pass, alone.
        let room = self.record_frames == 0 || self.has_room(1, bytes.len());
        #[cfg(feature = "mutants")]
        let room = room || (planted(Mutant::M10) && self.drop_oldest());
        if room {
            self.push_records(channel, 1, bytes);
        }
        room
    }

    /// Queues the frames of records in their order, as far as there is room; gives how many.
    pub(crate) fn offer_burst(&mut self, channel: ChannelId, burst: &Burst) -> usize {
        let mut taken = 0;
        for (bytes, frames) in burst.pieces() {
            if self.has_room(frames.len(), bytes.len()) && !self.is_going() {
                self.push_records(channel, frames.len(), bytes);
                taken += frames.len();
                continue;
            }
            let fitting = frames
                .iter()
                .take_while(|frame| self.offer_record(channel, frame))
                .count();
            taken += fitting;
            if fitting < frames.len() {
                break;
            }
        }
        taken
    }

    /// Whether a burst may be written past the outbox: nothing waits that has to be written before
    /// it or with it, and all of it would have been taken.
    pub(crate) fn may_be_passed(&self, burst: &Burst) -> bool {
        self.entries.is_empty()
            && self.held.is_empty()
            && !self.synced_rides()
            && !self.is_going()
            && self.has_room(burst.frames().len(), burst.bytes())
    }

    /// Queues records of which the kernel has taken so many bytes, less than all, past the outbox.
    pub(crate) fn push_begun(&mut self, channel: ChannelId, burst: &Burst, written: usize) {
        for (bytes, frames) in burst.pieces() {
            self.push_records(channel, frames.len(), bytes);
        }
        self.advance(written);
    }

    fn has_room(&self, frames: usize, bytes: usize) -> bool {
        let (most_frames, most_bytes) = bounds();
        self.record_frames + frames <= most_frames && self.record_bytes + bytes <= most_bytes
    }

    fn push_records(&mut self, channel: ChannelId, frames: usize, bytes: &Bytes) {
        self.record_bytes += bytes.len();
        self.record_frames += frames;
        self.rested = false;
        let frames = u32::try_from(frames).expect("a burst is bounded");
        self.entries.push_back(Entry {
            bytes: bytes.clone(),
            kind: Kind::Records(channel, frames),
        });
    }

    /// Planted mistake M10: the oldest record that is still whole makes room.
    #[cfg(feature = "mutants")]
    fn drop_oldest(&mut self) -> bool {
        let whole = usize::from(self.written > 0);
        let is_record = |entry: &Entry| matches!(entry.kind, Kind::Records(..));
        let oldest = self.entries.iter().skip(whole).position(is_record);
        let Some(entry) = oldest.and_then(|at| self.entries.remove(at + whole)) else {
            return false;
        };
        self.forget(&entry);
        true
    }

    /// Queues a reply or a control frame.
    pub(crate) fn push_control(&mut self, bytes: Bytes) {
        self.push(bytes, Kind::Control);
    }

    fn push(&mut self, bytes: Bytes, kind: Kind) {
        if !self.closed && !bytes.is_empty() {
            self.control_bytes += bytes.len();
            self.rested = false;
            self.entries.push_back(Entry { bytes, kind });
        }
    }

    /// Queues the last frame.
    pub(crate) fn push_close(&mut self, bytes: Bytes) {
        self.push_control(bytes);
        self.closed = true;
    }

    /// Whether less than half of the bound waits, and there is room for a record: readers get their
    /// next page then. Never of a socket that is going: it would be asked again for ever.
    pub(crate) fn under_half(&self) -> bool {
        let (most_frames, most_bytes) = bounds();
        !self.is_going()
            && self.record_frames < most_frames / 2
            && self.record_bytes < most_bytes / 2
    }

    fn is_going(&self) -> bool {
        self.closed || self.forsaken
    }

    /// Whether so many replies wait that no further request is read.
    pub(crate) fn control_full(&self) -> bool {
        self.control_bytes >= CONTROL_BYTES
    }

    /// Whether nothing waits, `synced` apart.
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Bytes that wait.
    pub(crate) fn bytes(&self) -> usize {
        self.record_bytes + self.control_bytes - self.written
    }

    /// Sets the channel's newest `synced`, with its frame; a cursor never goes back within one
    /// join.
    pub(crate) fn set_synced(&mut self, channel: ChannelId, seq: Seq, frame: &Bytes) {
        if self.is_going() {
            return;
        }
        self.rested = false;
        let newest = Synced {
            channel,
            seq,
            frame: frame.clone(),
        };
        match self.synced.iter_mut().find(|s| s.channel == channel) {
            Some(pending) if pending.seq >= seq => {}
            Some(pending) => *pending = newest,
            None => self.synced.push(newest),
        }
    }

    /// Forgets the channel's pending `synced` (a leave, or a second join).
    pub(crate) fn drop_synced(&mut self, channel: ChannelId) {
        self.synced.retain(|synced| synced.channel != channel);
    }

    /// Puts every pending `synced` behind what waits; with many control frames before them they
    /// wait on, the newest of each channel.
    pub(crate) fn flush_synced(&mut self) {
        if self.control_full() {
            return;
        }
        self.synced_due = false;
        let mut synced = std::mem::take(&mut self.synced);
        for Synced { channel, frame, .. } in synced.drain(..) {
            self.push(frame, Kind::Synced(channel));
        }
        // Its room is kept: the next one costs no allocation.
        self.synced = synced;
    }

    /// Tells of a watched user. With many control frames before it, it waits for room, and only
    /// the newest of each user does: a slow reader misses what lay between.
    pub(crate) fn tell(&mut self, presence: UserPresence) {
        self.flush_held();
        if self.control_full() {
            match self.held.iter_mut().find(|held| held.user == presence.user) {
                Some(held) => held.state = presence.state,
                None => self.held.push(presence),
            }
        } else {
            self.push_presence(&presence);
        }
    }

    /// Queues the presence that waits, as far as there is room.
    pub(crate) fn flush_held(&mut self) {
        while !self.control_full()
            && let Some(presence) = self.held.pop()
        {
            self.push_presence(&presence);
        }
    }

    fn push_presence(&mut self, presence: &UserPresence) {
        let frame = ServerFrame::encode_tagged("presence", presence);
        self.push_control(text_frame(frame.as_bytes()));
    }

    /// Whether a `synced` is to ride on the write that comes.
    pub(crate) fn synced_rides(&self) -> bool {
        !self.synced.is_empty() && (self.synced_due || self.control_bytes > 0)
    }

    /// A tick of the wheel: what waits now is due.
    pub(crate) fn make_synced_due(&mut self) {
        self.synced_due = !self.synced.is_empty();
    }

    /// Whether what was due at the last tick still waits: it needs a write of its own.
    pub(crate) fn synced_overdue(&self) -> bool {
        self.synced_due && !self.synced.is_empty()
    }

    /// Drops every record and `synced` of a channel that is still whole (contract P8). One that the
    /// kernel has in part is finished: half a frame would break the connection.
    pub(crate) fn purge(&mut self, channel: ChannelId) {
        self.drop_synced(channel);
        self.take_out(|kind| match kind {
            Kind::Records(of, _) | Kind::Synced(of) => of == channel,
            Kind::Control => false,
        });
    }

    /// Drops the records and `synced` of every channel; true if there was any that was still whole.
    /// Nothing that follows them may be given then, so nothing is taken any more: the socket is to
    /// be closed.
    pub(crate) fn forsake(&mut self) -> bool {
        if self.take_out(|kind| kind != Kind::Control) {
            self.synced.clear();
            self.forsaken = true;
        }
        self.forsaken
    }

    /// Takes out what is whole of these kinds; true if there was any.
    fn take_out(&mut self, goes: impl Fn(Kind) -> bool) -> bool {
        let mut half_written = self.written > 0;
        let (mut record_bytes, mut frames, mut control_bytes) = (0, 0, 0);
        self.entries.retain_mut(|entry| {
            let begun = std::mem::take(&mut half_written);
            match entry.kind {
                kind if !goes(kind) => return true,
                _ if begun => {
                    let (cut, bytes) = entry.cut(self.written);
                    frames += cut;
                    record_bytes += bytes;
                    return true;
                }
                Kind::Records(_, records) => {
                    record_bytes += entry.bytes.len();
                    frames += records as usize;
                }
                Kind::Synced(_) | Kind::Control => control_bytes += entry.bytes.len(),
            }
            false
        });
        self.record_bytes -= record_bytes;
        self.record_frames -= frames;
        self.control_bytes -= control_bytes;
        // What is left of the first may have been written to its end.
        self.advance(0);
        record_bytes + control_bytes > 0
    }

    /// The entry waits no more.
    fn forget(&mut self, entry: &Entry) {
        match entry.kind {
            Kind::Records(_, records) => {
                self.record_bytes -= entry.bytes.len();
                self.record_frames -= records as usize;
            }
            Kind::Synced(_) | Kind::Control => self.control_bytes -= entry.bytes.len(),
        }
    }

    /// The pieces of a burst, as far as one call takes them.
    pub(crate) fn slices_of<'a>(burst: &'a Burst, into: &mut [IoSlice<'a>; SLICES]) -> usize {
        let mut used = 0;
        for (slot, (bytes, _)) in into.iter_mut().zip(burst.pieces()) {
            *slot = IoSlice::new(bytes);
            used += 1;
        }
        used
    }

    /// The bytes to write next, at most as many slices as one call takes.
    pub(crate) fn slices<'a>(&'a self, into: &mut [IoSlice<'a>; SLICES]) -> usize {
        let mut used = 0;
        for (slot, entry) in into.iter_mut().zip(&self.entries) {
            let skip = if used == 0 { self.written } else { 0 };
            *slot = IoSlice::new(&entry.bytes[skip..]);
            used += 1;
        }
        used
    }

    /// What is left of the entry that waits, if it is the only one.
    pub(crate) fn only(&self) -> Option<&[u8]> {
        match self.entries.front() {
            Some(first) if self.entries.len() == 1 => Some(&first.bytes[self.written..]),
            _ => None,
        }
    }

    /// An array for [`Outbox::slices`].
    pub(crate) fn empty_slices<'a>() -> [IoSlice<'a>; SLICES] {
        [IoSlice::new(&[]); SLICES]
    }

    /// Takes note of `count` bytes that the kernel took.
    pub(crate) fn advance(&mut self, count: usize) {
        self.written += count;
        while let Some(first) = self
            .entries
            .pop_front_if(|first| self.written >= first.bytes.len())
        {
            self.written -= first.bytes.len();
            self.forget(&first);
        }
    }

    /// Gives the room of what was queued back if nothing has been queued since the last call: a
    /// busy socket keeps it and needs no allocation for a delivery, an idle one holds none. Called
    /// every few seconds.
    pub(crate) fn rest(&mut self) {
        if self.rested && self.entries.is_empty() && self.synced.is_empty() {
            self.entries = VecDeque::new();
            self.synced = ThinVec::new();
        }
        self.rested = true;
    }
}

#[cfg(test)]
mod tests;
