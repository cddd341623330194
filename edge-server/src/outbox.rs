//! What waits to be written on one socket: shared frames, bounded, never dropped from the middle.
//!
//! Pure: the socket (`socket.rs`) writes what is here into the kernel.

use std::{collections::VecDeque, io::IoSlice};

use bytes::Bytes;
use hubbub_mutant::{Mutant, planted};
use hubbub_protocol::{ChannelId, Seq, ServerFrame, UserPresence};

use crate::wire::text_frame;

/// Bytes of records that may wait (contract P10).
pub(crate) const OUTBOX_BYTES: usize = 1024 * 1024;
/// Records that may wait.
pub(crate) const OUTBOX_FRAMES: usize = 256;
/// Bytes of replies and control frames that may wait beside them before the connection stops
/// reading requests.
pub(crate) const CONTROL_BYTES: usize = 64 * 1024;
/// Frames given to the kernel in one call.
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
    /// A record of a channel: counts against the bound, and goes when its reader is evicted.
    Record(ChannelId),
    /// A `synced`: says that what was queued before it has been given, so it goes with that.
    Synced(ChannelId),
    /// A reply or another control frame.
    Control,
}

#[derive(Debug)]
struct Synced {
    channel: ChannelId,
    seq: Seq,
    /// Shared by all sockets that are told the same.
    frame: Bytes,
}

/// The queue of one socket.
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
    synced: Vec<Synced>,
    /// A `synced` has waited since before the last tick of the wheel. In a busy channel one rides
    /// a tick, not one with each record; in a quiet one it has a write of its own at the next tick.
    synced_due: bool,
    /// Nothing has been queued since the last [`Outbox::rest`].
    rested: bool,
    /// Presence that waits for room among the replies, the newest of each watched user.
    held: Vec<UserPresence>,
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
        let (most_frames, most_bytes) = bounds();
        let room = self.record_frames == 0
            || (self.record_frames < most_frames && self.record_bytes + bytes.len() <= most_bytes);
        #[cfg(feature = "mutants")]
        let room = room || (planted(Mutant::M10) && self.drop_oldest());
        if room {
            self.record_bytes += bytes.len();
            self.record_frames += 1;
            self.rested = false;
            self.entries.push_back(Entry {
                bytes: bytes.clone(),
                kind: Kind::Record(channel),
            });
        }
        room
    }

    /// Queues the frames of records in their order, as far as there is room; gives how many.
    pub(crate) fn offer_records(&mut self, channel: ChannelId, frames: &[Bytes]) -> usize {
        let taken = frames
            .iter()
            .take_while(|frame| self.offer_record(channel, frame));
        taken.count()
    }

    /// Planted mistake M10: the oldest record that is still whole makes room.
    #[cfg(feature = "mutants")]
    fn drop_oldest(&mut self) -> bool {
        let whole = usize::from(self.written > 0);
        let is_record = |entry: &Entry| matches!(entry.kind, Kind::Record(_));
        let oldest = self.entries.iter().skip(whole).position(is_record);
        let Some(entry) = oldest.and_then(|at| self.entries.remove(at + whole)) else {
            return false;
        };
        self.record_bytes -= entry.bytes.len();
        self.record_frames -= 1;
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
            Kind::Record(of) | Kind::Synced(of) => of == channel,
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

    /// Takes out the whole entries of these kinds; true if there was one.
    fn take_out(&mut self, goes: impl Fn(Kind) -> bool) -> bool {
        let mut half_written = self.written > 0;
        let (mut record_bytes, mut frames, mut control_bytes) = (0, 0, 0);
        self.entries.retain(|entry| {
            if std::mem::take(&mut half_written) {
                return true;
            }
            match entry.kind {
                kind if !goes(kind) => return true,
                Kind::Record(_) => {
                    record_bytes += entry.bytes.len();
                    frames += 1;
                }
                Kind::Synced(_) | Kind::Control => control_bytes += entry.bytes.len(),
            }
            false
        });
        self.record_bytes -= record_bytes;
        self.record_frames -= frames;
        self.control_bytes -= control_bytes;
        record_bytes + control_bytes > 0
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
        while let Some(first) = self.entries.front() {
            let length = first.bytes.len();
            if self.written < length {
                break;
            }
            self.written -= length;
            match first.kind {
                Kind::Record(_) => {
                    self.record_bytes -= length;
                    self.record_frames -= 1;
                }
                Kind::Synced(_) | Kind::Control => self.control_bytes -= length,
            }
            self.entries.pop_front();
        }
    }

    /// Gives the room of what was queued back if nothing has been queued since the last call: a
    /// busy socket keeps it and needs no allocation for a delivery, an idle one holds none. Called
    /// every few seconds.
    pub(crate) fn rest(&mut self) {
        if self.rested && self.entries.is_empty() && self.synced.is_empty() {
            self.entries = VecDeque::new();
            self.synced = Vec::new();
        }
        self.rested = true;
    }
}

#[cfg(test)]
mod tests {
    use hubbub_protocol::synced_frame;
    use proptest::prelude::*;

    use super::*;

    fn channel(n: i64) -> ChannelId {
        ChannelId::new(hubbub_protocol::ChannelLetter::Channel, n).expect("from 1")
    }

    fn set_synced(outbox: &mut Outbox, channel: ChannelId, seq: Seq) {
        let frame = text_frame(synced_frame(channel, seq).as_bytes());
        outbox.set_synced(channel, seq, &frame);
    }

    fn drain(outbox: &mut Outbox, step: usize) -> Vec<u8> {
        let mut seen = Vec::new();
        while !outbox.is_empty() {
            let taken = {
                let mut slices = Outbox::empty_slices();
                let used = outbox.slices(&mut slices);
                let flat: Vec<u8> = slices[..used]
                    .iter()
                    .flat_map(|s| s.iter().copied())
                    .take(step)
                    .collect();
                seen.extend_from_slice(&flat);
                flat.len()
            };
            outbox.advance(taken);
        }
        seen
    }

    #[test]
    fn full_outbox_refuses_and_keeps_what_it_has() {
        let mut outbox = Outbox::default();
        let frame = Bytes::from(vec![1; 10_000]);
        let taken = (0..1_000)
            .filter(|_| outbox.offer_record(channel(1), &frame))
            .count();
        assert_eq!(taken, OUTBOX_BYTES / 10_000);
        assert!(outbox.bytes() <= OUTBOX_BYTES);
        assert_eq!(drain(&mut outbox, 777).len(), taken * 10_000);
        assert!(outbox.under_half() && outbox.offer_record(channel(1), &frame));
    }

    #[test]
    fn outbox_with_a_close_frame_has_no_room() {
        let mut outbox = Outbox::default();
        outbox.push_close(Bytes::from_static(b"close"));
        assert!(!outbox.under_half());
        assert!(!outbox.offer_record(channel(1), &Bytes::from_static(b"record")));
        set_synced(&mut outbox, channel(1), Seq(1));
        outbox.flush_synced();
        assert_eq!(drain(&mut outbox, 100), b"close");
    }

    #[test]
    fn forsaken_outbox_gives_replies_alone_and_takes_no_record() {
        let mut outbox = Outbox::default();
        outbox.push_control(Bytes::from_static(b"reply"));
        assert!(!outbox.forsake(), "nothing was dropped");
        assert!(outbox.offer_record(channel(1), &Bytes::from_static(b"begun")));
        outbox.advance(b"replybe".len());
        assert!(outbox.offer_record(channel(1), &Bytes::from_static(b"whole")));
        set_synced(&mut outbox, channel(1), Seq(2));
        outbox.flush_synced();
        assert!(outbox.forsake());
        assert!(!outbox.offer_record(channel(2), &Bytes::from_static(b"more")));
        set_synced(&mut outbox, channel(2), Seq(9));
        outbox.flush_synced();
        outbox.push_close(Bytes::from_static(b"close"));
        assert_eq!(drain(&mut outbox, 100), b"gunclose");
        assert_eq!(outbox.bytes(), 0);
    }

    #[test]
    fn synced_goes_behind_what_waits_and_only_the_newest() {
        let mut outbox = Outbox::default();
        set_synced(&mut outbox, channel(1), Seq(3));
        assert!(outbox.offer_record(channel(1), &Bytes::from_static(b"record")));
        set_synced(&mut outbox, channel(1), Seq(5));
        outbox.flush_synced();
        let text = String::from_utf8_lossy(&drain(&mut outbox, 7)).into_owned();
        assert!(text.starts_with("record"), "{text}");
        assert!(
            text.contains("\"seq\":5") && !text.contains("\"seq\":3"),
            "{text}"
        );
    }

    #[test]
    fn synced_rides_once_a_tick_on_records_and_at_once_on_a_reply() {
        let mut outbox = Outbox::default();
        let record = Bytes::from_static(b"record");
        set_synced(&mut outbox, channel(1), Seq(1));
        assert!(outbox.offer_record(channel(1), &record));
        assert!(!outbox.synced_rides(), "not with each record");
        outbox.make_synced_due();
        assert!(outbox.synced_rides() && outbox.synced_overdue());
        outbox.flush_synced();
        drain(&mut outbox, 1_000);
        set_synced(&mut outbox, channel(1), Seq(2));
        assert!(outbox.offer_record(channel(1), &record));
        assert!(!outbox.synced_rides(), "one has ridden");
        assert!(!outbox.synced_overdue());
        outbox.push_control(Bytes::from_static(b"reply"));
        assert!(outbox.synced_rides());
        // Nothing to ride on: due at one tick, it has its own write at the next.
        let mut quiet = Outbox::default();
        set_synced(&mut quiet, channel(1), Seq(3));
        assert!(!quiet.synced_overdue());
        quiet.make_synced_due();
        assert!(quiet.synced_overdue());
    }

    #[test]
    fn purge_takes_the_synced_that_speaks_of_what_it_takes() {
        let mut outbox = Outbox::default();
        assert!(outbox.offer_record(channel(1), &Bytes::from_static(b"record")));
        set_synced(&mut outbox, channel(1), Seq(5));
        set_synced(&mut outbox, channel(2), Seq(7));
        outbox.flush_synced();
        outbox.purge(channel(1));
        let text = String::from_utf8_lossy(&drain(&mut outbox, 7)).into_owned();
        assert!(
            text.contains("\"seq\":7") && !text.contains("\"seq\":5"),
            "{text}"
        );
        assert_eq!(outbox.bytes(), 0);
    }

    #[test]
    fn room_is_kept_while_it_is_used_and_given_back_after() {
        let mut outbox = Outbox::default();
        let frame = Bytes::from_static(b"record");
        let burst = |outbox: &mut Outbox| {
            while outbox.offer_record(channel(1), &frame) {}
            set_synced(outbox, channel(1), Seq(1));
            outbox.flush_synced();
            drain(outbox, 1_000);
        };
        burst(&mut outbox);
        let room = outbox.entries.capacity();
        assert!(room >= OUTBOX_FRAMES);
        outbox.rest();
        burst(&mut outbox);
        outbox.rest();
        assert_eq!(outbox.entries.capacity(), room, "it was used since");
        outbox.rest();
        assert_eq!(
            (outbox.entries.capacity(), outbox.synced.capacity()),
            (0, 0)
        );
        assert!(outbox.offer_record(channel(1), &frame));
        outbox.rest();
        outbox.rest();
        assert_eq!(drain(&mut outbox, 1_000), b"record", "what waits is kept");
    }

    #[test]
    fn presence_waits_for_room_with_the_newest_of_each_user() {
        use hubbub_protocol::{PresenceState, UserId};
        let presence = |n, state| UserPresence {
            user: UserId::new(n).expect("from 1"),
            state,
        };
        let mut outbox = Outbox::default();
        outbox.push_control(Bytes::from(vec![b'x'; CONTROL_BYTES]));
        for _ in 0..1_000 {
            for n in 1..4 {
                outbox.tell(presence(n, PresenceState::Active));
                outbox.tell(presence(n, PresenceState::Away));
            }
        }
        assert_eq!(outbox.bytes(), CONTROL_BYTES, "nothing was queued");
        assert_eq!(outbox.held.len(), 3);
        outbox.advance(CONTROL_BYTES);
        outbox.flush_held();
        let text = String::from_utf8_lossy(&drain(&mut outbox, 9)).into_owned();
        assert_eq!(text.matches("away").count(), 3, "{text}");
        assert!(!text.contains("active"), "{text}");
        outbox.tell(presence(1, PresenceState::Offline));
        let text = String::from_utf8_lossy(&drain(&mut outbox, 9)).into_owned();
        assert!(text.contains("offline"), "{text}");
    }

    #[test]
    fn nothing_follows_a_close_frame() {
        let mut outbox = Outbox::default();
        outbox.push_close(Bytes::from_static(b"close"));
        outbox.push_control(Bytes::from_static(b"late"));
        set_synced(&mut outbox, channel(1), Seq(1));
        outbox.flush_synced();
        assert!(!outbox.offer_record(channel(1), &Bytes::from_static(b"late")));
        assert_eq!(drain(&mut outbox, 100), b"close");
    }

    proptest! {
        #[test]
        fn purge_removes_one_channel_and_never_half_a_frame(
            plan in prop::collection::vec((1_i64..4, 1_usize..40), 1..40),
            written in 0_usize..50,
        ) {
            let mut outbox = Outbox::default();
            let mut frames = Vec::new();
            for (n, length) in plan {
                let bytes = Bytes::from(vec![n as u8; length]);
                prop_assert!(outbox.offer_record(channel(n), &bytes));
                frames.push((n, length));
            }
            let total: usize = frames.iter().map(|(_, l)| l).sum();
            let written = written.min(total.saturating_sub(1));
            outbox.advance(written);
            outbox.purge(channel(2));
            let rest = drain(&mut outbox, 13);
            let (mut expected, mut skip) = (Vec::new(), written);
            for (n, length) in frames {
                if skip >= length {
                    skip -= length;
                } else {
                    if n != 2 || skip > 0 {
                        expected.extend(std::iter::repeat_n(n as u8, length - skip));
                    }
                    skip = 0;
                }
            }
            prop_assert_eq!(rest, expected);
            prop_assert_eq!(outbox.bytes(), 0);
        }
    }
}
