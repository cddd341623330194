//! What a history says about what people saw. The counts of losses, doubles and disorder are the
//! checker's; this adds which fault a loss followed, how long messages took, and what the store
//! says about the acknowledged ones.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap, HashSet, hash_map};

use hubbub_checker::{
    Assertion, Entry, Event, FaultKind, Scope, Verdict, check_within,
    history::{Phase, Record},
};
use hubbub_protocol::{ChannelId, MessageId, Seq};
use serde::{Deserialize, Serialize};

/// Figures of one run, or the sums of several.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Figures {
    /// Messages that were said.
    pub sent: u64,
    /// Of these, acknowledged.
    pub acked: u64,
    /// Of these, refused or never answered.
    pub unanswered: u64,
    /// Acknowledged messages times the devices that listened before and after.
    pub owed: u64,
    /// Of these, never shown, though the device's listening went on for two seconds at least
    /// after the acknowledgement, or was said to have been caught up (A6).
    pub lost_unnoticed: u64,
    /// Of these, never shown because the device was away for a moment and was not caught up.
    pub lost_while_away: u64,
    /// Shown again to the same device (A3).
    pub doubled: u64,
    /// Handed on after a later message of the same sender (A9).
    pub out_of_order: u64,
    /// The same for a view that sorts by seq; absent for systems without seqs.
    pub out_of_order_by_seq: Option<u64>,
    /// Shown though nobody said it, or though it was refused; or with another text (A2).
    pub phantom: u64,
    /// Acknowledged and not in the store; absent for systems without one.
    pub acked_not_stored: Option<u64>,
    /// Shown to somebody and not in the store; absent for systems without one.
    pub shown_not_stored: Option<u64>,
    /// Reconnects after which the device was told that it has everything.
    pub recovered: u64,
    /// Reconnects after which it was told that something may be missing.
    pub unrecovered: u64,
    /// Lost deliveries by the kind of the last fault before the acknowledgement.
    pub lost_by_fault: BTreeMap<String, u64>,
    /// From the send to the screen, sorted, microseconds.
    #[serde(skip)]
    pub latencies_us: Vec<u64>,
}

impl Figures {
    /// All that was owed and never shown.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lost_unnoticed + self.lost_while_away
    }

    /// A quantile of the time from send to screen, milliseconds; `None` if nothing was shown.
    #[must_use]
    pub fn latency_ms(&self, per_mille: usize) -> Option<u64> {
        let last = self.latencies_us.len().checked_sub(1)?;
        let us = self.latencies_us.get(last * per_mille / 1_000)?;
        Some(us / 1_000)
    }

    /// Adds another run.
    pub fn add(&mut self, other: &Self) {
        self.sent += other.sent;
        self.acked += other.acked;
        self.unanswered += other.unanswered;
        self.owed += other.owed;
        self.lost_unnoticed += other.lost_unnoticed;
        self.lost_while_away += other.lost_while_away;
        self.doubled += other.doubled;
        self.out_of_order += other.out_of_order;
        add(&mut self.out_of_order_by_seq, other.out_of_order_by_seq);
        self.phantom += other.phantom;
        add(&mut self.acked_not_stored, other.acked_not_stored);
        add(&mut self.shown_not_stored, other.shown_not_stored);
        self.recovered += other.recovered;
        self.unrecovered += other.unrecovered;
        for (kind, count) in &other.lost_by_fault {
            *self.lost_by_fault.entry(kind.clone()).or_default() += count;
        }
        self.latencies_us.extend(&other.latencies_us);
        self.latencies_us.sort_unstable();
    }
}

fn add(sum: &mut Option<u64>, more: Option<u64>) {
    if let Some(more) = more {
        *sum = Some(sum.unwrap_or(0) + more);
    }
}

/// A message as its writer saw it.
struct Said {
    record: Record,
    invoked: u64,
    acked: Option<u64>,
}

/// Reads a history for the devices that are `wanted`. Also returns the checker's own words.
pub(crate) fn read(entries: &[Entry], wanted: impl Fn(&str) -> bool) -> (Figures, Verdict) {
    let ours: Vec<Entry> = entries
        .iter()
        .filter(|entry| device_of(&entry.event).is_none_or(&wanted))
        .cloned()
        .collect();
    let verdict = check_within(&Scope::delivery(), ours.clone());
    let broken = |assertion| verdict.broken.get(&assertion).copied().unwrap_or(0);
    let counted = |name| verdict.counts.get(name).copied().unwrap_or(0);
    let said = said(&ours);
    let acked = |id: &MessageId| said.get(id).is_some_and(|m| m.acked.is_some());
    let seen = Seen::of(&ours, &said);
    let mut figures = Figures {
        sent: said.len() as u64,
        acked: said.keys().filter(|id| acked(id)).count() as u64,
        unanswered: said.keys().filter(|id| !acked(id)).count() as u64,
        lost_unnoticed: broken(Assertion::A6),
        lost_while_away: counted("missed_while_away"),
        doubled: broken(Assertion::A3),
        out_of_order: broken(Assertion::A9),
        out_of_order_by_seq: seen.out_of_order_by_seq(&said),
        phantom: broken(Assertion::A2),
        recovered: seen.recovered,
        unrecovered: seen.unrecovered,
        ..Figures::default()
    };
    seen.owed(&ours, &said, &mut figures);
    if let Some(stored) = stored(&ours) {
        let missing = |id: &&MessageId| !stored.contains(*id);
        let acked = said.keys().filter(|id| acked(id));
        figures.acked_not_stored = Some(acked.filter(missing).count() as u64);
        let shown: HashSet<&MessageId> = seen.given.iter().map(|(_, id, ..)| id).collect();
        figures.shown_not_stored = Some(shown.into_iter().filter(missing).count() as u64);
    }
    figures.latencies_us = seen.latencies(&said);
    (figures, verdict)
}

fn device_of(event: &Event) -> Option<&str> {
    match event {
        Event::Opened { device, .. }
        | Event::Closed { device, .. }
        | Event::Joined { device, .. }
        | Event::Given { device, .. } => Some(device),
        _ => None,
    }
}

fn said(entries: &[Entry]) -> HashMap<MessageId, Said> {
    let mut said = HashMap::new();
    let mut ops = HashMap::new();
    for entry in entries {
        match &entry.event {
            Event::Invoke { op, record, .. } => {
                ops.insert(*op, record.id);
                said.insert(
                    record.id,
                    Said {
                        record: record.clone(),
                        invoked: entry.at_us,
                        acked: None,
                    },
                );
            }
            Event::Ok { op, .. } => {
                if let Some(said) = ops.get(op).and_then(|id| said.get_mut(id)) {
                    said.acked.get_or_insert(entry.at_us);
                }
            }
            _ => {}
        }
    }
    said
}

/// The ids that history has; `None` if the system has none.
fn stored(entries: &[Entry]) -> Option<HashSet<MessageId>> {
    let pages = entries.iter().filter_map(|entry| match &entry.event {
        Event::Page { entries, .. } => Some(entries),
        _ => None,
    });
    let mut stored = None;
    for page in pages {
        let ids = page.iter().map(|(_, id)| *id);
        stored.get_or_insert_with(HashSet::new).extend(ids);
    }
    stored
}

/// What devices saw.
struct Seen<'a> {
    /// In order: device, message, seq, time.
    given: Vec<(&'a str, MessageId, Seq, u64)>,
    /// When each device joined each channel first.
    joined: HashMap<(&'a str, ChannelId), u64>,
    recovered: u64,
    unrecovered: u64,
}

impl<'a> Seen<'a> {
    fn of(entries: &'a [Entry], said: &HashMap<MessageId, Said>) -> Self {
        let mut seen = Self {
            given: Vec::new(),
            joined: HashMap::new(),
            recovered: 0,
            unrecovered: 0,
        };
        for entry in entries {
            match &entry.event {
                Event::Joined {
                    device,
                    channel,
                    since,
                    recovered,
                    ..
                } => match seen.joined.entry((device.as_str(), *channel)) {
                    hash_map::Entry::Vacant(first) => {
                        first.insert(entry.at_us);
                    }
                    hash_map::Entry::Occupied(_) => {
                        let caught_up = since.is_some() && *recovered;
                        seen.recovered += u64::from(caught_up);
                        seen.unrecovered += u64::from(!caught_up);
                    }
                },
                Event::Given { device, record, .. } if said.contains_key(&record.id) => {
                    seen.given
                        .push((device, record.id, record.seq, entry.at_us));
                }
                _ => {}
            }
        }
        seen
    }

    /// Counts what was owed, and after which fault the losses came.
    fn owed(&self, entries: &[Entry], said: &HashMap<MessageId, Said>, figures: &mut Figures) {
        let faults: Vec<(u64, FaultKind)> = entries
            .iter()
            .filter_map(|entry| match &entry.event {
                Event::FaultStarted(fault) => Some((entry.at_us, fault.kind)),
                _ => None,
            })
            .collect();
        let given: HashSet<(&str, &MessageId)> = self
            .given
            .iter()
            .map(|(device, id, ..)| (*device, id))
            .collect();
        for ((device, channel), joined) in &self.joined {
            for (id, message) in said {
                let Some(acked) = message.acked else { continue };
                if message.record.channel != *channel || message.invoked <= *joined {
                    continue;
                }
                figures.owed += 1;
                if given.contains(&(*device, id)) {
                    continue;
                }
                let before = faults.iter().rev().find(|(at, _)| *at <= acked);
                let kind = before.map_or("no fault yet".to_owned(), |(_, kind)| word(*kind));
                *figures.lost_by_fault.entry(kind).or_default() += 1;
            }
        }
    }

    /// As the checker counts disorder, for those who show messages in order of their seqs.
    fn out_of_order_by_seq(&self, said: &HashMap<MessageId, Said>) -> Option<u64> {
        let mut sorted = self.given.clone();
        if sorted.iter().any(|(_, _, seq, _)| *seq == Seq::ZERO) {
            return None;
        }
        sorted.sort_by_key(|(device, _, seq, _)| (*device, *seq));
        let (mut latest, mut count) = (HashMap::new(), 0);
        for (device, id, ..) in &sorted {
            let message = said.get(id)?;
            let key = (*device, message.record.channel, message.record.user);
            let last = latest.entry(key).or_insert(0);
            count += u64::from(message.acked.is_some_and(|acked| acked < *last));
            *last = message.invoked.max(*last);
        }
        Some(count)
    }

    fn latencies(&self, said: &HashMap<MessageId, Said>) -> Vec<u64> {
        let mut first = HashSet::new();
        let shown = self
            .given
            .iter()
            .filter(|(d, id, ..)| first.insert((*d, *id)));
        let mut latencies: Vec<u64> = shown
            .filter_map(|(_, id, _, at)| Some(at.saturating_sub(said.get(id)?.invoked)))
            .collect();
        latencies.sort_unstable();
        latencies
    }
}

fn word(kind: FaultKind) -> String {
    match kind {
        FaultKind::EdgeKill => "server killed".to_owned(),
        FaultKind::PubsubKill => "Redis connections killed".to_owned(),
        FaultKind::RedisKill => "Redis killed".to_owned(),
        FaultKind::ClientReset => "client reset".to_owned(),
        FaultKind::ClientSilent => "client silent".to_owned(),
        other => format!("{other:?}"),
    }
}

/// Whether all of a plan's faults happened and all of its stretches are there.
pub(crate) fn complete(entries: &[Entry], faults: usize) -> bool {
    let seen = entries
        .iter()
        .filter(|entry| matches!(entry.event, Event::FaultSeen { .. }));
    let finally = |entry: &Entry| entry.event == Event::Phase(Phase::Final);
    seen.count() == faults && entries.iter().any(finally)
}
