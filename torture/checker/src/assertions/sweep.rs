//! A7 too: while nothing is wrong, deliveries are live. What the sweep of heads had to find then
//! was lost without need, even if it came in the end: a feed that was not opened again after its
//! bus came back, or a head that was read before the subscription was there.

use std::collections::BTreeMap;

use crate::{
    Assertion,
    findings::Findings,
    history::Phase,
    index::{Gauge, Index},
};

const A7: Assertion = Assertion::A7;
/// What an edge counts when its sweep finds what nothing else told it.
const METRIC: &str = "hubbub_edge_feed_events_total";
const LABEL: &str = "kind=\"repaired_by_sweep\"";
/// What the last faults left behind is found in this time.
const AFTER_HEAL_US: u64 = 3_000_000;
/// A sample that belongs to the end of a stretch may be written down so much later.
const SAMPLED_LATE_US: u64 = 1_000_000;
/// The figures that are sampled together are written down within this.
const ROUND_US: u64 = 500_000;
/// A sweep that looks just before the announcement comes finds something now and then.
const ALLOWED: f64 = 3.0;
const ALLOWED_PER_MESSAGE: f64 = 0.001;

pub(super) fn check(index: &Index, findings: &mut Findings) {
    let stretch = |name, from, to, wait: u64| {
        let (from, to) = (index.phase(from)?, index.phase(to)?);
        Some((name, from + wait, to))
    };
    let stretches = [
        stretch("calm", Phase::Calm, Phase::Faults, 0),
        stretch("healed", Phase::Healed, Phase::Quiet, AFTER_HEAL_US),
    ];
    for (name, from, to) in stretches.into_iter().flatten() {
        one(index, name, from, to, findings);
    }
}

/// What was sampled of one process in one stretch.
#[derive(Default)]
struct Samples {
    /// The first sample of anything, and of this metric.
    any: Option<u64>,
    first: Option<(u64, f64)>,
    last: Option<(u64, f64)>,
}

fn one(index: &Index, stretch: &str, from: u64, to: u64, findings: &mut Findings) {
    let mut processes: BTreeMap<(u32, u32), Samples> = BTreeMap::new();
    let inside = |g: &&Gauge| from <= g.at && g.at <= to.saturating_add(SAMPLED_LATE_US);
    for gauge in index.gauges.iter().filter(inside) {
        let samples = processes.entry((gauge.process, gauge.pid)).or_default();
        samples.any.get_or_insert(gauge.at);
        let name = index.gauge_names.name(gauge.name);
        if name.starts_with(METRIC) && name.contains(LABEL) {
            samples.first.get_or_insert((gauge.at, gauge.value));
            samples.last = Some((gauge.at, gauge.value));
        }
    }
    let sent = index
        .messages
        .iter()
        .filter(|m| from <= m.invoked && m.invoked < to);
    let allowed = ALLOWED.max(sent.count() as f64 * ALLOWED_PER_MESSAGE);
    for ((process, pid), samples) in processes {
        let (Some(any), Some(first), Some(last)) = (samples.any, samples.first, samples.last)
        else {
            continue;
        };
        // A label appears with its first event: if it was not in the first round, it stood at 0.
        let before = if any + ROUND_US < first.0 {
            0.0
        } else {
            first.1
        };
        findings.checked(A7, 1);
        if last.1 - before > allowed {
            findings.broken(
                A7,
                "unseen (needed the sweep in calm)",
                Some(last.0),
                || {
                    format!(
                        "{} (pid {pid}) was told of {} messages by its sweep alone while it was \
                     {stretch}; {allowed} may be chance",
                        index.processes.name(process),
                        last.1 - before
                    )
                },
            );
        }
    }
}
