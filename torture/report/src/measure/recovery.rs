use std::collections::{HashMap, HashSet};

use hubbub_checker::Event;

use super::{
    bits::Bits,
    index::{Index, MessageNo},
    listeners::{Changed, JoinPoint, Listeners, PairNo},
};

/// Until when something was still missing that had been missing at the end of a cluster,
/// counted from that end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Times {
    pub(super) sends_us: u64,
    pub(super) plain_us: u64,
    pub(super) ordered_us: u64,
    pub(super) missing_sends: u64,
    pub(super) missing_plain: u64,
    pub(super) missing_ordered: u64,
    pub(super) waived: u64,
}

/// What a device lacks: since the end of which cluster, and whether it listens in order.
#[derive(Debug, Clone, Copy)]
struct Lack {
    since: usize,
    ordered: bool,
}

/// Finds for each moment, the end of a cluster, when all that was missing then had come.
///
/// What is missing at one moment and still missing at a later one counts for both. Memory: a bit
/// for each message and device that listens to its channel, and what is missing.
#[derive(Debug)]
pub(super) struct Recovery<'a> {
    index: &'a Index<'a>,
    /// The ends, ascending.
    ends: &'a [u64],
    times: Vec<Times>,
    /// How many ends are past.
    past: usize,
    /// Per channel the ranks of what was acknowledged.
    acked: Vec<Bits>,
    lacking: HashMap<PairNo, HashMap<u32, Lack>>,
    /// Messages without a definite answer.
    open: HashSet<MessageNo>,
    /// Of these the ones with an attempt whose outcome nobody knows: a rejection of another
    /// attempt does not settle them. With the moment when that was last said.
    unknown: HashMap<MessageNo, u64>,
    /// Messages that were open at an end: since which.
    overdue: HashMap<MessageNo, usize>,
    /// Attempts of each message that nobody has answered in any way.
    unanswered: HashMap<MessageNo, u32>,
}

impl<'a> Recovery<'a> {
    pub(super) fn new(index: &'a Index<'a>, ends: &'a [u64]) -> Self {
        Self {
            index,
            ends,
            times: vec![Times::default(); ends.len()],
            past: 0,
            acked: vec![Bits::default(); index.seqs.len()],
            lacking: HashMap::new(),
            open: HashSet::new(),
            unknown: HashMap::new(),
            overdue: HashMap::new(),
            unanswered: HashMap::new(),
        }
    }

    /// Takes stock at every end that is past at `at_us`. Call it before the event of that moment
    /// changes anything.
    pub(super) fn pass(&mut self, listeners: &Listeners<'_>, at_us: u64) {
        while self.ends.get(self.past).is_some_and(|end| *end < at_us) {
            self.take_stock(listeners);
            self.past += 1;
        }
    }

    /// Follows the sends and their answers.
    pub(super) fn follow(&mut self, at_us: u64, event: &Event) {
        let message = |op: &u64| self.index.attempts.get(op).copied();
        match event {
            Event::Invoke { op, .. } => {
                if let Some(no) = message(op) {
                    self.open.insert(no);
                    *self.unanswered.entry(no).or_default() += 1;
                }
            }
            Event::Ok { op, .. } => {
                if let Some(no) = message(op) {
                    self.tick_off(no);
                    let message = &self.index.messages[no as usize];
                    self.acked[message.channel as usize].insert(message.rank);
                    self.unknown.remove(&no);
                    self.answered(at_us, no);
                }
            }
            Event::Rejected { op, .. } => {
                if let Some(no) = message(op) {
                    self.tick_off(no);
                    if !self.unknown.contains_key(&no) {
                        self.answered(at_us, no);
                    }
                }
            }
            Event::Unknown { op, .. } => {
                if let Some(no) = message(op) {
                    self.tick_off(no);
                    // A late `unknown` of one attempt does not reopen what another one settled.
                    if self.open.contains(&no) {
                        self.unknown.insert(no, at_us);
                    }
                }
            }
            _ => {}
        }
    }

    /// A device was given a message.
    pub(super) fn given(&mut self, at_us: u64, pair: PairNo, rank: u32) {
        let Some(lacks) = self.lacking.get_mut(&pair) else {
            return;
        };
        if let Some(lack) = lacks.remove(&rank) {
            if lacks.is_empty() {
                self.lacking.remove(&pair);
            }
            for (times, end) in self.since(lack.since) {
                let us = if lack.ordered {
                    &mut times.ordered_us
                } else {
                    &mut times.plain_us
                };
                *us = at_us.saturating_sub(end);
            }
        }
    }

    /// A device left, or begins anew from a later place.
    pub(super) fn changed(&mut self, listeners: &Listeners<'_>, changed: Changed) {
        let (Changed::Left(pair) | Changed::Waived(pair)) = changed;
        let Some(mut lacks) = self.lacking.remove(&pair) else {
            return;
        };
        let stay = listeners.pairs[pair as usize].stay;
        lacks.retain(|rank, lack| {
            // Nothing missing is after a join point that is only a moment: it was acknowledged
            // before, and the device was never told that it is due all the same.
            let due = stay
                .is_some_and(|stay| matches!(stay.from, JoinPoint::Rank(from) if *rank >= from));
            if !due {
                self.times[lack.since].waived += 1;
            }
            due
        });
        if !lacks.is_empty() {
            self.lacking.insert(pair, lacks);
        }
    }

    /// How many messages their senders gave up: no more can be said of them, and no attempt waits.
    pub(super) fn abandoned(&self) -> u64 {
        let unknown = self.unknown.keys();
        unknown
            .filter(|no| !self.unanswered.contains_key(no))
            .count() as u64
    }

    /// The times, once the history is over.
    pub(super) fn finish(mut self, listeners: &Listeners<'_>) -> Vec<Times> {
        self.pass(listeners, u64::MAX);
        for lack in self.lacking.values().flat_map(HashMap::values) {
            if lack.ordered {
                self.times[lack.since].missing_ordered += 1;
            } else {
                self.times[lack.since].missing_plain += 1;
            }
        }
        for (no, since) in std::mem::take(&mut self.overdue) {
            match self.unknown.get(&no).copied() {
                // Given up by its sender: that is all the answer there can be.
                Some(last_us) if !self.unanswered.contains_key(&no) => {
                    for (times, end) in self.since(since) {
                        times.sends_us = times.sends_us.max(last_us.saturating_sub(end));
                    }
                }
                _ => self.times[since].missing_sends += 1,
            }
        }
        self.times
    }

    fn tick_off(&mut self, no: MessageNo) {
        if let Some(waiting) = self.unanswered.get_mut(&no) {
            *waiting -= 1;
            if *waiting == 0 {
                self.unanswered.remove(&no);
            }
        }
    }

    fn answered(&mut self, at_us: u64, no: MessageNo) {
        self.open.remove(&no);
        if let Some(since) = self.overdue.remove(&no) {
            for (times, end) in self.since(since) {
                times.sends_us = at_us.saturating_sub(end);
            }
        }
    }

    /// The past ends from a number on, with their times.
    fn since(&mut self, first: usize) -> impl Iterator<Item = (&mut Times, u64)> {
        self.times[first..self.past]
            .iter_mut()
            .zip(self.ends[first..].iter().copied())
    }

    fn take_stock(&mut self, listeners: &Listeners<'_>) {
        for no in &self.open {
            self.overdue.entry(*no).or_insert(self.past);
        }
        for (no, pair) in listeners.pairs.iter().enumerate() {
            let Some(stay) = pair.stay else { continue };
            let acked = &self.acked[pair.channel as usize];
            for rank in acked.without(&pair.given) {
                if self.due(pair.channel, rank, stay.from) {
                    self.lacking
                        .entry(no as PairNo)
                        .or_default()
                        .entry(rank)
                        .or_insert(Lack {
                            since: self.past,
                            ordered: stay.ordered,
                        });
                }
            }
        }
    }

    fn due(&self, channel: u32, rank: u32, from: JoinPoint) -> bool {
        match from {
            JoinPoint::Rank(from) => rank >= from,
            JoinPoint::After(moment) => self
                .index
                .acknowledged(channel, rank)
                .is_some_and(|ok_us| ok_us > moment),
        }
    }
}
