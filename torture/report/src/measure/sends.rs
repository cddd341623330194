use std::collections::HashMap;

use hubbub_checker::Event;
use hubbub_protocol::ErrorCode;

use super::series::Series;
use crate::measures::{Availability, Sends};

const SECOND_US: u64 = 1_000_000;

/// Whether a rejection says that the sender may not: no outage, but what it asked for.
pub(super) fn refuses(code: &str) -> bool {
    code == ErrorCode::ChannelNotFound.as_str() || code == ErrorCode::Forbidden.as_str()
}

/// Follows the attempts: how many were answered in time, and when nothing was acknowledged.
#[derive(Debug, Default)]
pub(super) struct Attempts {
    sends: Sends,
    /// Attempts without an answer: when they were invoked, and under which circumstances.
    pending: HashMap<u64, Pending>,
    /// Since when somebody tries and no `ok` came.
    trying_since: Option<u64>,
    /// Whether an attempt failed since then.
    failed: bool,
    last_us: u64,
    /// Times without any `ok` while sends were tried, ascending and apart from each other.
    gaps: Vec<(u64, u64)>,
}

#[derive(Debug)]
struct Pending {
    invoked_us: u64,
    calm: bool,
    under_fault: bool,
}

impl Attempts {
    /// Takes an event; `calm`: the phase is calm; `faults`: how many faults are on.
    pub(super) fn follow(
        &mut self,
        series: &mut Series,
        at_us: u64,
        event: &Event,
        calm: bool,
        faults: usize,
    ) {
        match event {
            Event::Invoke { op, .. } => {
                let pending = Pending {
                    invoked_us: at_us,
                    calm,
                    under_fault: faults > 0,
                };
                self.sends.attempts += 1;
                for availability in self.sends.availabilities(&pending) {
                    availability.attempts += 1;
                }
                series.at(at_us).attempts += 1;
                self.pending.insert(*op, pending);
                self.trying_since.get_or_insert(at_us);
                self.last_us = at_us;
            }
            Event::Ok { op, .. } => {
                let Some(pending) = self.pending.remove(op) else {
                    return;
                };
                self.sends.ok += 1;
                if at_us.saturating_sub(pending.invoked_us) <= SECOND_US {
                    for availability in self.sends.availabilities(&pending) {
                        availability.in_time += 1;
                    }
                    series.at(pending.invoked_us).in_time += 1;
                }
                self.gap_until(at_us);
                self.trying_since = (!self.pending.is_empty()).then_some(at_us);
                self.failed = false;
                self.last_us = at_us;
            }
            Event::Rejected { op, code } => {
                let Some(pending) = self.pending.remove(op) else {
                    return;
                };
                if refuses(code) {
                    self.refused(series, &pending);
                } else {
                    self.sends.rejected += 1;
                    self.failed = true;
                    self.last_us = at_us;
                }
            }
            Event::Unknown { op, .. } => {
                self.sends.unknown += u64::from(self.pending.remove(op).is_some());
                self.failed = true;
                self.last_us = at_us;
            }
            _ => {}
        }
    }

    /// Takes an attempt back that nobody had a right to.
    fn refused(&mut self, series: &mut Series, pending: &Pending) {
        self.sends.refused += 1;
        for availability in self.sends.availabilities(pending) {
            availability.attempts -= 1;
        }
        series.at(pending.invoked_us).attempts -= 1;
        if self.pending.is_empty() && !self.failed {
            self.trying_since = None;
        }
    }

    /// The counts and the gaps, once the history is over.
    pub(super) fn finish(mut self) -> (Sends, Vec<(u64, u64)>) {
        self.gap_until(self.last_us);
        self.sends.unanswered = self.pending.len() as u64;
        self.sends.longest_outage_us = self
            .gaps
            .iter()
            .map(|(from, to)| to - from)
            .max()
            .unwrap_or(0);
        (self.sends, self.gaps)
    }

    fn gap_until(&mut self, at_us: u64) {
        if let Some(since) = self.trying_since.filter(|since| *since < at_us) {
            self.gaps.push((since, at_us));
        }
    }
}

impl Sends {
    /// The shares that an attempt belongs to.
    fn availabilities(&mut self, pending: &Pending) -> impl Iterator<Item = &mut Availability> {
        let Self {
            whole,
            calm,
            under_fault,
            between_faults,
            ..
        } = self;
        [
            Some(whole),
            pending.calm.then_some(calm),
            Some(if pending.under_fault {
                under_fault
            } else {
                between_faults
            }),
        ]
        .into_iter()
        .flatten()
    }
}

/// The longest gap that overlaps a stretch of time, if one does: from when to when.
pub(super) fn longest_gap(gaps: &[(u64, u64)], from_us: u64, to_us: u64) -> Option<(u64, u64)> {
    let first = gaps.partition_point(|(_, to)| *to <= from_us);
    gaps[first..]
        .iter()
        .take_while(|(from, _)| *from < to_us)
        .max_by_key(|(from, to)| to - from)
        .copied()
}
