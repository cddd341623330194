//! A13, leak: when the faults are over and the run is quiet, each process holds what it held at
//! the end of the calm stretch: descriptors, places in queues, memory.
//!
//! A leak stays, so the lowest of the final samples counts. A process that was started after the
//! baseline is held against its own first final sample. Memory has 16 MiB of room beside the
//! tenth: an allocator does not give back what it had at its peak.

use std::collections::BTreeMap;

use crate::{Assertion, findings::Findings, history::Phase, index::Index};

const A13: Assertion = Assertion::A13;
const SHARE: f64 = 0.1;
const DESCRIPTORS: f64 = 8.0;
const RSS_BYTES: f64 = 16.0 * 1024.0 * 1024.0;
/// Gauges of what waits, without prefix and labels: empty in a quiet system.
const QUEUES: [&str; 10] = [
    "append_queue",
    "sends_in_flight",
    "publish_queue",
    "batches_in_flight",
    "inbox_depth",
    "store_queue",
    "outbox_bytes",
    "waiting_partitions",
    "consume_lag",
    "api_waiters",
];

/// How much more than before is still the same.
fn room(name: &str) -> Option<f64> {
    match name {
        "rss_bytes" => Some(RSS_BYTES),
        "descriptors" | "threads" | "tasks" => Some(DESCRIPTORS),
        name => {
            let base = name.split('{').next().unwrap_or(name);
            QUEUES.iter().any(|q| base.ends_with(q)).then_some(0.0)
        }
    }
}

#[derive(Debug, Default)]
struct Samples {
    calm: Option<f64>,
    first: Option<f64>,
    last: Option<f64>,
    lowest: f64,
    finals: u32,
    at: u64,
}

pub(super) fn check(index: &Index, findings: &mut Findings) {
    let mut all: BTreeMap<(u32, u32, u32), Samples> = BTreeMap::new();
    for gauge in &index.gauges {
        let key = (gauge.process, gauge.pid, gauge.name);
        let samples = all.entry(key).or_default();
        match gauge.phase {
            Some(Phase::Calm) => samples.calm = Some(gauge.value),
            Some(Phase::Final) => {
                if samples.finals == 0 {
                    samples.first = Some(gauge.value);
                    samples.lowest = gauge.value;
                }
                samples.finals += 1;
                samples.lowest = samples.lowest.min(gauge.value);
                samples.last = Some(gauge.value);
                samples.at = gauge.at;
            }
            _ => {}
        }
    }
    for ((process, pid, name), samples) in all {
        let name = index.gauge_names.name(name);
        let Some(room) = room(name) else { continue };
        let (before, after) = match (samples.calm, samples.first, samples.last) {
            (Some(calm), Some(_), _) => (calm, samples.lowest),
            (None, Some(first), Some(last)) if samples.finals > 1 => (first, last),
            _ => continue,
        };
        findings.checked(A13, 1);
        if after > before + room.max(before * SHARE) {
            findings.broken(A13, "leak", Some(samples.at), || {
                let process = index.processes.name(process);
                format!("{process} (pid {pid}): {name} was {before} and is {after}")
            });
        }
    }
}
