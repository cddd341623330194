//! The recovery against a model that looks at every moment anew.

use std::collections::{BTreeMap, BTreeSet};

use hubbub_checker::{Entry, Event, FaultKind};
use proptest::prelude::*;

use crate::history::{History, message};

/// One step of a made-up history: what happens, of whom, to which message.
type Step = (u8, u8, u8);

const DEVICES: u8 = 3;
const MESSAGES: u8 = 6;

fn name(device: u8) -> String {
    format!("reader-{device}")
}

/// A history with a step every 10 ms and a fault now and then. Message `n` has the seq `n + 1`.
fn history(steps: &[Step]) -> History {
    let mut history = History::default();
    let (mut op, mut fault) = (0, 0);
    let mut on: Option<u32> = None;
    let mut tried: BTreeMap<u8, Vec<u64>> = BTreeMap::new();
    for (at, (what, who, which)) in steps.iter().enumerate() {
        let ms = (at as u64 + 1) * 10;
        let device = name(who % DEVICES);
        let n = which % MESSAGES;
        match what % 18 {
            0 | 1 => {
                op += 1;
                tried.entry(n).or_default().push(op);
                history.invoke(ms, op, &message(u64::from(n) + 1));
            }
            answer @ 2..=4 => {
                if let Some(op) = tried.get_mut(&n).and_then(Vec::pop) {
                    match answer {
                        2 => history.ok(ms, op, Some(u64::from(n) + 1)),
                        3 => history.unknown(ms, op),
                        _ => history.rejected(ms, op),
                    };
                }
            }
            5 => {
                let since = u64::from(which % (MESSAGES + 1));
                history.joined(ms, &device, Some(since), Some(99), true, false);
            }
            6 => {
                history.joined(ms, &device, None, Some(u64::from(n)), false, true);
            }
            7 => {
                history.left(ms, &device);
            }
            11 | 12 => {
                history.join_asked(ms, &device, None, false);
            }
            13 => {
                history.evicted(ms, &device);
            }
            14 => {
                history.joined(ms, &device, Some(1), None, false, true);
            }
            15 => {
                history.replay(ms, &device, u64::from(which % (MESSAGES + 1)));
            }
            16 | 17 => {
                history.synced(ms, &device, u64::from(which % (MESSAGES + 1)));
            }
            8 | 9 => {
                history.given(ms, &device, u64::from(n) + 1);
            }
            _ => match on.take() {
                Some(number) => {
                    history.at(ms, Event::FaultEnded { number });
                }
                None => {
                    fault += 1;
                    on = Some(fault);
                    history.vacuous_fault(fault, FaultKind::EdgeKill, ms, ms);
                    // Its end comes with a later step.
                    history.0.pop();
                }
            },
        }
    }
    history
}

/// What is missing after the lines up to a moment: messages that no device was given, and sends.
#[derive(Debug, Default, PartialEq)]
struct Missing {
    devices: BTreeSet<(String, u64)>,
    sends: BTreeSet<u64>,
    /// Of these the ones whose attempts were all answered: when that was last.
    given_up: BTreeMap<u64, u64>,
}

/// From where on a device is due.
#[derive(Debug, Clone, Copy, PartialEq)]
enum From {
    /// Above this seq.
    Seq(u64),
    /// What was acknowledged after this moment.
    Moment(u64),
}

/// What a device's own client knows of its join.
#[derive(Debug, Default)]
struct Asking {
    asked: bool,
    overtaken: bool,
    forgotten: bool,
}

fn device_of(event: &Event) -> Option<&str> {
    match event {
        Event::Joined { device, .. }
        | Event::Left { device, .. }
        | Event::Replay { device, .. }
        | Event::Synced { device, .. } => Some(device),
        _ => None,
    }
}

/// What a device is told after a join that was answered without a join point.
fn told_later(rest: &[Entry], of: &str) -> Option<u64> {
    let mut replayed = 0;
    for entry in rest {
        if device_of(&entry.event) != Some(of) {
            continue;
        }
        match &entry.event {
            Event::Replay { since, .. } => replayed = since.0,
            Event::Synced { seq, .. } if replayed > 0 => return Some(replayed.min(seq.0)),
            Event::Synced { seq, .. } => return Some(seq.0),
            _ => return None,
        }
    }
    None
}

/// Reads everything up to a moment anew.
fn missing(entries: &[Entry], until_us: u64) -> Missing {
    let mut of_op = BTreeMap::new();
    let (mut acked, mut open) = (BTreeMap::new(), BTreeSet::new());
    let mut unknown = BTreeMap::new();
    let mut waiting = BTreeSet::new();
    let mut stays: BTreeMap<String, From> = BTreeMap::new();
    let mut clients: BTreeMap<String, Asking> = BTreeMap::new();
    let mut given = BTreeSet::new();
    let past = entries.iter().enumerate();
    for (at, entry) in past.take_while(|(_, entry)| entry.at_us <= until_us) {
        match &entry.event {
            Event::Invoke { op, record, .. } => {
                let n = record.id.0.as_u64_pair().1;
                of_op.insert(*op, n);
                waiting.insert(*op);
                open.insert(n);
            }
            Event::Ok { op, .. } => {
                waiting.remove(op);
                acked.entry(of_op[op]).or_insert(entry.at_us);
                open.remove(&of_op[op]);
                unknown.remove(&of_op[op]);
            }
            Event::Rejected { op, .. } => {
                waiting.remove(op);
                if !unknown.contains_key(&of_op[op]) {
                    open.remove(&of_op[op]);
                }
            }
            Event::Unknown { op, .. } => {
                waiting.remove(op);
                if open.contains(&of_op[op]) {
                    unknown.insert(of_op[op], entry.at_us);
                }
            }
            Event::Joined {
                device,
                since,
                head,
                recovered,
                ..
            } => {
                let client = clients.entry(device.clone()).or_default();
                if client.overtaken {
                    continue;
                }
                client.asked = false;
                if std::mem::take(&mut client.forgotten) {
                    given.retain(|(whose, _)| whose != device);
                }
                let since = since.filter(|_| *recovered);
                let named = since.or(*head).map(|seq| seq.0);
                let told = named.or_else(|| told_later(&entries[at + 1..], device));
                let goes_on = since.is_some() && matches!(stays.get(device), Some(From::Seq(_)));
                if !goes_on {
                    let from = told.map_or(From::Moment(entry.at_us), From::Seq);
                    stays.insert(device.clone(), from);
                }
            }
            Event::JoinAsked { device, .. } => {
                let client = clients.entry(device.clone()).or_default();
                client.asked = true;
                client.overtaken = false;
            }
            Event::Left {
                device, evicted, ..
            } => {
                stays.remove(device);
                let client = clients.entry(device.clone()).or_default();
                client.overtaken = !evicted && client.asked;
                client.forgotten |= !evicted || client.asked;
                client.asked = false;
            }
            Event::Given { device, record, .. } => {
                given.insert((device.clone(), record.seq.0));
            }
            _ => {}
        }
    }
    let devices = stays.iter().flat_map(|(device, from)| {
        let due = acked.iter().filter(move |(n, acked_us)| match from {
            From::Seq(seq) => *n > seq,
            From::Moment(moment) => *acked_us > moment,
        });
        due.map(move |(n, _)| (device.clone(), *n))
    });
    for op in waiting {
        unknown.remove(&of_op[&op]);
    }
    Missing {
        given_up: unknown,
        devices: devices.filter(|due| !given.contains(due)).collect(),
        sends: open,
    }
}

/// The recovery from a moment on: `None` if something never came that had been missing there and
/// not at an earlier end; and whether something was waived.
fn model(entries: &[Entry], end_us: u64, earlier: &[u64]) -> Option<u64> {
    let at_end = missing(entries, end_us);
    let mut last_us = 0;
    let mut due = at_end.devices;
    let mut sends = at_end.sends;
    for entry in entries.iter().filter(|entry| entry.at_us > end_us) {
        let now = missing(entries, entry.at_us);
        let given = |due: &(String, u64)| {
            matches!(&entry.event, Event::Given { device, record, .. }
                if *device == due.0 && record.seq.0 == due.1)
        };
        if due.iter().any(given) || sends.iter().any(|n| !now.sends.contains(n)) {
            last_us = entry.at_us - end_us;
        }
        // What is no longer due does not come back as missing.
        due.retain(|due| now.devices.contains(due));
        sends.retain(|n| now.sends.contains(n));
    }
    let given_up = missing(entries, u64::MAX).given_up;
    for n in &sends {
        let until_us = given_up.get(n).copied().unwrap_or(0);
        last_us = last_us.max(until_us.saturating_sub(end_us));
    }
    sends.retain(|n| !given_up.contains_key(n));
    let inherited = |what: &dyn Fn(&Missing) -> bool| {
        // Missing without a pause since an earlier end.
        earlier.iter().any(|earlier| {
            entries
                .iter()
                .filter(|entry| entry.at_us > *earlier && entry.at_us <= end_us)
                .all(|entry| what(&missing(entries, entry.at_us)))
                && what(&missing(entries, *earlier))
        })
    };
    let never = due
        .iter()
        .any(|due| !inherited(&|m| m.devices.contains(due)))
        || sends.iter().any(|n| !inherited(&|m| m.sends.contains(n)));
    (!never).then_some(last_us)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn recovery_is_as_the_model_says(steps in prop::collection::vec(any::<Step>(), 0..90)) {
        let mut history = history(&steps);
        let measures = history.measured();
        let ends: Vec<u64> = measures.clusters.iter().map(|c| c.end_us).collect();
        for (no, cluster) in measures.clusters.iter().enumerate() {
            let expected = model(&history.0, cluster.end_us, &ends[..no]);
            prop_assert_eq!(cluster.recovery_us, expected, "cluster {} of {:#?}", no, history.0);
        }
    }
}
