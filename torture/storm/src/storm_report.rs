//! What the storms came to, and whether that is good enough.

use std::{collections::BTreeMap, fmt::Write};

use serde::{Deserialize, Serialize};

use crate::{
    costs::{Queries, Rss},
    ending::Ending,
    leg::{ATTEMPTS, BACK_MS, Leg},
};

/// What an edge is planned for.
pub(crate) const HANDSHAKES_A_SECOND: f64 = 500.0;

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
    /// Handshakes by result, as the edges count them.
    pub handshakes: BTreeMap<String, u64>,
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
        times.extend(self.queries.failures());
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

/// `storm.json`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct StormReport {
    /// Sockets, channels, edges, HAProxies, messages a second.
    pub shape: BTreeMap<String, f64>,
    /// `release` or `debug`.
    pub build: String,
    /// What the servers were told beside their defaults, the limits of rates apart.
    pub environment: Vec<String>,
    /// How long the arrival of all sockets took.
    pub arrival_ms: u64,
    /// Memory of a socket in this process: client, its tasks, and what is kept to compare.
    pub client_bytes: u64,
    /// Memory of a socket in an edge.
    pub edge_bytes: u64,
    /// Questions to the store a second by kind, when nothing happens.
    pub ordinary_a_second: BTreeMap<String, f64>,
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
        let mut text = String::new();
        let mut line = |args: std::fmt::Arguments<'_>| {
            text.write_fmt(args)
                .and_then(|()| text.write_char('\n'))
                .expect("writing to a string cannot fail");
        };
        line(format_args!(
            "{:<15} {:<10} {:>8} {:>8} {:>8} {:>8} {:>9} {:>8} {:>9} {:>9} {:>18}",
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
            "pages+heads/bound"
        ));
        for storm in &self.storms {
            for (n, leg) in storm.legs.iter().enumerate() {
                let queries = match n {
                    0 => format!(
                        "{:.0} + {:.0} / {}",
                        storm.queries.caused("range"),
                        storm.queries.caused("head"),
                        storm.queries.bound
                    ),
                    _ => String::new(),
                };
                line(format_args!(
                    "{:<15} {:<10} {:>8} {:>8} {:>8} {:>8} {:>9} {:>8.2} {:>9} {:>9} {:>18}",
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
            "{} build, {}; a socket costs {:.1} KiB here and {:.1} KiB in its edge; {:.1} questions to \
             the store a second when nothing happens",
            self.build,
            self.environment.join(" "),
            self.client_bytes as f64 / 1024.0,
            self.edge_bytes as f64 / 1024.0,
            self.ordinary_a_second.values().sum::<f64>()
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
    use tokio::time::Instant;

    use super::*;
    use crate::{leg::tests::outage, life::Outage};

    fn good() -> StormReport {
        let signal = Instant::now();
        let outages: Vec<Outage> = (1..=100)
            .map(|n| outage(signal, n, Some(n * 100), 1))
            .collect();
        let mut leg = Leg::of("edge-1", signal, &outages.iter().collect::<Vec<_>>());
        leg.exit_code = Some(0);
        let queries = Queries {
            by_kind: [("head", 300), ("range", 310), ("rows", 999)]
                .map(|(kind, n)| (kind.to_owned(), n))
                .into(),
            ordinary: [("range".to_owned(), 10.0)].into(),
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
        assert_eq!(judged(|r| r.storms[0].queries.ordinary.clear()), (0, 1));
        assert_eq!(judged(|r| r.storms[0].queries.bound = 299), (0, 2));
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
}
