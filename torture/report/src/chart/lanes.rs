use hubbub_checker::FaultKind;

use super::{
    Drawing, PLOT,
    svg::{Anchor, Svg},
};
use crate::{
    measures::FaultMeasure,
    report::Report,
    units::{kind, moment, time, time_or_dash},
    words::{outage, recovery, seen},
};

const LANE: f64 = 14.0;
/// Shorter faults are drawn this wide, or nobody could see or point at them.
const LEAST: f64 = 3.0;

/// The part of the system that a kind hits: lanes stand together by it and share its colour.
fn family(kind: FaultKind) -> (u8, &'static str) {
    use FaultKind as K;
    match kind {
        K::EdgeKill | K::EdgeFreeze | K::EdgeDrain | K::EdgeCrashAfterAck => (0, "edge"),
        K::ConsumerKill | K::ConsumerFreeze | K::ConsumerCrashAfterCommit | K::ConsumerScale => {
            (1, "consumer")
        }
        K::RedisKill | K::RedisFreeze | K::PubsubKill | K::RedisBlackHole | K::BusLossy => {
            (2, "bus")
        }
        K::KafkaDown | K::KafkaSlow => (3, "kafka"),
        K::ShardKill | K::ShardLock | K::ShardFreeze => (4, "shard"),
        K::HaproxyReload | K::HaproxyKill => (5, "haproxy"),
        K::ApiKill => (6, "api"),
        K::ClientReset | K::ClientSilent | K::ClientTorn | K::ClientSlow => (7, "client"),
        K::PoisonRecord => (8, "data"),
        K::ClockJump => (9, "clock"),
    }
}

impl Drawing<'_> {
    /// The faults: a lane a kind, more where faults of a kind overlap.
    pub(super) fn lanes(&mut self) {
        let report = self.report;
        let faults = &report.measures.faults;
        let mut kinds: Vec<FaultKind> = report.measures.kinds.keys().copied().collect();
        kinds.sort_by_key(|kind| (family(*kind).0, *kind));
        self.band("Faults", "");
        let vacuous = faults.iter().filter(|fault| fault.vacuous()).count();
        let about = if vacuous > 0 {
            format!("{} ({vacuous} vacuous, dashed)", faults.len())
        } else {
            faults.len().to_string()
        };
        self.gutter
            .text("about", 56.0, self.y + 11.0, Anchor::Start, &about);
        self.y += 18.0;
        let mut last = None;
        for of_kind in kinds {
            let (number, family) = family(of_kind);
            if last.is_some_and(|last| last != number) {
                self.y += 4.0;
            }
            last = Some(number);
            let of_kind: Vec<_> = faults.iter().filter(|f| f.kind == of_kind).collect();
            self.kind(family, &of_kind);
        }
        self.y += 14.0;
    }

    fn kind(&mut self, family: &str, faults: &[&FaultMeasure]) {
        let Some(first) = faults.first() else { return };
        let name = format!("{} · {}", kind(first.kind), faults.len());
        self.gutter
            .rect(&format!("swatch {family}"), [12.0, self.y + 3.0, 6.0, 8.0]);
        self.gutter
            .text("lane", 24.0, self.y + 11.0, Anchor::Start, &name);
        // The pixel at which each lane is free again.
        let mut free: Vec<f64> = Vec::new();
        for fault in faults {
            let from = self.scale.x(fault.start_us).min(PLOT - LEAST);
            let to = self.scale.x(fault.end_us).max(from + LEAST);
            let lane = free.iter().position(|free| *free <= from);
            let lane = lane.unwrap_or_else(|| {
                free.push(0.0);
                free.len() - 1
            });
            free[lane] = to;
            let y = self.y + lane as f64 * LANE;
            let back = back_us(self.report, fault).map(|us| self.scale.x(us));
            draw(
                &mut self.plot,
                self.report,
                fault,
                family,
                [from, to, y],
                back,
            );
        }
        self.y += LANE * free.len() as f64;
    }
}

/// When everything was back after a fault.
fn back_us(report: &Report, fault: &FaultMeasure) -> Option<u64> {
    let cluster = &report.measures.clusters[fault.cluster];
    fault.recovery_us.map(|us| cluster.end_us + us)
}

fn draw(
    svg: &mut Svg,
    report: &Report,
    fault: &FaultMeasure,
    family: &str,
    [from, to, y]: [f64; 3],
    back: Option<f64>,
) {
    let state = match (fault.vacuous(), back) {
        (true, _) => " vacuous",
        (false, None) => " never",
        (false, Some(_)) => "",
    };
    let end = back.unwrap_or(to).max(to);
    svg.open_tip(family, [from, end], &about(report, fault));
    // Thin bars are hard to point at.
    let room = (8.0 - (to - from)).max(0.0) / 2.0;
    svg.rect("hit", [from - room, y, to - from + 2.0 * room, LANE]);
    if !fault.vacuous() && end > to + 0.5 {
        svg.rect("tail", [to, y + 6.0, end - to, 3.0]);
    }
    svg.rect(&format!("bar{state}"), [from, y + 2.5, to - from, 10.0]);
    svg.close();
}

/// What is said of a fault when it is pointed at.
fn about(report: &Report, fault: &FaultMeasure) -> String {
    let mut text = format!(
        "{}. {} on {}\n{} for {}\nexpected: {}\nseen: {}",
        fault.number,
        kind(fault.kind),
        fault.target,
        moment(fault.start_us),
        time(fault.end_us - fault.start_us),
        fault.hypothesis,
        seen(fault),
    );
    if !fault.vacuous() {
        text.push_str(&format!(
            "\ndetected after {}, send outage {}, recovery after heal {}",
            time_or_dash(fault.detect_us),
            outage(fault),
            recovery(report, fault),
        ));
    }
    text
}
