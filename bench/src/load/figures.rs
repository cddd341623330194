use hdrhistogram::Histogram;
use serde::Serialize;

use super::ledger::{Counts, Ledger};
use crate::wire::clock::{CpuTime, now_ns};

/// Percentiles of a histogram of nanoseconds; zeros when nothing was recorded.
#[derive(Debug, Serialize)]
pub(super) struct Percentiles {
    count: u64,
    p50: u64,
    p90: u64,
    p99: u64,
    p999: u64,
    max: u64,
}

impl From<&Histogram<u64>> for Percentiles {
    fn from(histogram: &Histogram<u64>) -> Self {
        Self {
            count: histogram.len(),
            p50: histogram.value_at_quantile(0.5),
            p90: histogram.value_at_quantile(0.9),
            p99: histogram.value_at_quantile(0.99),
            p999: histogram.value_at_quantile(0.999),
            max: histogram.max(),
        }
    }
}

/// What the sockets did, whatever it meant.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Traffic {
    pub(super) reads: u64,
    pub(super) bytes_read: u64,
    pub(super) writes: u64,
    pub(super) bytes_written: u64,
}

/// Where everything stood when a run began.
#[derive(Debug)]
pub(super) struct Baseline {
    sent: u64,
    acked: u64,
    acks_duplicated: u64,
    brisk: Counts,
    /// Of slow sockets: what they miss at the end of a run counts until they are drained.
    pub(super) slow: Counts,
    traffic: Traffic,
    cpu: CpuTime,
    pub(super) started_ns: u64,
}

/// When a run had everything.
#[derive(Debug, Clone, Copy)]
pub(super) struct Finish {
    at_ns: u64,
    cpu: CpuTime,
    pub(super) complete: bool,
}

impl Finish {
    /// Now.
    pub(super) fn now(complete: bool) -> Self {
        Self {
            at_ns: now_ns(),
            cpu: CpuTime::now(),
            complete,
        }
    }
}

#[derive(Debug, Serialize)]
struct Received {
    expected: u64,
    delivered: u64,
    lost: u64,
    duplicated: u64,
    misordered: u64,
    repeated: u64,
}

impl Received {
    /// What came since the run began. What an earlier run lost is its own loss, and not this one's.
    fn since(now: Counts, then: Counts) -> Self {
        let owed = now.expected - now.delivered;
        Self {
            expected: now.expected - then.expected,
            delivered: now.delivered - then.delivered,
            lost: owed.saturating_sub(then.expected - then.delivered),
            duplicated: now.duplicated - then.duplicated,
            misordered: now.misordered - then.misordered,
            repeated: now.repeated - then.repeated,
        }
    }
}

/// The lines `ready`, `done` and `drained`.
#[derive(Debug, Serialize)]
pub(super) struct Done {
    event: &'static str,
    complete: bool,
    sockets: usize,
    sent: u64,
    acked: u64,
    acks_lost: u64,
    acks_duplicated: u64,
    #[serde(flatten)]
    brisk: Received,
    #[serde(skip_serializing_if = "Option::is_none")]
    slow: Option<Received>,
    wall_ns: u64,
    user_ns: u64,
    system_ns: u64,
    latency_ns: Percentiles,
    ack_latency_ns: Percentiles,
    connect_ns: Percentiles,
    bytes_read: u64,
    reads: u64,
    bytes_written: u64,
    write_calls: u64,
}

impl Baseline {
    /// Before the first message of a run; the histograms start anew.
    pub(super) fn take(ledger: &mut Ledger, traffic: Traffic) -> Self {
        ledger.latency.reset();
        ledger.ack_latency.reset();
        Self {
            sent: ledger.sent,
            acked: ledger.acked,
            acks_duplicated: ledger.acks_duplicated,
            brisk: ledger.brisk,
            slow: ledger.slow,
            traffic,
            cpu: CpuTime::now(),
            started_ns: now_ns(),
        }
    }

    /// What the run came to. Slow sockets have a part of their own if there are any.
    pub(super) fn done(
        &self,
        event: &'static str,
        ledger: &Ledger,
        traffic: Traffic,
        finish: Finish,
        (sockets, slow_sockets): (usize, usize),
        connects: &Histogram<u64>,
    ) -> Done {
        let cpu = finish.cpu - self.cpu;
        let unacked = if ledger.wants_acks() {
            ledger.sent - ledger.acked
        } else {
            0
        };
        let unacked_then = if ledger.wants_acks() {
            self.sent - self.acked
        } else {
            0
        };
        Done {
            event,
            complete: finish.complete,
            sockets,
            sent: ledger.sent - self.sent,
            acked: ledger.acked - self.acked,
            acks_lost: unacked.saturating_sub(unacked_then),
            acks_duplicated: ledger.acks_duplicated - self.acks_duplicated,
            brisk: Received::since(ledger.brisk, self.brisk),
            slow: (slow_sockets > 0).then(|| Received::since(ledger.slow, self.slow)),
            wall_ns: finish.at_ns - self.started_ns,
            user_ns: cpu.user_ns,
            system_ns: cpu.system_ns,
            latency_ns: Percentiles::from(&ledger.latency),
            ack_latency_ns: Percentiles::from(&ledger.ack_latency),
            connect_ns: Percentiles::from(connects),
            bytes_read: traffic.bytes_read - self.traffic.bytes_read,
            reads: traffic.reads - self.traffic.reads,
            bytes_written: traffic.bytes_written - self.traffic.bytes_written,
            write_calls: traffic.writes - self.traffic.writes,
        }
    }
}
