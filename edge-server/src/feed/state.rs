use bytes::Bytes;
use hubbub_protocol::{ChannelId, MessageKey, Seq};
use lru::LruCache;

use super::{
    Burst, Frame, Limits, Outboxes, Request, SocketId,
    reading::Page,
    recent::Recent,
    repair::{Announced, Io},
    retry::Retry,
    sockets::{Attached, BySocket, HasSocket, Place, Reader, Readers},
    tail::Tail,
};

/// What a feed did since it was last asked; for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Live messages dropped because the horizon or `recent` has their seq.
    pub repeated: u64,
    /// Live messages dropped because their (sender, id) is known: a resend.
    pub resent: u64,
    /// Live messages kept without their frame: the bytes bound was reached.
    pub unkept: u64,
    /// Rows given to attached sockets by a repair: no live message had brought them.
    pub repaired: u64,
    /// Of these, found by a range that the sweep asked for.
    pub repaired_by_sweep: u64,
    /// Of these, found because an announcement told of them.
    pub repaired_by_announcement: u64,
    /// Of these, found by the head read after a subscribe confirmation.
    pub repaired_by_head: u64,
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
    /// Sockets closed because their pages could not be read for long.
    pub closed: u64,
    /// Requests to the store that failed.
    pub failed: u64,
    /// Pages given from the newest rows, which are kept, and not asked of the store.
    pub pages_from_memory: u64,
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        // Every field by name, so that a new one is not forgotten.
        let Self {
            repeated,
            resent,
            unkept,
            repaired,
            repaired_by_sweep,
            repaired_by_announcement,
            repaired_by_head,
            behind_at_subscribe,
            behind_at_sweep,
            merged,
            detached,
            unrecovered,
            closed,
            failed,
            pages_from_memory,
        } = other;
        self.repeated += repeated;
        self.resent += resent;
        self.unkept += unkept;
        self.repaired += repaired;
        self.repaired_by_sweep += repaired_by_sweep;
        self.repaired_by_announcement += repaired_by_announcement;
        self.repaired_by_head += repaired_by_head;
        self.behind_at_subscribe += behind_at_subscribe;
        self.behind_at_sweep += behind_at_sweep;
        self.merged += merged;
        self.detached += detached;
        self.unrecovered += unrecovered;
        self.closed += closed;
        self.failed += failed;
        self.pages_from_memory += pages_from_memory;
    }
}

/// The feed of one channel.
#[derive(Debug)]
pub struct Feed {
    pub(super) channel: ChannelId,
    pub(super) limits: Limits,
    /// Through this everything has been delivered to the attached sockets. Never goes back.
    pub(super) horizon: Option<Seq>,
    /// The attached sockets have not been told `synced` since the horizon moved.
    pub(super) untold: bool,
    pub(super) recent: Recent,
    /// The newest rows, through the horizon.
    pub(super) tail: Tail,
    /// Of live messages and rows; stops live messages only.
    pub(super) ids: LruCache<MessageKey, ()>,
    /// The announcements not yet applied; the first is the one that `io` fetches for.
    pub(super) waiting: Vec<Announced>,
    /// A subscribe confirmation came.
    pub(super) subscribed: bool,
    /// A head read is due.
    pub(super) check: bool,
    pub(super) io: Io,
    pub(super) io_retry: Retry,
    /// The page in flight for the readers.
    pub(super) page: Option<Page>,
    pub(super) page_retry: Retry,
    /// Pages asked for so far: the readers' turns are counted in it.
    pub(super) pages: u64,
    /// Why the last request to the store failed, until one succeeds. A failure also makes a head
    /// read due, so that somebody finds out when the store is back.
    pub(super) away: Option<String>,
    /// Attached, in order of arrival.
    pub(super) plain: BySocket<Attached>,
    /// Attached, strictly by seq: what they get are rows.
    pub(super) ordered: BySocket<Attached>,
    pub(super) readers: Readers,
    /// Scratch of the fan-out: sockets that refused a frame, each with the number of the last
    /// message that it has.
    pub(super) refused: Vec<(SocketId, u64)>,
    /// Scratch of the fan-out: the messages of a batch that are new.
    fresh: Burst,
    pub(super) counts: Counts,
}

impl Feed {
    /// A feed that waits for its first subscribe confirmation.
    pub fn new(channel: ChannelId, limits: Limits) -> Self {
        // Unbounded and then bounded: `LruCache::new` would reserve the whole table at once, and
        // most feeds are idle.
        let mut ids = LruCache::unbounded();
        if let Some(bound) = std::num::NonZeroUsize::new(limits.ids()) {
            ids.resize(bound);
        }
        Self {
            channel,
            recent: Recent::new(limits.clone()),
            tail: Tail::new(limits.clone()),
            limits,
            horizon: None,
            untold: false,
            ids,
            waiting: Vec::new(),
            subscribed: false,
            check: !rule!(HeadAfterSubscribe),
            io: Io::None,
            io_retry: Retry::default(),
            page: None,
            page_retry: Retry::default(),
            pages: 0,
            away: None,
            plain: BySocket::new(),
            ordered: BySocket::new(),
            readers: Readers::new(),
            refused: Vec::new(),
            fresh: Burst::default(),
            counts: Counts::default(),
        }
    }

    /// A live record came from the bus. `false` = it was known and dropped.
    #[cfg(test)]
    pub fn message<O: Outboxes>(&mut self, frame: Frame, out: &mut O) -> bool {
        self.messages(std::slice::from_ref(&frame), out) == 1
    }

    /// Live records came from the bus, in this order; gives how many were new. Each socket gets
    /// all of them in one go: what a delivery costs is mostly the way to the socket.
    pub fn messages<O: Outboxes>(&mut self, frames: &[Frame], out: &mut O) -> usize {
        let mut fresh = std::mem::take(&mut self.fresh);
        let before = self.recent.arrivals();
        fresh.fill(frames.iter().filter_map(|frame| self.take_up(frame)));
        let new = fresh.frames().len();
        if new > 0 {
            self.give(&fresh, before, out);
        }
        fresh.clear();
        self.fresh = fresh;
        if new > 0 && !self.waiting.is_empty() {
            // It may be what an announcement lacked whose fetch has failed.
            self.pump(out);
        }
        new
    }

    /// Keeps a live record that is new; gives the bytes that are to be shown.
    fn take_up(&mut self, frame: &Frame) -> Option<Bytes> {
        let below = self.horizon.is_some_and(|horizon| frame.seq <= horizon);
        if (below && rule!(HorizonConsulted))
            || (self.recent.get(frame.seq).is_some() && rule!(RecentConsulted))
        {
            self.counts.repeated += 1;
            return None;
        }
        if self.ids.contains(&frame.key) && rule!(IdsConsulted) {
            self.counts.resent += 1;
            return None;
        }
        self.ids.put(frame.key, ());
        if !self.recent.insert(frame) {
            self.counts.unkept += 1;
        }
        Some(frame.bytes.clone())
    }

    /// Offers live messages to all that are attached; `before` is the number of the last message
    /// that had arrived before them. Who refuses one goes back to reading, and gets none of those
    /// behind it.
    fn give<O: Outboxes>(&mut self, fresh: &Burst, before: u64, out: &mut O) {
        let mut refused = std::mem::take(&mut self.refused);
        let ordered = self.ordered.iter().filter(|_| !rule!(OrderedGetsRowsOnly));
        for attached in self.plain.iter().chain(ordered) {
            let taken = out.offer_all(attached.socket, fresh);
            if taken < fresh.frames().len() {
                let beyond = u64::from(!rule!(DetachBeforeRefused));
                refused.push((attached.socket, before + taken as u64 + beyond));
            }
        }
        if !rule!(ReaderGetsNoLive) {
            for reader in self.readers.iter().filter(|r| r.answered && !r.ordered) {
                out.offer_all(reader.socket, fresh);
            }
        }
        self.detach(&mut refused, self.horizon, out);
        self.refused = refused;
    }

    /// Attached sockets whose outbox refused a frame go back to reading from their `cursor`, through
    /// which they were given everything. Beside each stands the number of the last message it has.
    pub(super) fn detach<O: Outboxes>(
        &mut self,
        refused: &mut Vec<(SocketId, u64)>,
        cursor: Option<Seq>,
        out: &mut O,
    ) {
        for (socket, arrival) in refused.drain(..) {
            if !rule!(RefusedIsDetached) {
                continue;
            }
            let (attached, ordered) = match self.plain.remove(socket) {
                Some(attached) => (attached, false),
                None => match self.ordered.remove(socket) {
                    Some(attached) => (attached, true),
                    None => continue,
                },
            };
            self.counts.detached += 1;
            let mut reader = Reader {
                socket,
                ordered,
                place: cursor.map_or(Place::Nowhere, Place::At),
                arrival,
                sent: None,
                answered: true,
                told: false,
                closing: false,
                served: self.pages,
            };
            match cursor {
                Some(cursor) if rule!(ReplayAfterDetach) => {
                    out.replay(socket, self.channel, cursor);
                }
                Some(_) => {}
                // Without a cursor nothing is given twice until the horizon is known; whether a
                // frame went out decides if a `replay` is due then.
                None => {
                    reader.sent = (attached.sent() || arrival > attached.since()).then_some(Seq(0));
                }
            }
            self.readers.insert(reader);
        }
    }

    /// A socket leaves or is gone; nothing of the channel is given to it any more. An unanswered
    /// join is never answered. One that never joined is no error.
    pub fn leave<O: Outboxes>(&mut self, socket: SocketId, out: &mut O) {
        let known = self.plain.remove(socket).is_some()
            || self.ordered.remove(socket).is_some()
            || self.readers.remove(socket).is_some();
        if known && rule!(LeaveDropsSynced) {
            out.drop_synced(socket, self.channel);
        }
    }

    /// The next request for the store, to be performed now; at most two are in flight, one of the
    /// feed itself and one page for its readers.
    pub fn next_request<O: Outboxes>(&mut self, now_ms: u64, out: &O) -> Option<Request> {
        self.next_io(now_ms).or_else(|| self.next_page(now_ms, out))
    }

    /// When a request that failed is to be tried again: call [`Self::next_request`] then.
    pub fn next_due_ms(&self) -> Option<u64> {
        let io = self.io_retry.due_ms().into_iter();
        io.chain(self.page_retry.due_ms()).min()
    }

    /// The channel.
    pub fn channel(&self) -> ChannelId {
        self.channel
    }

    /// The seq through which everything has been delivered; `None` until the head was read.
    pub fn horizon(&self) -> Option<Seq> {
        self.horizon
    }

    /// Whether the horizon has moved and the attached sockets have not been told: a call of
    /// [`Self::tell_synced`] is due.
    pub fn is_untold(&self) -> bool {
        self.untold
    }

    /// Whether it has no sockets.
    pub fn is_idle(&self) -> bool {
        self.plain.is_empty() && self.ordered.is_empty() && self.readers.is_empty()
    }

    /// How many sockets joined.
    pub fn len(&self) -> usize {
        self.plain.len() + self.ordered.len() + self.readers.len()
    }

    /// As [`Self::is_idle`].
    pub fn is_empty(&self) -> bool {
        self.is_idle()
    }

    /// The sockets that joined, in any order.
    pub fn sockets(&self) -> impl Iterator<Item = SocketId> + '_ {
        let attached = self.plain.iter().chain(self.ordered.iter());
        attached
            .map(HasSocket::socket)
            .chain(self.readers.iter().map(HasSocket::socket))
    }

    /// The attached sockets, in any order.
    pub fn attached(&self) -> impl Iterator<Item = SocketId> + '_ {
        let attached = self.plain.iter().chain(self.ordered.iter());
        attached.map(HasSocket::socket)
    }

    /// The highest seq that is known of the channel: nothing above it can have been shown. `None`
    /// until something is known.
    pub fn known_through(&self) -> Option<Seq> {
        self.horizon.max(self.recent.last())
    }

    /// Whether the socket joined.
    pub fn contains(&self, socket: SocketId) -> bool {
        self.plain.contains(socket)
            || self.ordered.contains(socket)
            || self.readers.contains(socket)
    }

    /// Whether the socket is attached, or stands at a seq from which it reads: then its join is
    /// answered with its first page, and waits for nothing but its turn.
    pub fn has_place(&self, socket: SocketId) -> bool {
        self.plain.contains(socket)
            || self.ordered.contains(socket)
            || self
                .readers
                .get(socket)
                .is_some_and(|reader| reader.cursor().is_some())
    }

    /// What happened since the last call.
    pub fn take_counts(&mut self) -> Counts {
        std::mem::take(&mut self.counts)
    }

    /// Checks what must hold between any two calls; `Err` names what does not.
    pub fn check_invariants(&self) -> Result<(), String> {
        let check = |holds: bool, what: &str| {
            if holds {
                Ok(())
            } else {
                Err(format!("{}: {what}", self.channel))
            }
        };
        check(
            self.plain.is_sorted() && self.ordered.is_sorted(),
            "sockets are not in order",
        )?;
        check(
            self.sockets()
                .collect::<std::collections::BTreeSet<_>>()
                .len()
                == self.len(),
            "a socket is in two places",
        )?;
        check(
            self.waiting.len() <= super::repair::WAITING,
            "too many announcements wait",
        )?;
        check(self.refused.is_empty(), "a refusal was not handled")?;
        let Some(horizon) = self.horizon else {
            return check(
                !self.readers.iter().any(|r| r.cursor().is_some()),
                "a reader has a cursor before there is a horizon",
            );
        };
        check(
            self.recent.iter().all(|(seq, _)| seq > horizon),
            "a message of recent is at or below the horizon",
        )?;
        check(
            self.tail.is_sound(horizon),
            "the tail is not what it says that it is",
        )?;
        for reader in self.readers.iter() {
            match reader.place {
                Place::At(cursor) => check(cursor <= horizon, "a cursor is above the horizon")?,
                Place::Nowhere => check(false, "a reader has no cursor though there is a horizon")?,
                Place::Joining { since, .. } => check(
                    since.is_some_and(|since| since > horizon),
                    "a join waits for what is there",
                )?,
            }
            check(
                reader.answered == !matches!(reader.place, Place::Joining { .. })
                    || !reader.answered,
                "a join was answered before it had a place",
            )?;
        }
        Ok(())
    }
}
