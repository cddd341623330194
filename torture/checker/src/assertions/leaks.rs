//! A13, leak: when the faults are over and the run is quiet, each process holds what it held at
//! the end of the calm stretch: descriptors, places in queues, memory.
//!
//! A leak stays, so the lowest of the final samples counts, of those that were taken half a minute
//! after the last fault: by then connections that a fault has piled up are idle and closed. A
//! process that was started anew is held against what its predecessor of the same name had in the
//! calm stretch; one that had none, against its own first final sample. Memory
//! has 16 MiB of room beside the tenth: an allocator does not give back what it had at its peak.
//! A socket of a client is a descriptor, and faults move clients from edge to edge; a connection to
//! a database is one, and is opened when it is needed and kept: so descriptors are held against the
//! baseline and what came or went in both. Connections to a database have a bound of their own.

use std::collections::BTreeMap;

use crate::{
    Assertion,
    findings::Findings,
    history::Phase,
    index::{Gauge, Index},
};

const A13: Assertion = Assertion::A13;
/// After the last fault.
const SETTLED_US: u64 = 30_000_000;
const SOCKETS: &str = "edge_sockets";
/// The database follows in labels.
const CONNECTIONS: &str = "store_connections_open";
const CONNECTIONS_MAX: &str = "store_connections_max";
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
            let base = base(name);
            QUEUES.iter().any(|q| base.ends_with(q)).then_some(0.0)
        }
    }
}

/// A figure's name without its labels.
fn base(name: &str) -> &str {
    name.split('{').next().unwrap_or(name)
}

#[derive(Debug, Default)]
struct Samples {
    /// The first of the final ones, of whatever time.
    first: Option<f64>,
    /// Of the final ones that are late enough.
    last: Option<f64>,
    lowest: f64,
    at: u64,
}

impl Samples {
    fn take(&mut self, gauge: &Gauge, settled: u64) {
        self.first.get_or_insert(gauge.value);
        if gauge.at < settled {
            return;
        }
        if self.last.is_none_or(|_| gauge.value < self.lowest) {
            self.lowest = gauge.value;
        }
        self.last = Some(gauge.value);
        self.at = gauge.at;
    }

    /// What it was, and what it is.
    fn before_and_after(&self, calm: Option<f64>) -> Option<(f64, f64)> {
        let last = self.last?;
        match calm {
            Some(calm) => Some((calm, self.lowest)),
            None => Some((self.first?, last)),
        }
    }
}

/// The final samples of each figure, by process, pid and name.
type All = BTreeMap<(u32, u32, u32), Samples>;
/// What each figure was at the end of the calm stretch, by process and name.
type Calm = BTreeMap<(u32, u32), f64>;

pub(super) fn check(index: &Index, findings: &mut Findings) {
    let ends = index.faults.windows.iter().map(|w| w.to);
    let settled = ends.max().map_or(0, |end| end.saturating_add(SETTLED_US));
    let (mut calm, mut all) = (Calm::new(), All::new());
    for gauge in &index.gauges {
        match gauge.phase {
            Some(Phase::Calm) => {
                calm.insert((gauge.process, gauge.name), gauge.value);
            }
            Some(Phase::Final) => {
                let key = (gauge.process, gauge.pid, gauge.name);
                all.entry(key).or_default().take(gauge, settled);
            }
            _ => {}
        }
    }
    let moved = moved(index, &calm, &all);
    connections(index, &all, findings);
    for ((process, pid, name), samples) in &all {
        let calm = calm.get(&(*process, *name)).copied();
        let name = index.gauge_names.name(*name);
        let (Some(room), Some((before, after))) = (room(name), samples.before_and_after(calm))
        else {
            continue;
        };
        let moved = moved
            .get(&(*process, *pid))
            .filter(|_| name == "descriptors");
        let expected = before + moved.copied().unwrap_or(0.0);
        findings.checked(A13, 1);
        if after > expected + room.max(before * SHARE) {
            findings.broken(A13, "leak", Some(samples.at), || {
                let process = index.processes.name(*process);
                format!(
                    "{process} (pid {pid}): {name} was {before}, may be about {expected} and is \
                     {after}"
                )
            });
        }
    }
}

/// How many sockets of clients and connections to databases came, or went, at each process.
fn moved(index: &Index, calm: &Calm, all: &All) -> BTreeMap<(u32, u32), f64> {
    let mut moved = BTreeMap::new();
    for ((process, pid, name), samples) in all {
        let base = base(index.gauge_names.name(*name));
        if !base.ends_with(SOCKETS) && base != CONNECTIONS {
            continue;
        }
        let calm = calm.get(&(*process, *name)).copied();
        if let (Some((before, _)), Some(last)) = (samples.before_and_after(calm), samples.last) {
            *moved.entry((*process, *pid)).or_default() += last - before;
        }
    }
    moved
}

/// No process has more connections to a database than it may have.
fn connections(index: &Index, all: &All, findings: &mut Findings) {
    for ((process, pid, name), samples) in all {
        let Some(labels) = index.gauge_names.name(*name).strip_prefix(CONNECTIONS) else {
            continue;
        };
        let max = format!("{CONNECTIONS_MAX}{labels}");
        let max = index.gauge_names.find(max.as_str());
        let max = max.and_then(|max| all.get(&(*process, *pid, max))?.last);
        let (Some(open), Some(max)) = (samples.last, max) else {
            continue;
        };
        findings.checked(A13, 1);
        if open > max {
            findings.broken(A13, "leak", Some(samples.at), || {
                let process = index.processes.name(*process);
                format!("{process} (pid {pid}): {open} connections are open, {max} may be{labels}")
            });
        }
    }
}
