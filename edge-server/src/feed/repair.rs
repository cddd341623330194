//! How the horizon moves: announcements, head reads, and what they fetch.

use hubbub_protocol::{MessageKey, Seq, Stored};

use super::{
    Answer, Ask, Failure, Feed, Frame, Outboxes, Request,
    sockets::{HasSocket, Place, Reader},
};
use crate::wire::is_deletion;

/// Announcements that wait singly; one more and all become one range.
pub(super) const WAITING: usize = 4;

/// Who said how far the channel is stored; for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// The consumer's announcement.
    Stored,
    /// The head read that follows a subscribe confirmation.
    Head,
    /// The sweep.
    Sweep,
}

/// Something that says how far the channel is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Announced {
    pub(super) through: Seq,
    pub(super) source: Source,
    /// From where on the rows are listed, and which; `None` = a range: somebody saw the head.
    pub(super) listed: Option<(Seq, Vec<Seq>)>,
}

/// The request in flight of the feed itself. While there is one, the horizon stays.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Io {
    None,
    Head {
        id: u64,
    },
    Rows {
        id: u64,
        /// All rows up to `through` above the horizon, also those that `recent` has.
        listed: Vec<Seq>,
        through: Seq,
        source: Source,
        /// Planted mistake: what `recent` had when the request was made.
        #[cfg(any(test, feature = "mutants"))]
        had: Vec<Seq>,
    },
    Range {
        id: u64,
        through: Seq,
        source: Source,
        #[cfg(any(test, feature = "mutants"))]
        had: Vec<Seq>,
    },
}

impl Io {
    fn id(&self) -> Option<u64> {
        match self {
            Self::None => None,
            Self::Head { id } | Self::Rows { id, .. } | Self::Range { id, .. } => Some(*id),
        }
    }
}

impl Feed {
    /// SUBSCRIBE was confirmed (the first time, or again after a disconnection, a failed probe or
    /// a full inbox): a new head read is due. One that is in flight was begun before and does not
    /// stand for it.
    pub fn subscribed<O: Outboxes>(&mut self, out: &mut O) {
        let again = std::mem::replace(&mut self.subscribed, true);
        let in_flight = matches!(self.io, Io::Head { .. });
        self.check |= (!again || rule!(EverySubscribeChecks))
            && (again || rule!(HeadAfterSubscribe))
            && (!in_flight || rule!(EarlierHeadReadDoesNotCount));
        self.pump(out);
    }

    /// The consumer's announcement came from the bus.
    pub fn stored<O: Outboxes>(&mut self, stored: Stored, out: &mut O) {
        let Stored {
            from,
            through,
            seqs,
            ..
        } = stored;
        // A list that breaks its own terms is no list: the range is then the safe reading.
        let sound = |seqs: &Vec<Seq>| {
            seqs.is_sorted_by(|a, b| a < b)
                && seqs.first().is_none_or(|first| *first > from)
                && seqs.last().is_none_or(|last| *last <= through)
        };
        let listed = seqs.filter(sound).map(|seqs| (from, seqs));
        let announced = Announced {
            through,
            source: Source::Stored,
            listed,
        };
        self.wait(self.waiting.len(), announced);
        self.pump(out);
    }

    /// The sweep found the head above the horizon, 300 ms ago and still.
    pub fn head_seen<O: Outboxes>(&mut self, head: Seq, out: &mut O) {
        if self.horizon.is_some_and(|horizon| head <= horizon) {
            return;
        }
        self.counts.behind_at_sweep += 1;
        let range = Announced {
            through: head,
            source: Source::Sweep,
            listed: None,
        };
        self.wait(self.waiting.len(), range);
        self.pump(out);
    }

    /// Puts it into `waiting` at `place`; when that is full, all become one range.
    fn wait(&mut self, place: usize, announced: Announced) {
        if self.waiting.len() < WAITING {
            self.waiting.insert(place, announced);
            return;
        }
        self.counts.merged += 1;
        if !rule!(FullWaitingIsMerged) {
            return;
        }
        let through = self
            .waiting
            .drain(..)
            .fold(announced.through, |through, a| through.max(a.through));
        self.waiting.push(Announced {
            through,
            source: announced.source,
            listed: None,
        });
    }

    /// Applies what waits for as long as nothing has to be fetched for it.
    pub(super) fn pump<O: Outboxes>(&mut self, out: &mut O) {
        while self.io == Io::None
            && let Some(horizon) = self.horizon
            && let Some(first) = self.waiting.first()
        {
            let (through, source) = (first.through, first.source);
            if through <= horizon && rule!(HorizonNeverGoesBack) {
                self.waiting.remove(0);
                continue;
            }
            let Some(listed) = Self::listed_above(first, horizon) else {
                return;
            };
            let held = listed.iter().map(|seq| self.recent.frame(*seq));
            let held = held.filter(|held| held.is_some() || rule!(ListedRowsAreFetched));
            let Some(rows) = held.collect::<Option<Vec<Frame>>>() else {
                return;
            };
            self.waiting.remove(0);
            self.advance(&rows, through, source, out);
        }
    }

    /// The rows of an announcement above the horizon; `None` = it cannot tell, which rows are
    /// there must be asked.
    fn listed_above(announced: &Announced, horizon: Seq) -> Option<Vec<Seq>> {
        let (from, seqs) = announced.listed.as_ref()?;
        if *from > horizon && rule!(AnnouncementAboveIsFetched) {
            return None;
        }
        Some(seqs.iter().copied().filter(|s| *s > horizon).collect())
    }

    /// The feed's own next request.
    pub(super) fn next_io(&mut self, now_ms: u64) -> Option<Request> {
        if self.io != Io::None || !self.io_retry.is_due(now_ms) {
            return None;
        }
        #[cfg(any(test, feature = "mutants"))]
        let had: Vec<Seq> = self.recent.iter().map(|(seq, _)| seq).collect();
        let ask = match (self.horizon, self.waiting.first()) {
            (Some(horizon), Some(first)) => {
                let id = self.limits.next_request();
                let (through, source) = (first.through, first.source);
                let (io, ask) = match Self::listed_above(first, horizon) {
                    Some(listed) => {
                        let missing = listed.iter().copied();
                        let missing = missing
                            .filter(|s| self.recent.frame(*s).is_none())
                            .collect();
                        let io = Io::Rows {
                            id,
                            listed,
                            through,
                            source,
                            #[cfg(any(test, feature = "mutants"))]
                            had,
                        };
                        (io, Ask::Rows(missing))
                    }
                    None => {
                        let io = Io::Range {
                            id,
                            through,
                            source,
                            #[cfg(any(test, feature = "mutants"))]
                            had,
                        };
                        let range = Ask::Range {
                            from: horizon,
                            through,
                            limit: self.limits.page_rows(),
                        };
                        (io, range)
                    }
                };
                self.io = io;
                Request { id, ask }
            }
            _ if self.check => {
                self.check = false;
                let id = self.limits.next_request();
                self.io = Io::Head { id };
                Request { id, ask: Ask::Head }
            }
            _ => return None,
        };
        Some(ask)
    }

    /// What the store said to the request with this id. An id that is not in flight is ignored.
    pub fn answer<O: Outboxes>(
        &mut self,
        id: u64,
        answer: Result<Answer, Failure>,
        now_ms: u64,
        out: &mut O,
    ) {
        if self.page.as_ref().is_some_and(|page| page.id == id) {
            self.page_answered(answer, now_ms, out);
        } else if self.io.id() == Some(id) {
            let io = std::mem::replace(&mut self.io, Io::None);
            match (io, answer) {
                (_, Err(failure)) => self.io_failed(failure, now_ms, out),
                (io, Ok(answer)) => {
                    self.away = None;
                    self.io_retry.succeeded();
                    self.io_answered(io, answer, now_ms, out);
                }
            }
            self.pump(out);
        }
    }

    /// The caller did not ask the store after all, or may not use what it said: the request is
    /// made again when it is asked for next. Says nothing of the store. An id that is not in
    /// flight is ignored.
    pub fn cancelled(&mut self, id: u64) {
        if self.page.as_ref().is_some_and(|page| page.id == id) {
            self.page = None;
        } else if self.io.id() == Some(id) {
            self.check |= matches!(self.io, Io::Head { .. });
            self.io = Io::None;
        }
    }

    fn io_failed<O: Outboxes>(&mut self, failure: Failure, now_ms: u64, out: &mut O) {
        self.counts.failed += 1;
        self.io_retry.failed(now_ms, failure.jitter);
        if rule!(FailedIsRepeated) {
            // Also after a fetch: it tells when the store is back, if nobody else asks by then.
            self.check = true;
        } else {
            self.waiting.clear();
        }
        self.away = Some(failure.reason);
        let fits = |_: &Self, reader: &Reader| matches!(reader.place, Place::Joining { .. });
        self.serve_without_store(fits, out);
    }

    fn io_answered<O: Outboxes>(&mut self, io: Io, answer: Answer, now_ms: u64, out: &mut O) {
        match (io, answer) {
            (Io::Head { id }, Answer::Head(head)) => self.head_read(id, head, out),
            (
                Io::Rows {
                    listed,
                    through,
                    source,
                    id,
                    #[cfg(any(test, feature = "mutants"))]
                    had,
                },
                Answer::Rows(mut fetched),
            ) => {
                let horizon = self.horizon;
                fetched.retain(|row| listed.binary_search(&row.seq).is_ok());
                for seq in &listed {
                    if !fetched.iter().any(|row| row.seq == *seq)
                        && let Some(held) = self.recent.frame(*seq)
                    {
                        fetched.push(held);
                    }
                }
                fetched.sort_unstable_by_key(|row| row.seq);
                fetched.dedup_by_key(|row| row.seq);
                debug_assert!(horizon.is_some());
                if fetched.len() < listed.len() && rule!(MissingRowIsAskedAgain) {
                    self.io_retry.failed(now_ms, id);
                    return;
                }
                #[cfg(any(test, feature = "mutants"))]
                self.forget_since(&had);
                self.advance(&fetched, through, source, out);
            }
            (
                Io::Range {
                    through,
                    source,
                    #[cfg(any(test, feature = "mutants"))]
                    had,
                    ..
                },
                Answer::Rows(rows),
            ) => {
                #[cfg(any(test, feature = "mutants"))]
                self.forget_since(&had);
                let to = match rows.last() {
                    // There may be more: the range goes on from the last row of this page.
                    Some(last)
                        if rows.len() >= self.limits.page_rows() && rule!(FullPageIsNotTheEnd) =>
                    {
                        last.seq
                    }
                    _ => through,
                };
                self.advance(&rows, to, source, out);
            }
            (Io::None, _) | (Io::Head { .. }, Answer::Rows(_)) | (_, Answer::Head(_)) => {
                debug_assert!(false, "an answer of another kind than the request");
                self.check = true;
            }
        }
    }

    /// Planted mistake: what came while the request was in flight counts as unknown.
    #[cfg(any(test, feature = "mutants"))]
    fn forget_since(&mut self, had: &[Seq]) {
        if !rule!(DecidedAtTheAnswer) {
            self.recent.keep_only(had);
        }
    }

    fn head_read<O: Outboxes>(&mut self, id: u64, head: Seq, out: &mut O) {
        match self.horizon {
            None => self.first_horizon(head, out),
            Some(horizon) if head > horizon => {
                self.counts.behind_at_subscribe += 1;
                let range = Announced {
                    through: head,
                    source: Source::Head,
                    listed: None,
                };
                self.wait(0, range);
            }
            Some(_) => {}
        }
        // A client that is ahead of the head itself: that cursor is of another log.
        if rule!(AheadOfTheHeadIsTold) {
            let ahead = self.readers.iter().filter(|reader| {
                matches!(reader.place, Place::Joining { since: Some(since), asked }
                    if since > head && id > asked)
            });
            let ahead: Vec<_> = ahead.map(HasSocket::socket).collect();
            for socket in ahead {
                self.start_unrecovered(socket, "since is above the channel's head".into(), out);
            }
        }
    }

    /// The horizon becomes known: it is the join point of sockets that have gone on without one.
    fn first_horizon<O: Outboxes>(&mut self, head: Seq, out: &mut O) {
        self.horizon = Some(head);
        self.tail.start(head);
        if rule!(FirstHeadTrimsRecent) {
            self.recent.remove_through(head);
        }
        let arrivals = self.recent.arrivals();
        for attached in self.plain.iter().chain(self.ordered.iter()) {
            let plain = self.plain.contains(attached.socket);
            let sent = attached.sent() || (plain && arrivals > attached.since());
            if !rule!(HorizonIsTheirJoinPoint) {
                continue;
            }
            if sent && rule!(ReplayAtFirstHorizon) {
                out.replay(attached.socket, self.channel, head);
            }
            out.synced(attached.socket, self.channel, head);
        }
        let mut waiting = Vec::new();
        for reader in self.readers.iter_mut() {
            match reader.place {
                Place::Nowhere => {
                    reader.place = Place::At(head);
                    if reader.sent.take().is_some() && rule!(ReplayAtFirstHorizon) {
                        out.replay(reader.socket, self.channel, head);
                    }
                    reader.told = true;
                    out.synced(reader.socket, self.channel, head);
                }
                Place::Joining { .. } => waiting.push(reader.socket),
                Place::At(_) => {}
            }
        }
        for socket in waiting {
            self.try_start(socket, out);
        }
    }

    /// Delivers the rows above the horizon, ascending, and moves it to `to`. `rows` are all rows
    /// in `(horizon, to]`; `source` = who told of them.
    fn advance<O: Outboxes>(&mut self, rows: &[Frame], to: Seq, source: Source, out: &mut O) {
        let old = self.horizon;
        if !rule!(SyncedBehindTheRows) {
            self.tell_attached(to, out);
        }
        let mut unseen: Vec<MessageKey> = Vec::new();
        let mut refused = std::mem::take(&mut self.refused);
        let arrivals = self.recent.arrivals();
        for at in 0..rows.len() {
            let row = &rows[if rule!(RowsAscend) {
                at
            } else {
                rows.len() - 1 - at
            }];
            if old.is_some_and(|old| row.seq <= old) {
                continue;
            }
            if !rule!(RowsAreNeverSuppressedById)
                && self.recent.get(row.seq).is_none()
                && self.ids.contains(&row.key)
            {
                continue;
            }
            for attached in self.ordered.iter() {
                if !out.offer(attached.socket, &row.bytes) {
                    refused.push((attached.socket, arrivals));
                }
            }
            // Plain sockets have what `recent` has; of what it has without the frame, only those
            // that were attached when it arrived.
            let arrived = match self.recent.get(row.seq) {
                None => {
                    unseen.push(row.key);
                    self.counts.repaired += 1;
                    *match source {
                        Source::Stored => &mut self.counts.repaired_by_announcement,
                        Source::Head => &mut self.counts.repaired_by_head,
                        Source::Sweep => &mut self.counts.repaired_by_sweep,
                    } += 1;
                    Some(0)
                }
                Some(_) if !rule!(AdvanceConsultsRecent) => Some(0),
                Some(entry) if entry.bytes.is_some() => None,
                Some(entry) => rule!(FramelessGoesToLaterOnes).then_some(entry.arrival),
            };
            if let Some(arrival) = arrived {
                for attached in self.plain.iter() {
                    if (attached.since() >= arrival || !rule!(FramelessGoesToLaterOnesOnly))
                        && !out.offer(attached.socket, &row.bytes)
                    {
                        refused.push((attached.socket, arrivals));
                    }
                }
            }
            self.detach(&mut refused, old, out);
        }
        self.refused = refused;
        self.horizon = Some(to);
        for row in rows {
            if rule!(IdsTakeRows) {
                self.ids.put(row.key, ());
            }
            if old.is_none_or(|old| row.seq > old) {
                self.tail.push(row);
            }
        }
        if rows.iter().any(|row| is_deletion(&row.bytes)) {
            // What is kept may hold the text: the store, which has emptied it, is asked from here on.
            self.tail.start(to);
        }
        self.recent.remove_through(to);
        // Only a row that did not come live can have a copy above: a live one kept copies out.
        if !unseen.is_empty() && rule!(RecentLosesCopies) {
            unseen.sort_unstable();
            self.recent.remove_keys(&unseen);
        }
        self.untold = rule!(EveryAdvanceIsTold) && rule!(SyncedBehindTheRows);
        let reached: Vec<_> = self
            .readers
            .iter()
            .filter(|r| matches!(r.place, Place::Joining { since, .. } if since <= Some(to)))
            .map(HasSocket::socket)
            .collect();
        for socket in reached {
            self.try_start(socket, out);
        }
    }

    /// Tells the attached sockets how far the horizon has come since the last call, if it has: a
    /// busy channel's sockets are told once for many messages. To be called soon after whatever
    /// leaves the feed [`Self::is_untold`].
    pub fn tell_synced<O: Outboxes>(&mut self, out: &mut O) {
        if std::mem::take(&mut self.untold)
            && let Some(horizon) = self.horizon
        {
            self.tell_attached(horizon, out);
        }
    }

    fn tell_attached<O: Outboxes>(&self, to: Seq, out: &mut O) {
        for attached in self.plain.iter().chain(self.ordered.iter()) {
            out.synced(attached.socket, self.channel, to);
        }
    }
}
