use std::{collections::BTreeSet, num::NonZeroUsize};

use hubbub_protocol::{Body, JoinReply, MessageKey, Seq};
use lru::LruCache;
use tokio::time::Instant;

use crate::{Backoff, Event, Joined, Via};

/// Where a join stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// To be asked as soon as there is a connection.
    Queued,
    /// Asked with this request id. Frames of the channel that come before the reply belong to an
    /// earlier join and are ignored: the new one gives them again.
    Asked(i64),
    /// Refused for now; to be asked again then.
    Delayed(Instant),
    /// Joined.
    Live,
}

/// One channel that the application listens to: the cursor rule of the design's section 4, and
/// what it takes to hand on each message once. No I/O.
#[derive(Debug)]
pub(crate) struct Listening {
    pub(crate) phase: Phase,
    pub(crate) ordered: bool,
    pub(crate) backoff: Backoff,
    /// Everything through here was given; `None` until the server said where we stand.
    cursor: Option<Seq>,
    /// Where to go on from while there is no cursor: what the application asked for, or the
    /// cursor before a join that could not say where it stands.
    since: Option<Seq>,
    /// Seqs above the cursor that were given, or belong to suppressed shadows.
    seen: BTreeSet<Seq>,
    seen_bound: usize,
    /// The lowest seq known of each recent message.
    ids: LruCache<MessageKey, Seq>,
    /// The head of the last reply: what is not above it is a catch-up.
    joined_at: Option<Seq>,
    replaying: bool,
}

impl Listening {
    pub(crate) fn new(
        since: Option<Seq>,
        ordered: bool,
        ids: usize,
        seqs: usize,
        backoff: Backoff,
    ) -> Self {
        Self {
            phase: Phase::Queued,
            ordered,
            backoff,
            cursor: None,
            since,
            seen: BTreeSet::new(),
            seen_bound: seqs.max(1),
            // Sparse: a client may have a thousand quiet channels.
            ids: LruCache::sparse(NonZeroUsize::new(ids).unwrap_or(NonZeroUsize::MIN)),
            joined_at: None,
            replaying: false,
        }
    }

    /// The `since` of the next join.
    pub(crate) fn since(&self) -> Option<Seq> {
        self.cursor.or(self.since)
    }

    /// The connection is gone; the join is to be asked again.
    pub(crate) fn disconnected(&mut self) {
        self.phase = Phase::Queued;
        self.replaying = false;
    }

    /// The server joined us.
    pub(crate) fn joined(&mut self, reply: JoinReply) -> Event {
        let asked = self.since();
        match (asked, reply.recovered, reply.head) {
            (Some(since), true, _) => self.advance(since),
            // Not `max`: after a join that could not go on from our cursor the server stands at
            // its head, even if that is lower.
            (_, _, Some(head)) => {
                self.cursor = Some(head);
                self.forget_through(head);
            }
            // Nobody knows where we stand. The next join may still go on from the old cursor.
            (_, _, None) => {
                self.since = asked;
                self.cursor = None;
            }
        }
        self.joined_at = reply.head;
        self.replaying = false;
        self.phase = Phase::Live;
        self.backoff.reset();
        Event::Joined(Joined {
            reply,
            since: asked,
        })
    }

    /// The server joined us by itself and says where we stand.
    pub(crate) fn placed(&mut self, head: Option<Seq>) {
        self.cursor = head;
        self.joined_at = head;
        self.phase = Phase::Live;
    }

    /// A record arrived. `None`: it is had already, or a shadow of one that is.
    pub(crate) fn record(&mut self, seq: Seq, body: Body) -> Option<Event> {
        if self.cursor.is_some_and(|cursor| seq <= cursor) || !self.see(seq) {
            return None;
        }
        let key = body.key();
        match self.ids.get_mut(&key) {
            Some(known) if *known <= seq => None,
            Some(known) => {
                let from = std::mem::replace(known, seq);
                Some(Event::Reseq {
                    channel: body.channel(),
                    key,
                    from,
                    to: seq,
                })
            }
            None => {
                self.ids.push(key, seq);
                let old = self.joined_at.is_some_and(|head| seq <= head);
                let via = if old || self.replaying {
                    Via::CatchUp
                } else {
                    Via::Live
                };
                Some(Event::Record { seq, body, via })
            }
        }
    }

    pub(crate) fn replay(&mut self) {
        self.replaying = true;
    }

    /// Everything through `seq` has been given.
    pub(crate) fn synced(&mut self, seq: Seq) {
        self.replaying = false;
        self.advance(seq);
    }

    fn advance(&mut self, to: Seq) {
        let cursor = self.cursor.map_or(to, |cursor| cursor.max(to));
        self.cursor = Some(cursor);
        self.since = None;
        self.forget_through(cursor);
    }

    fn forget_through(&mut self, seq: Seq) {
        self.seen = self.seen.split_off(&Seq(seq.0.saturating_add(1)));
    }

    /// Notes a seq; false if it was noted already.
    fn see(&mut self, seq: Seq) -> bool {
        let new = self.seen.insert(seq);
        if self.seen.len() > self.seen_bound {
            self.seen.pop_first();
        }
        new
    }

    #[cfg(test)]
    pub(crate) fn remembered(&self) -> (usize, usize) {
        (self.seen.len(), self.ids.len())
    }
}
