//! What is measured of a run, as it stands in `report.json`. Moments are microseconds from the
//! start of the run, durations are microseconds too.

use std::collections::BTreeMap;

use hubbub_checker::{FaultKind, history::Phase};
use serde::{Deserialize, Serialize};

use crate::quantiles::Quantiles;

/// Everything that is measured of a run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Measures {
    /// When the last line was recorded.
    pub end_us: u64,
    /// The stretches of the run.
    pub phases: Vec<PhaseSpan>,
    /// Every fault, in the order in which they started.
    pub faults: Vec<FaultMeasure>,
    /// Faults that overlapped, taken together.
    pub clusters: Vec<Cluster>,
    /// The faults by kind; times over those that somebody noticed.
    pub kinds: BTreeMap<FaultKind, KindMeasure>,
    /// Times to full recovery over the faults that somebody noticed.
    pub recovery: Recovery,
    /// What became of the sends.
    pub sends: Sends,
    /// How long messages took to the devices.
    pub latency: Latency,
    /// What the edges had to mend, and the connections that came and went.
    pub repairs: Repairs,
    /// The run second by second, from its start.
    pub seconds: Vec<Second>,
}

/// A stretch of the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PhaseSpan {
    /// Which.
    pub phase: Phase,
    /// Its first moment.
    pub start_us: u64,
    /// The first moment of the next one, or the end of the run.
    pub end_us: u64,
}

/// Something that somebody noticed of a fault.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// When it was noticed.
    pub at_us: u64,
    /// What.
    pub effect: String,
}

/// One fault and what it did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FaultMeasure {
    /// Its number in the schedule.
    pub number: u32,
    /// What.
    pub kind: FaultKind,
    /// To whom.
    pub target: String,
    /// What was expected.
    pub hypothesis: String,
    /// When it started.
    pub start_us: u64,
    /// When it was over and healed; where that was never recorded, the end of the faults.
    pub end_us: u64,
    /// Whether its end was recorded.
    pub ended: bool,
    /// Who noticed it, and how. Empty: the fault was vacuous and counts for nothing.
    pub seen: Vec<Seen>,
    /// Its place in [`Measures::clusters`].
    pub cluster: usize,
    /// From its start to the first effect on any client, or the first repair; at most until 5 s
    /// after its end. Where faults overlap, an effect may be another one's. Absent for a vacuous
    /// fault.
    pub detect_us: Option<u64>,
    /// The longest time without any `ok` while sends were tried that overlaps the fault, all of
    /// it: it may have begun before the fault, or ended after it.
    pub outage_us: u64,
    /// Whether another fault that somebody noticed overlaps that time, too: it may be the other
    /// one's.
    pub outage_shared: bool,
    /// Its cluster's time to full recovery; absent if there never was one.
    pub recovery_us: Option<u64>,
}

impl FaultMeasure {
    /// Whether nobody noticed it.
    #[must_use]
    pub fn vacuous(&self) -> bool {
        self.seen.is_empty()
    }
}

/// Faults that overlap: nobody can say which of them a recovery belongs to, so it is counted from
/// the moment when all of them are healed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cluster {
    /// When the first of them started.
    pub start_us: u64,
    /// When the last of them was healed.
    pub end_us: u64,
    /// Their numbers.
    pub faults: Vec<u32>,
    /// Whether one of them hit a consumer: then ordered joins and history wait for the takeover.
    pub consumer: bool,
    /// Until every send that was invoked before the end had its definite answer; of one that its
    /// sender gave up, until its last answer.
    pub sends_us: u64,
    /// Until every device that listened plainly had every record acknowledged before the end.
    pub plain_us: u64,
    /// The same for ordered joins. They follow the store, so this is also how long the store
    /// lagged behind.
    pub ordered_us: u64,
    /// The greatest of these three; absent if something never came.
    pub recovery_us: Option<u64>,
    /// The greatest of the first two; absent if something never came to a plain join or a sender.
    pub live_us: Option<u64>,
    /// Like `live_us`, of ordered joins alone.
    pub history_us: Option<u64>,
    /// Until the first sample at which the consumers' lag was that of calm, or less than a
    /// second's worth of messages; absent where it was not sampled.
    pub lag_us: Option<u64>,
    /// Records that a device lacked at the end of this cluster and never got, and sends that
    /// never had an answer.
    pub missing: u64,
    /// Records that a device lacked and that were no longer due: it left, or was told
    /// `recovered:false`.
    pub waived: u64,
    /// Whether the next cluster began before this one had recovered: then its times contain the
    /// next one's outage.
    pub overtaken: bool,
}

/// The faults of a kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KindMeasure {
    /// How many were injected.
    pub faults: u64,
    /// How many of them nobody noticed.
    pub vacuous: u64,
    /// After how many there was no full recovery.
    pub not_recovered: u64,
    /// Times to detect.
    pub detect: Quantiles,
    /// Send outages. Where faults overlap, each of them has the same one.
    pub outage: Quantiles,
    /// Send outages that no other fault overlaps.
    pub outage_alone: Quantiles,
    /// Times to full recovery.
    pub recovery: Quantiles,
}

/// Times to recovery, one value a fault that somebody noticed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recovery {
    /// Everything, all faults.
    pub all: Quantiles,
    /// Everything, faults after which the next one began only after the recovery.
    pub undisturbed: Quantiles,
    /// Everything, faults without one of a consumer in their cluster.
    pub without_consumer: Quantiles,
    /// Sends and plain joins, faults with one of a consumer in their cluster.
    pub consumer_live: Quantiles,
    /// Ordered joins, faults with one of a consumer in their cluster.
    pub consumer_history: Quantiles,
    /// The consumers' lag, the same faults; nothing where it was not sampled.
    pub consumer_lag: Quantiles,
    /// Faults after which something never came.
    pub not_recovered: u64,
    /// Times to detect.
    pub detect: Quantiles,
    /// Send outages.
    pub outage: Quantiles,
}

/// A share of attempts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Availability {
    /// Attempts.
    pub attempts: u64,
    /// Those whose first answer was `ok` and came within one second.
    pub in_time: u64,
}

impl Availability {
    /// The share, from 0 to 1; of no attempts there is none.
    #[must_use]
    pub fn share(self) -> Option<f64> {
        (self.attempts > 0).then(|| self.in_time as f64 / self.attempts as f64)
    }
}

/// What became of the sends.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sends {
    /// Messages that somebody tried to send.
    pub messages: u64,
    /// Attempts, resends included.
    pub attempts: u64,
    /// Attempts answered `ok`.
    pub ok: u64,
    /// Attempts answered that the sender may not: it is no member, say. They count for neither
    /// availability nor outages; a member that is refused is the checker's business.
    pub refused: u64,
    /// Attempts answered that the message never reached the log, for other reasons.
    pub rejected: u64,
    /// Attempts whose outcome nobody knew.
    pub unknown: u64,
    /// Attempts without any line about their end.
    pub unanswered: u64,
    /// Messages that were given up after an `unknown`: the last attempt's outcome is not known.
    pub abandoned: u64,
    /// The longest time without any `ok` while sends were tried.
    pub longest_outage_us: u64,
    /// Availability over the whole run.
    pub whole: Availability,
    /// In the phase before the faults.
    pub calm: Availability,
    /// While at least one fault was on.
    pub under_fault: Availability,
    /// While no fault was on, in any phase.
    pub between_faults: Availability,
}

/// How long messages took to devices that listened live.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Latency {
    /// Plain joins, in calm, from the first attempt to the device.
    pub calm_plain: Quantiles,
    /// The same from the `ok`; 0 where the device had it before its sender was answered.
    pub calm_plain_from_ok: Quantiles,
    /// Ordered joins, in calm, from the first attempt to the device.
    pub calm_ordered: Quantiles,
    /// The same from the `ok`.
    pub calm_ordered_from_ok: Quantiles,
    /// Plain joins, the whole run, from the first attempt to the device.
    pub plain: Quantiles,
    /// The same from the `ok`.
    pub plain_from_ok: Quantiles,
    /// Ordered joins, the whole run, from the first attempt to the device.
    pub ordered: Quantiles,
    /// The same from the `ok`.
    pub ordered_from_ok: Quantiles,
}

/// What the edges had to mend, and the connections that came and went.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Repairs {
    /// Whether the edges' counters were sampled at all.
    pub sampled: bool,
    /// The median time between two samples of a process.
    pub sampled_every_us: u64,
    /// What the feeds counted, by kind, over all edges and restarts. Not each kind is a repair:
    /// see [`Repairs::is_repair`].
    pub feed_events: BTreeMap<String, u64>,
    /// Connections that devices made after their first one.
    pub reconnects: u64,
    /// Ended connections by close code; `none` where the server sent none.
    pub closes: BTreeMap<String, u64>,
}

impl Repairs {
    /// What charts show of the feed's events, in their order: rows that only a repair brought, by
    /// who told of them (the consumer, the head at a subscription, the sweep), sockets that went
    /// back to reading, joins that could not be recovered.
    pub const KINDS: [&str; 5] = [
        "repaired_by_announcement",
        "repaired_by_head",
        "repaired_by_sweep",
        "detached",
        "unrecovered",
    ];

    /// Whether a kind of the feed's events means that something was wrong, and not a harmless
    /// drop.
    #[must_use]
    pub fn is_repair(kind: &str) -> bool {
        Self::KINDS.contains(&kind) || kind.starts_with("repaired") || kind.starts_with("behind")
    }
}

/// One second of the run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Second {
    /// Attempts that were invoked in it.
    pub attempts: u32,
    /// Those whose first answer was `ok` and came within one second.
    pub in_time: u32,
    /// Messages tried first in it, from that attempt to the devices that listened plainly.
    pub plain: Quantiles,
    /// Messages acknowledged in it, from the `ok` to the devices that listened plainly.
    pub plain_from_ok: Quantiles,
    /// Like `plain`, for ordered joins.
    pub ordered: Quantiles,
    /// Like `plain_from_ok`, for ordered joins.
    pub ordered_from_ok: Quantiles,
    /// Connections that devices made after their first one.
    pub reconnects: u32,
    /// Connections that ended.
    pub closes: u32,
    /// What the feeds counted, by kind, at the sample taken in this second.
    pub feed_events: BTreeMap<String, u64>,
}
