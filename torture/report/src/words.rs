//! What is known of a fault, in words.

use crate::{
    measures::FaultMeasure,
    report::Report,
    units::{count, time},
};

/// The effects in one line.
pub(crate) fn seen(fault: &FaultMeasure) -> String {
    if fault.vacuous() {
        return "vacuous".into();
    }
    let effects: Vec<&str> = fault.seen.iter().map(|seen| seen.effect.as_str()).collect();
    effects.join("; ")
}

/// A fault's send outage in words.
pub(crate) fn outage(fault: &FaultMeasure) -> String {
    let us = time(fault.outage_us);
    if fault.outage_shared {
        format!("{us} (shared)")
    } else {
        us
    }
}

/// A fault's recovery in words.
pub(crate) fn recovery(report: &Report, fault: &FaultMeasure) -> String {
    let cluster = &report.measures.clusters[fault.cluster];
    match cluster.recovery_us {
        None => format!("never ({} missing)", count(cluster.missing)),
        Some(us) if cluster.overtaken => format!("{} (overtaken)", time(us)),
        Some(us) => time(us),
    }
}
