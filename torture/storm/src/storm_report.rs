//! What the storms came to, and whether that is good enough.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::{
    diff::Diff,
    life::Outage,
    stats::{Spread, most_in_a_second},
    writers::Sends,
};

/// 99 of 100 affected sockets are back after this.
const BACK_MS: u64 = 10_000;
/// Connections that an affected client tries, on average, are below this.
const ATTEMPTS: f64 = 2.0;
/// The drain's rate, and what a pod is planned for.
const HANDSHAKES_A_SECOND: f64 = 500.0;
/// An edge may have this much more memory than its sockets explain, or a tenth.
const RSS_SLACK: u64 = 16 * 1024 * 1024;

/// One process was taken away: what that did.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Leg {
    /// Which process.
    pub process: String,
    /// How it ended, if it was asked to.
    pub exit_code: Option<i32>,
    /// From the signal to its end.
    pub ended_ms: u64,
    /// From the signal to the moment at which it was ready again.
    pub ready_again_ms: u64,
    /// Sockets that lost their connection.
    pub affected: usize,
    /// Those of them that came back: connected, joined, caught up.
    pub back: usize,
    /// From the signal to that, for each of them.
    pub after_signal: Spread,
    /// From its own loss to that, for each of them.
    pub after_loss: Spread,
    /// Connections that were tried, on average.
    pub attempts_mean: f64,
    /// The most that one tried.
    pub attempts_max: u32,
    /// Attempts that were answered with "no room".
    pub refused: u64,
    /// The most handshakes that one edge did within a second.
    pub handshakes_a_second: usize,
    /// Sockets that had heard `goodbye` before.
    pub goodbyes: usize,
}

impl Leg {
    /// Of the outages that it caused, which began at or after `signal`.
    pub(crate) fn of(process: &str, signal: Instant, outages: &[&Outage]) -> Self {
        let back: Vec<(&Outage, Instant)> = outages
            .iter()
            .filter_map(|outage| Some((*outage, outage.up_at?)))
            .collect();
        let mut by_pod: BTreeMap<&str, Vec<_>> = BTreeMap::new();
        for outage in outages {
            if let Some(at) = outage.connected_at {
                let moments = by_pod.entry(&outage.new_pod).or_default();
                moments.push(at - signal);
            }
        }
        let attempts: u64 = outages.iter().map(|o| u64::from(o.attempts)).sum();
        Self {
            process: process.to_owned(),
            affected: outages.len(),
            back: back.len(),
            after_signal: Spread::of(back.iter().map(|(_, up)| *up - signal)),
            after_loss: Spread::of(back.iter().map(|(o, up)| *up - o.down_at)),
            attempts_mean: attempts as f64 / outages.len().max(1) as f64,
            attempts_max: outages.iter().map(|o| o.attempts).max().unwrap_or(0),
            refused: outages.iter().map(|o| u64::from(o.refused)).sum(),
            handshakes_a_second: by_pod
                .into_values()
                .map(most_in_a_second)
                .max()
                .unwrap_or(0),
            goodbyes: outages.iter().filter(|o| o.goodbye_ms.is_some()).count(),
            ..Self::default()
        }
    }

    /// What is not as it must be; the first list is about counts, the second about time.
    fn failures(&self, planned: bool) -> (Vec<String>, Vec<String>) {
        let (mut counts, mut times) = (Vec::new(), Vec::new());
        let name = &self.process;
        if self.back < self.affected {
            counts.push(format!(
                "{name}: {} sockets are not back",
                self.affected - self.back
            ));
        }
        if planned && self.exit_code != Some(0) {
            counts.push(format!("{name}: ended with {:?}, not 0", self.exit_code));
        }
        if planned && self.goodbyes < self.affected {
            let without = self.affected - self.goodbyes;
            counts.push(format!(
                "{name}: {without} sockets were cut without a goodbye"
            ));
        }
        if self.after_signal.p99_ms > BACK_MS {
            times.push(format!(
                "{name}: 99 % back after {} ms, not within {BACK_MS}",
                self.after_signal.p99_ms
            ));
        }
        if self.attempts_mean >= ATTEMPTS {
            times.push(format!(
                "{name}: {:.2} attempts a client, not below {ATTEMPTS}",
                self.attempts_mean
            ));
        }
        (counts, times)
    }
}

/// Questions of the edges to the store during a storm.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Queries {
    /// By kind: `head` (an edge opens a channel or looks again), `range` (a page for joins, or a
    /// repair of a range), `rows` (a repair of single messages).
    pub by_kind: BTreeMap<String, u64>,
    /// What feeds counted meanwhile: repairs among them.
    pub feed_events: BTreeMap<String, u64>,
    /// As many as the same time takes when nothing happens, at the rate that was measured before.
    pub ordinary: f64,
    /// Channels times edges.
    pub bound: u64,
}

impl Queries {
    /// All, less the ordinary ones.
    pub fn of_storm(&self) -> f64 {
        self.by_kind.values().sum::<u64>() as f64 - self.ordinary
    }
}

/// Memory of an edge when all is quiet again.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Rss {
    /// Which edge.
    pub process: String,
    /// Its sockets.
    pub sockets: u64,
    /// What it has.
    pub bytes: u64,
    /// What an edge with so many sockets had in the beginning.
    pub expected: u64,
}

impl Rss {
    fn failure(&self) -> Option<String> {
        const MIB: f64 = 1024.0 * 1024.0;
        let most = self.expected + (self.expected / 10).max(RSS_SLACK);
        (self.bytes > most).then(|| {
            format!(
                "{}: {:.1} MiB with {} sockets, {:.1} expected",
                self.process,
                self.bytes as f64 / MIB,
                self.sockets,
                self.expected as f64 / MIB
            )
        })
    }
}

/// One storm.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Storm {
    /// Its name: `edge-kill`, …
    pub name: String,
    /// Process by process.
    pub legs: Vec<Leg>,
    /// From the first signal until everybody was back.
    pub lasted_ms: u64,
    /// What it cost the store.
    pub queries: Queries,
    /// After it.
    pub rss: Vec<Rss>,
}

impl Storm {
    fn failures(&self) -> (Vec<String>, Vec<String>) {
        let (mut counts, mut times) = (Vec::new(), Vec::new());
        for leg in &self.legs {
            let (more, late) = leg.failures(self.name == "roll");
            counts.extend(more);
            times.extend(late);
            if self.name == "haproxy-reload" && leg.affected > 0 {
                counts.push(format!("a reload cut {} sockets", leg.affected));
            }
        }
        let queries = &self.queries;
        if queries.of_storm() > queries.bound as f64 {
            times.push(format!(
                "{:.0} questions to the store, not within {} (channels x edges)",
                queries.of_storm(),
                queries.bound
            ));
        }
        times.extend(self.rss.iter().filter_map(Rss::failure));
        let named = |list: Vec<String>| {
            let words = list
                .into_iter()
                .map(|what| format!("{}: {what}", self.name));
            words.collect::<Vec<_>>()
        };
        (named(counts), named(times))
    }
}

/// What everybody had in the end.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Ending {
    /// What became of the sends.
    pub sends: Sends,
    /// Records in the store.
    pub stored: u64,
    /// Acknowledged messages that are not in the store.
    pub acked_missing: u64,
    /// What all sockets were given against what the store has.
    pub diff: Diff,
    /// From the last answer until every socket was told that it has everything.
    pub quiet_ms: u64,
    /// Differences, ends for good and panics, in words.
    pub words: Vec<String>,
}

impl Ending {
    pub(crate) fn failures(&self) -> Vec<String> {
        let mut found = self.words.clone();
        if !self.diff.is_clean() {
            let Diff {
                lost,
                doubled,
                foreign,
                ..
            } = self.diff;
            found.push(format!("{lost} lost, {doubled} doubled, {foreign} foreign"));
        }
        if self.acked_missing > 0 {
            found.push(format!(
                "{} acknowledged and not stored",
                self.acked_missing
            ));
        }
        if self.sends.failed + self.sends.full > 0 {
            let Sends { failed, full, .. } = self.sends;
            found.push(format!("{failed} sends failed, {full} were not taken"));
        }
        found
    }
}

/// `storm.json`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct StormReport {
    /// Sockets, channels, edges, HAProxies, messages a second.
    pub shape: BTreeMap<String, f64>,
    /// `release` or `debug`.
    pub build: String,
    /// How long the arrival of all sockets took.
    pub arrival_ms: u64,
    /// Memory of a socket in this process: client, its tasks, and what is kept to compare.
    pub client_bytes: u64,
    /// Memory of a socket in an edge.
    pub edge_bytes: u64,
    /// Questions to the store a second, when nothing happens.
    pub ordinary_a_second: f64,
    /// The storms.
    pub storms: Vec<Storm>,
    /// The end.
    pub ending: Ending,
    /// What is wrong with the counts: sockets that are not back, messages lost.
    pub wrong: Vec<String>,
    /// Targets that were missed: time, attempts, questions, memory.
    pub missed: Vec<String>,
}

impl StormReport {
    pub(crate) fn judge(&mut self) {
        for storm in &self.storms {
            let (counts, times) = storm.failures();
            self.wrong.extend(counts);
            self.missed.extend(times);
        }
        self.wrong.extend(self.ending.failures());
    }

    /// Nothing wrong, and every target met.
    pub fn passed(&self) -> bool {
        self.wrong.is_empty() && self.missed.is_empty()
    }

    /// For people.
    pub fn table(&self) -> String {
        use std::fmt::Write;
        let mut text = String::new();
        let mut line = |args: std::fmt::Arguments<'_>| {
            text.write_fmt(args)
                .and_then(|()| text.write_char('\n'))
                .expect("writing to a string cannot fail");
        };
        line(format_args!(
            "{:<15} {:<10} {:>8} {:>8} {:>8} {:>8} {:>9} {:>8} {:>9} {:>9} {:>8}",
            "storm",
            "process",
            "affected",
            "back",
            "p50 ms",
            "p99 ms",
            "max ms",
            "attempts",
            "refused",
            "peak hs/s",
            "queries"
        ));
        for storm in &self.storms {
            for (n, leg) in storm.legs.iter().enumerate() {
                let queries = match n {
                    0 => format!("{:.0}/{}", storm.queries.of_storm(), storm.queries.bound),
                    _ => String::new(),
                };
                line(format_args!(
                    "{:<15} {:<10} {:>8} {:>8} {:>8} {:>8} {:>9} {:>8.2} {:>9} {:>9} {:>8}",
                    if n == 0 { storm.name.as_str() } else { "" },
                    leg.process,
                    leg.affected,
                    leg.back,
                    leg.after_signal.p50_ms,
                    leg.after_signal.p99_ms,
                    leg.after_signal.max_ms,
                    leg.attempts_mean,
                    leg.refused,
                    leg.handshakes_a_second,
                    queries
                ));
            }
        }
        let Ending {
            sends,
            stored,
            diff,
            quiet_ms,
            ..
        } = &self.ending;
        line(format_args!(
            "\n{} sent, {} acknowledged, {} attempts unknown; {stored} stored, {} given: {} lost, \
             {} doubled, {} foreign; quiet after {quiet_ms} ms",
            sends.sent,
            sends.acked,
            sends.unknown,
            diff.given,
            diff.lost,
            diff.doubled,
            diff.foreign
        ));
        line(format_args!(
            "{} build; a socket costs {:.1} KiB here and {:.1} KiB in its edge; {:.1} questions to \
             the store a second when nothing happens",
            self.build,
            self.client_bytes as f64 / 1024.0,
            self.edge_bytes as f64 / 1024.0,
            self.ordinary_a_second
        ));
        for wrong in &self.wrong {
            line(format_args!("WRONG: {wrong}"));
        }
        for missed in &self.missed {
            line(format_args!("missed: {missed}"));
        }
        let verdict = if self.passed() { "passed" } else { "failed" };
        line(format_args!(
            "{verdict} (targets: 99 % back within {} s at {HANDSHAKES_A_SECOND:.0} handshakes/s an \
             edge, below {ATTEMPTS} attempts a client, questions within channels x edges, nothing \
             lost or doubled)",
            BACK_MS / 1_000
        ));
        text
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn outage(signal: Instant, down: u64, up: Option<u64>, attempts: u32) -> Outage {
        let at = |ms| signal + Duration::from_millis(ms);
        Outage {
            lost_pod: "edge-1".to_owned(),
            down_at: at(down),
            connected_at: up.map(|up| at(up - 1)),
            up_at: up.map(at),
            new_pod: "edge-2".to_owned(),
            attempts,
            refused: attempts - 1,
            goodbye_ms: up,
            close: None,
        }
    }

    #[test]
    fn leg_adds_up_its_outages() {
        let signal = Instant::now();
        let outages = [
            outage(signal, 5, Some(100), 1),
            outage(signal, 10, Some(400), 2),
            outage(signal, 10, None, 4),
        ];
        let all: Vec<&Outage> = outages.iter().collect();
        let leg = Leg::of("edge-1", signal, &all);
        assert_eq!((leg.affected, leg.back, leg.goodbyes), (3, 2, 2));
        assert_eq!(
            (leg.after_signal.p50_ms, leg.after_signal.max_ms),
            (100, 400)
        );
        assert_eq!((leg.after_loss.p50_ms, leg.after_loss.max_ms), (95, 390));
        assert!((leg.attempts_mean - 7.0 / 3.0).abs() < 1e-9);
        assert_eq!((leg.attempts_max, leg.refused), (4, 4));
        assert_eq!(leg.handshakes_a_second, 2);
        let (counts, times) = leg.failures(false);
        assert_eq!(counts, ["edge-1: 1 sockets are not back"]);
        assert_eq!(times, ["edge-1: 2.33 attempts a client, not below 2"]);
        let (counts, _) = leg.failures(true);
        assert_eq!(counts.len(), 3, "{counts:?}");
    }

    fn good() -> StormReport {
        let signal = Instant::now();
        let outages: Vec<Outage> = (1..=100)
            .map(|n| outage(signal, n, Some(n * 100), 1))
            .collect();
        let mut leg = Leg::of("edge-1", signal, &outages.iter().collect::<Vec<_>>());
        leg.exit_code = Some(0);
        let queries = Queries {
            by_kind: [("head".to_owned(), 310)].into(),
            ordinary: 10.0,
            bound: 300,
            ..Queries::default()
        };
        let storm = Storm {
            name: "roll".to_owned(),
            legs: vec![leg],
            queries,
            ..Storm::default()
        };
        StormReport {
            storms: vec![storm],
            ..StormReport::default()
        }
    }

    /// What `spoil` makes wrong, and missed.
    fn judged(spoil: impl FnOnce(&mut StormReport)) -> (usize, usize) {
        let mut report = good();
        spoil(&mut report);
        report.judge();
        assert_eq!(report.passed(), report.table().contains("passed ("));
        (report.wrong.len(), report.missed.len())
    }

    #[test]
    fn every_target_is_judged() {
        assert_eq!(judged(|_| {}), (0, 0));
        let late = |ms| move |r: &mut StormReport| r.storms[0].legs[0].after_signal.p99_ms = ms;
        assert_eq!(judged(late(10_000)), (0, 0));
        assert_eq!(judged(late(10_001)), (0, 1));
        assert_eq!(judged(|r| r.storms[0].legs[0].attempts_mean = 2.0), (0, 1));
        assert_eq!(judged(|r| r.storms[0].legs[0].exit_code = None), (1, 0));
        assert_eq!(judged(|r| r.storms[0].legs[0].goodbyes -= 1), (1, 0));
        assert_eq!(judged(|r| r.storms[0].legs[0].back -= 1), (1, 0));
        assert_eq!(judged(|r| r.storms[0].queries.ordinary = 9.0), (0, 1));
        assert_eq!(
            judged(|r| r.storms[0].name = "haproxy-reload".to_owned()),
            (1, 0)
        );
        assert_eq!(judged(|r| r.ending.diff.lost = 1), (1, 0));
        assert_eq!(judged(|r| r.ending.acked_missing = 1), (1, 0));
        assert_eq!(judged(|r| r.ending.sends.failed = 1), (1, 0));
        assert_eq!(
            judged(|r| r.ending.words.push("panicked".to_owned())),
            (1, 0)
        );
    }

    #[test]
    fn memory_may_grow_by_a_tenth_or_by_the_slack() {
        let rss = |expected_mib: u64, mib: u64| Rss {
            process: "edge-1".to_owned(),
            sockets: 1,
            bytes: mib << 20,
            expected: expected_mib << 20,
        };
        assert_eq!(rss(100, 116).failure(), None);
        assert!(rss(100, 117).failure().is_some());
        assert_eq!(rss(1_000, 1_100).failure(), None);
        assert!(rss(1_000, 1_101).failure().is_some());
    }
}
