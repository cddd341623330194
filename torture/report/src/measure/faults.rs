use std::collections::BTreeMap;

use hubbub_checker::FaultKind;

use super::{
    index::{Index, Injected, hits_consumer},
    recovery::Times,
    sends::longest_gap,
};
use crate::{
    measures::{Cluster, FaultMeasure, KindMeasure, PhaseSpan, Recovery},
    quantiles::Quantiles,
};

/// How long after a fault's end an effect is still taken for its own.
const DETECT_AFTER_END_US: u64 = 5_000_000;

/// Takes faults that overlap together; the times are still to come.
pub(super) fn clusters(index: &Index<'_>) -> Vec<Cluster> {
    let mut clusters: Vec<Cluster> = Vec::new();
    for fault in &index.faults {
        let end_us = index.end_of(fault);
        let consumer = hits_consumer(fault.fault.kind);
        match clusters.last_mut() {
            Some(last) if fault.start_us <= last.end_us => {
                last.end_us = last.end_us.max(end_us);
                last.faults.push(fault.fault.number);
                last.consumer |= consumer;
            }
            _ => clusters.push(Cluster {
                start_us: fault.start_us,
                end_us,
                faults: vec![fault.fault.number],
                consumer,
                sends_us: 0,
                plain_us: 0,
                ordered_us: 0,
                recovery_us: None,
                live_us: None,
                history_us: None,
                lag_us: None,
                missing: 0,
                waived: 0,
                overtaken: false,
            }),
        }
    }
    clusters
}

/// Fills in when all was back.
pub(super) fn recovered(clusters: &mut [Cluster], times: &[Times]) {
    let starts: Vec<u64> = clusters.iter().map(|cluster| cluster.start_us).collect();
    for (no, (cluster, times)) in clusters.iter_mut().zip(times).enumerate() {
        cluster.sends_us = times.sends_us;
        cluster.plain_us = times.plain_us;
        cluster.ordered_us = times.ordered_us;
        cluster.waived = times.waived;
        let live = times.missing_sends + times.missing_plain;
        cluster.missing = live + times.missing_ordered;
        let live_us = times.sends_us.max(times.plain_us);
        let all_us = live_us.max(times.ordered_us);
        cluster.live_us = (live == 0).then_some(live_us);
        cluster.history_us = (times.missing_ordered == 0).then_some(times.ordered_us);
        cluster.recovery_us = (cluster.missing == 0).then_some(all_us);
        cluster.overtaken = starts
            .get(no + 1)
            .is_some_and(|next| cluster.missing > 0 || cluster.end_us + all_us > *next);
    }
}

/// Fills in when the consumers' lag was over, where it was sampled: as in calm, or less than what
/// is acknowledged in a second. Under load it is never 0.
pub(super) fn lagged(
    clusters: &mut [Cluster],
    lag: &[(u64, f64)],
    calm: Option<PhaseSpan>,
    acked_a_second: f64,
) {
    let usual = lag
        .iter()
        .filter(|(at_us, _)| calm.is_some_and(|calm| *at_us < calm.end_us))
        .map(|(_, lag)| *lag)
        .fold(acked_a_second, f64::max);
    for cluster in clusters {
        let after = lag.partition_point(|(at_us, _)| *at_us < cluster.end_us);
        cluster.lag_us = lag[after..]
            .iter()
            .find(|(_, lag)| *lag <= usual)
            .map(|(at_us, _)| at_us - cluster.end_us);
    }
}

/// Every fault with its figures.
pub(super) fn faults(
    index: &Index<'_>,
    clusters: &[Cluster],
    gaps: &[(u64, u64)],
    effects: &[u64],
) -> Vec<FaultMeasure> {
    index
        .faults
        .iter()
        .map(|injected| {
            let start_us = injected.start_us;
            let end_us = index.end_of(injected);
            let cluster = clusters.partition_point(|cluster| cluster.start_us <= start_us) - 1;
            let seen_us = injected.seen.iter().map(|seen| seen.at_us).min();
            let effect_us = effects
                .get(effects.partition_point(|at_us| *at_us < start_us))
                .copied()
                .filter(|at_us| *at_us <= end_us + DETECT_AFTER_END_US);
            let outage = longest_gap(gaps, start_us, end_us);
            FaultMeasure {
                number: injected.fault.number,
                kind: injected.fault.kind,
                target: injected.fault.target.clone(),
                hypothesis: injected.fault.hypothesis.clone(),
                start_us,
                end_us,
                ended: injected.end_us.is_some(),
                seen: injected.seen.clone(),
                cluster,
                detect_us: seen_us
                    .map(|seen_us| effect_us.map_or(seen_us, |effect_us| effect_us.min(seen_us)))
                    .map(|first_us| first_us.saturating_sub(start_us)),
                outage_us: outage.map_or(0, |(from, to)| to - from),
                outage_shared: outage.is_some_and(|gap| shared(index, injected, gap)),
                recovery_us: clusters[cluster].recovery_us,
            }
        })
        .collect()
}

/// Whether a fault that somebody noticed, other than this one, overlaps a time without any `ok`.
fn shared(index: &Index<'_>, this: &Injected<'_>, (from_us, to_us): (u64, u64)) -> bool {
    index.faults.iter().any(|other| {
        other.fault.number != this.fault.number
            && !other.seen.is_empty()
            && other.start_us < to_us
            && index.end_of(other) > from_us
    })
}

/// The faults by kind.
pub(super) fn kinds(faults: &[FaultMeasure]) -> BTreeMap<FaultKind, KindMeasure> {
    let mut by_kind: BTreeMap<FaultKind, Vec<&FaultMeasure>> = BTreeMap::new();
    for fault in faults {
        by_kind.entry(fault.kind).or_default().push(fault);
    }
    by_kind
        .into_iter()
        .map(|(kind, of_kind)| {
            let faults = of_kind.len() as u64;
            let noticed: Vec<_> = of_kind.into_iter().filter(|f| !f.vacuous()).collect();
            let measure = KindMeasure {
                faults,
                vacuous: faults - noticed.len() as u64,
                not_recovered: count(&noticed, |fault| fault.recovery_us.is_none()),
                detect: over(&noticed, |fault| fault.detect_us),
                outage: over(&noticed, |fault| Some(fault.outage_us)),
                outage_alone: over(&noticed, |fault| {
                    (!fault.outage_shared).then_some(fault.outage_us)
                }),
                recovery: over(&noticed, |fault| fault.recovery_us),
            };
            (kind, measure)
        })
        .collect()
}

/// Times to recovery over all faults that somebody noticed.
pub(super) fn overall(faults: &[FaultMeasure], clusters: &[Cluster]) -> Recovery {
    let noticed: Vec<_> = faults.iter().filter(|fault| !fault.vacuous()).collect();
    let cluster = |fault: &FaultMeasure| &clusters[fault.cluster];
    let consumer: Vec<_> = noticed
        .iter()
        .copied()
        .filter(|fault| cluster(fault).consumer)
        .collect();
    Recovery {
        all: over(&noticed, |fault| fault.recovery_us),
        undisturbed: over(&noticed, |fault| {
            fault.recovery_us.filter(|_| !cluster(fault).overtaken)
        }),
        without_consumer: over(&noticed, |fault| {
            fault.recovery_us.filter(|_| !cluster(fault).consumer)
        }),
        consumer_live: over(&consumer, |fault| cluster(fault).live_us),
        consumer_history: over(&consumer, |fault| cluster(fault).history_us),
        consumer_lag: over(&consumer, |fault| cluster(fault).lag_us),
        not_recovered: count(&noticed, |fault| fault.recovery_us.is_none()),
        detect: over(&noticed, |fault| fault.detect_us),
        outage: over(&noticed, |fault| Some(fault.outage_us)),
    }
}

fn over(faults: &[&FaultMeasure], figure: impl Fn(&FaultMeasure) -> Option<u64>) -> Quantiles {
    let mut values: Vec<u64> = faults.iter().filter_map(|fault| figure(fault)).collect();
    Quantiles::of(&mut values)
}

fn count(faults: &[&FaultMeasure], holds: impl Fn(&FaultMeasure) -> bool) -> u64 {
    faults.iter().filter(|fault| holds(fault)).count() as u64
}
