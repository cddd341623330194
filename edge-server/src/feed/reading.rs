//! Sockets that are not attached: joins, pages, and the hand-over to the live messages.

use hubbub_protocol::{CloseCode, JoinReply, Seq};

use super::{
    Answer, Ask, Failure, Feed, Frame, Outboxes, Request, SocketId,
    sockets::{Attached, HasSocket, Place, Reader},
};

/// The reader furthest back goes first, since its page serves the most; but one that has waited
/// for so many pages goes before it.
const PATIENCE_PAGES: u64 = 8;

/// The page in flight: rows `(from, through]`, for every reader that stands in it.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) id: u64,
    from: Seq,
    /// The horizon when it was asked for.
    through: Seq,
}

impl Feed {
    /// A socket joins; its membership has been checked. A second join replaces the first.
    /// The reply comes by [`Outboxes::joined`], at once or later.
    pub fn join<O: Outboxes>(
        &mut self,
        socket: SocketId,
        since: Option<Seq>,
        ordered: bool,
        out: &mut O,
    ) {
        self.leave(socket, out);
        self.readers.insert(Reader {
            socket,
            ordered,
            place: Place::Joining {
                since,
                asked: self.limits.last_request(),
            },
            arrival: 0,
            sent: None,
            answered: false,
            told: false,
            closing: false,
            served: self.pages,
        });
        self.try_start(socket, out);
    }

    /// Gives a joining reader its cursor, if the horizon has reached it.
    pub(super) fn try_start<O: Outboxes>(&mut self, socket: SocketId, out: &mut O) {
        let Some(reader) = self.readers.get_mut(socket) else {
            return;
        };
        let Place::Joining { since, .. } = reader.place else {
            return;
        };
        let reached = self.horizon.filter(|horizon| since <= Some(*horizon));
        let Some(horizon) = reached else {
            if let Some(reason) = self.away.clone() {
                self.start_unrecovered(socket, reason, out);
            } else if self.horizon.is_some() {
                // Another edge gave it that cursor: head and repair first.
                self.check = true;
                if !rule!(AheadIsRepairedFirst) {
                    let reason = "since is above the horizon".to_owned();
                    self.start_unrecovered(socket, reason, out);
                }
            }
            return;
        };
        let since = if rule!(SinceIsTheLastSeqTheyHave) {
            since
        } else {
            since.map(|s| Seq(s.0 + 1).min(horizon))
        };
        let cursor = since.unwrap_or(horizon);
        reader.place = Place::At(cursor);
        if cursor == horizon {
            self.open(socket, None, out);
            self.hand_over(socket, out);
        } else if let Some(reason) = self.away.clone().filter(|_| !self.tail.covers(cursor)) {
            self.start_unrecovered(socket, reason, out);
        }
    }

    /// Answers a join that cannot be served from its cursor: from the horizon on, or, while that
    /// is unknown, with live messages only.
    pub(super) fn start_unrecovered<O: Outboxes>(
        &mut self,
        socket: SocketId,
        reason: String,
        out: &mut O,
    ) {
        if let Some(reader) = self.readers.get_mut(socket) {
            reader.place = self.horizon.map_or(Place::Nowhere, Place::At);
            self.open(socket, Some(reason), out);
            self.hand_over(socket, out);
        }
    }

    /// The store is away: answers the unanswered joins that fit.
    pub(super) fn serve_without_store<O: Outboxes>(
        &mut self,
        fits: impl Fn(&Self, &Reader) -> bool,
        out: &mut O,
    ) {
        let Some(reason) = self.away.clone() else {
            return;
        };
        let joins = self.readers.iter();
        let joins = joins.filter(|reader| !reader.answered && fits(self, reader));
        let joins: Vec<SocketId> = joins.map(HasSocket::socket).collect();
        for socket in joins {
            self.start_unrecovered(socket, reason.clone(), out);
        }
    }

    /// The reply, and the `replay` that comes before a join's rows. `lost` = why what is after
    /// `since` does not follow.
    fn open<O: Outboxes>(&mut self, socket: SocketId, lost: Option<String>, out: &mut O) {
        let Some(reader) = self.readers.get_mut(socket) else {
            return;
        };
        if lost.is_some() {
            self.counts.unrecovered += 1;
        }
        reader.answered = true;
        let reply = JoinReply {
            channel: self.channel,
            head: self.horizon,
            recovered: lost.is_none() || !rule!(LostIsTold),
            reason: lost,
        };
        out.joined(socket, reply);
        // Without a cursor too: the socket may have had frames of this channel before it left and
        // came again.
        if rule!(ReplayAtJoin) {
            let cursor = reader.cursor().unwrap_or(Seq(0));
            out.replay(socket, self.channel, cursor);
        }
    }

    /// A reader that has come up to the horizon gets what arrived above it, in order of arrival,
    /// and is attached when it has all.
    fn hand_over<O: Outboxes>(&mut self, socket: SocketId, out: &mut O) {
        let Some(reader) = self.readers.get_mut(socket) else {
            return;
        };
        if !reader.ordered && rule!(RecentIsHandedOver) {
            for (arrival, seq, frame) in self.recent.after(reader.arrival) {
                if !out.offer(socket, frame) {
                    if rule!(RefusedHandOverStaysReader) {
                        return;
                    }
                    break;
                }
                reader.sent = reader.sent.max(Some(seq));
                if rule!(ArrivalNumberIsKept) {
                    reader.arrival = arrival;
                }
            }
        }
        let attached = Attached::new(socket, self.recent.arrivals(), reader.sent.is_some());
        let (ordered, told) = (reader.ordered, reader.told);
        self.readers.remove(socket);
        if ordered {
            self.ordered.insert(attached);
        } else {
            self.plain.insert(attached);
        }
        if let Some(horizon) = self.horizon
            && !told
            && rule!(AttachIsTold)
        {
            out.synced(socket, self.channel, horizon);
        }
    }

    /// The outbox of a socket fell under half. A socket that is not reading is no error.
    pub fn room<O: Outboxes>(&mut self, socket: SocketId, out: &mut O) {
        let place = self.readers.get_mut(socket).map(|reader| {
            reader.closing = false;
            reader.place
        });
        let up_to_date = match place {
            Some(Place::At(cursor)) => Some(cursor) == self.horizon,
            Some(Place::Nowhere) => true,
            Some(Place::Joining { .. }) | None => false,
        };
        if up_to_date {
            self.hand_over(socket, out);
        }
    }

    /// The next page for the readers, if one that is behind has room.
    pub(super) fn next_page<O: Outboxes>(&mut self, now_ms: u64, out: &O) -> Option<Request> {
        if self.page.is_some() || !self.page_retry.is_due(now_ms) {
            return None;
        }
        let horizon = self.horizon?;
        let mut behind = false;
        let mut furthest: Option<Seq> = None;
        let mut longest: Option<(u64, Seq)> = None;
        for reader in self.readers.iter() {
            let Some(cursor) = self.reads_the_store(reader) else {
                continue;
            };
            behind = true;
            if !reader.closing && out.under_half(reader.socket) {
                furthest = Some(furthest.map_or(cursor, |other| other.min(cursor)));
                if longest.is_none_or(|(served, _)| reader.served < served) {
                    longest = Some((reader.served, cursor));
                }
            }
        }
        if !behind {
            // Those that waited for it are gone: its failures are no measure for the next ones.
            self.page_retry.succeeded();
        }
        let from = match longest? {
            (served, cursor) if served + PATIENCE_PAGES <= self.pages => cursor,
            _ => furthest?,
        };
        // Near the horizon it begins as far down as it is sure to hold everything: those who come
        // next, with cursors a little lower, find it in the tail.
        let sure = self.limits.page_rows() as u64 - 1;
        let from = from.min(Seq(horizon.0.saturating_sub(sure)));
        self.pages += 1;
        let id = self.limits.next_request();
        self.page = Some(Page {
            id,
            from,
            through: horizon,
        });
        Some(Request {
            id,
            ask: Ask::Range {
                from,
                through: horizon,
                limit: self.limits.page_rows(),
            },
        })
    }

    pub(super) fn page_answered<O: Outboxes>(
        &mut self,
        answer: Result<Answer, Failure>,
        now_ms: u64,
        out: &mut O,
    ) {
        let Some(page) = self.page.take() else {
            return;
        };
        match answer {
            Ok(Answer::Rows(rows)) => {
                self.away = None;
                self.page_retry.succeeded();
                self.serve_page(&page, &rows, out);
            }
            Ok(Answer::Head(_)) => debug_assert!(false, "a head is no answer to a page"),
            Err(failure) => self.page_failed(failure, now_ms, out),
        }
    }

    fn serve_page<O: Outboxes>(&mut self, page: &Page, rows: &[Frame], out: &mut O) {
        let end = match rows.last() {
            Some(last) if rows.len() >= self.limits.page_rows() => last.seq,
            last if !rule!(LastPageGoesToItsEnd) => last.map_or(page.from, |last| last.seq),
            _ => page.through,
        };
        self.tail.extend_down(page.from, end, rows);
        let served: Vec<SocketId> = self
            .readers
            .iter()
            .filter(|reader| {
                reader.cursor().is_some_and(|cursor| {
                    (page.from <= cursor || !rule!(PageServesFromItsStart))
                        && (cursor < end || !rule!(NoCursorGoesBack))
                })
            })
            .map(HasSocket::socket)
            .collect();
        for socket in served {
            if out.under_half(socket) {
                self.serve_reader(socket, rows, end, out);
            }
        }
    }

    /// Gives one reader its part of the page that ends at `end`.
    pub(super) fn serve_reader<O: Outboxes>(
        &mut self,
        socket: SocketId,
        rows: &[Frame],
        end: Seq,
        out: &mut O,
    ) {
        let pages = self.pages;
        let channel = self.channel;
        let Some(reader) = self.readers.get_mut(socket) else {
            return;
        };
        let Some(mut cursor) = reader.cursor() else {
            return;
        };
        reader.served = pages;
        if !reader.answered {
            self.open(socket, None, out);
        } else if reader.sent > Some(cursor) && rule!(ReplayBeforePage) {
            reader.sent = None;
            out.replay(socket, channel, cursor);
        }
        let start = if rule!(OnlyRowsAboveTheCursor) {
            rows.partition_point(|row| row.seq <= cursor)
        } else {
            0
        };
        let mut full = false;
        let before = cursor;
        for row in &rows[start..] {
            if !out.offer(socket, &row.bytes) {
                full = rule!(PageEndsWhereTheOutboxIsFull);
                break;
            }
            cursor = row.seq;
        }
        if !full {
            cursor = end;
        }
        if let Some(reader) = self.readers.get_mut(socket) {
            reader.place = Place::At(cursor);
            reader.closing = full && cursor == before;
            reader.told = true;
            if rule!(PageIsTold) {
                out.synced(socket, channel, cursor);
            }
        }
        if Some(cursor) == self.horizon {
            self.hand_over(socket, out);
        }
    }

    fn page_failed<O: Outboxes>(&mut self, failure: Failure, now_ms: u64, out: &mut O) {
        self.counts.failed += 1;
        self.page_retry.failed(now_ms, failure.jitter);
        // It tells when the store is back, if no reader asks by then.
        self.check = true;
        self.away = Some(failure.reason);
        let fits = |feed: &Self, reader: &Reader| feed.reads_the_store(reader).is_some();
        self.serve_without_store(fits, out);
        let behind = self.readers.iter();
        let behind = behind.filter(|reader| self.reads_the_store(reader).is_some());
        let behind: Vec<SocketId> = behind.map(HasSocket::socket).collect();
        if behind.is_empty() {
            self.page_retry.succeeded();
        }
        if !rule!(PromisedPageIsRepeated) {
            for socket in behind {
                if let Some(reader) = self.readers.get_mut(socket) {
                    reader.place = self.horizon.map_or(Place::Nowhere, Place::At);
                    self.hand_over(socket, out);
                }
            }
        } else if self.page_retry.failing_for_ms(now_ms) >= self.limits.page_patience_ms() {
            // What was promised cannot be given: they come again and are told.
            for socket in behind {
                self.leave(socket, out);
                self.counts.closed += 1;
                out.close(socket, CloseCode::Slow);
            }
            self.page_retry.succeeded();
        }
    }
}
