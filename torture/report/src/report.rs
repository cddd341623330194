use std::{collections::BTreeMap, fs, path::Path};

use anyhow::Context;
use hubbub_checker::{Assertion, Entry, Event, Verdict};
use serde::{Deserialize, Serialize};

use crate::{
    chart, html, markdown,
    measures::{Cluster, Measures},
    quantiles::Quantiles,
    run::Run,
};

/// What `report.json` holds. `schema` counts up when a field changes its meaning or goes away.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// 1.
    pub schema: u32,
    /// Whether the suite itself worked; a run that is not valid shows nothing.
    pub valid: bool,
    /// Whether no assertion was broken.
    pub holds: bool,
    /// What was run.
    pub run: Run,
    /// What the checker says.
    pub verdict: Verdict,
    /// What this run says about the rate of failures.
    pub bound: Bound,
    /// The figures that have a target.
    pub targets: Vec<Target>,
    /// How often two messages swapped on the wire of plain joins (P4).
    pub swapped: Swapped,
    /// The history's lines by event.
    pub lines: BTreeMap<String, u64>,
    /// All figures.
    pub measures: Measures,
}

/// What a run without failures says about the rate of failures, by the rule of three.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Bound {
    /// Faults that somebody noticed.
    pub trials: u64,
    /// Violations of all assertions.
    pub violations: u64,
    /// At 95 % confidence fewer than this share of such faults break the contract: 3 / trials.
    /// Absent if something was broken, if there was no trial, or if the run was not valid.
    pub below: Option<f64>,
}

/// A figure and what is asked of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// Of what.
    pub name: String,
    /// The times.
    pub times: Quantiles,
    /// Faults after which it never came.
    pub never: u64,
    /// What p50 must be below.
    pub p50_below_us: Option<u64>,
    /// What p99 must be below.
    pub p99_below_us: Option<u64>,
    /// What the greatest must be below.
    pub max_below_us: Option<u64>,
    /// Whether it is; absent where there was nothing to measure.
    pub met: Option<bool>,
}

/// How often two messages swapped on the wire of plain joins.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Swapped {
    /// Receipts that came after one with a higher seq.
    pub swapped: u64,
    /// Receipts on plain joins.
    pub plain_receipts: u64,
    /// Messages.
    pub messages: u64,
    /// Per million receipts.
    pub per_million_receipts: Option<f64>,
    /// Per million messages.
    pub per_million_messages: Option<f64>,
}

/// Writes `report.json`, `report.md`, `timeline.html` and `timeline.svg` into a directory.
///
/// # Errors
/// If a file cannot be written.
pub fn write(
    dir: &Path,
    run: &Run,
    measures: &Measures,
    verdict: &Verdict,
    entries: &[Entry],
) -> anyhow::Result<()> {
    let report = Report::of(run, measures, verdict, entries);
    let json = serde_json::to_vec_pretty(&report).context("encode report.json")?;
    for (name, content) in [
        ("report.json", json),
        ("report.md", markdown::page(&report).into_bytes()),
        ("timeline.html", html::page(&report).into_bytes()),
        ("timeline.svg", chart::standalone(&report).into_bytes()),
    ] {
        let path = dir.join(name);
        fs::write(&path, content).with_context(|| format!("write {}", path.display()))?;
    }
    Ok(())
}

impl Report {
    /// Puts a run, its figures and its verdict together.
    #[must_use]
    pub fn of(run: &Run, measures: &Measures, verdict: &Verdict, entries: &[Entry]) -> Self {
        let valid = run.errors.is_empty();
        Self {
            schema: 1,
            valid,
            holds: verdict.holds(),
            run: run.clone(),
            verdict: verdict.clone(),
            bound: Bound::of(measures, verdict, valid),
            targets: targets(measures),
            swapped: Swapped::of(verdict),
            lines: lines(entries),
            measures: measures.clone(),
        }
    }

    /// The assertions that nothing was held against, in a sentence; empty if there are none.
    pub(crate) fn silent(&self) -> String {
        let compared = |assertion| self.verdict.checked.get(assertion).is_some_and(|n| *n > 0);
        let silent: Vec<String> = Assertion::ALL
            .iter()
            .filter(|assertion| !compared(assertion))
            .map(ToString::to_string)
            .collect();
        if silent.is_empty() {
            String::new()
        } else {
            format!(" Nothing was compared for {}.", silent.join(", "))
        }
    }

    /// The verdict in a few words.
    pub(crate) fn headline(&self) -> String {
        if !self.valid {
            "not valid: the suite itself failed".into()
        } else if self.holds {
            "the contract held".into()
        } else {
            let broken: Vec<String> = self
                .verdict
                .broken
                .iter()
                .map(|(assertion, n)| format!("{assertion:?} × {n}"))
                .collect();
            format!("BROKEN: {}", broken.join(", "))
        }
    }
}

impl Bound {
    fn of(measures: &Measures, verdict: &Verdict, valid: bool) -> Self {
        let trials = measures.faults.iter().filter(|f| !f.vacuous()).count() as u64;
        let counts = valid && verdict.holds() && trials > 0;
        Self {
            trials,
            violations: verdict.broken.values().sum(),
            below: counts.then(|| (3.0 / trials as f64).min(1.0)),
        }
    }

    /// The one honest line.
    pub(crate) fn sentence(&self) -> String {
        let Self {
            trials, violations, ..
        } = self;
        match self.below {
            Some(below) if below < 1.0 => format!(
                "0 failures in {trials} faults that had an effect: at 95 % confidence fewer than \
                 {:.2} % of such faults break the contract (rule of three: 3/{trials}). It says \
                 nothing about faults of other kinds.",
                below * 100.0
            ),
            Some(_) => format!(
                "0 failures in {trials} faults that had an effect: too few to bound the rate of \
                 failures (rule of three: 3/n)."
            ),
            None if *violations > 0 => format!(
                "{violations} violation{} in a run with {trials} faults that had an effect: no \
                 bound is claimed.",
                if *violations == 1 { "" } else { "s" }
            ),
            None if *trials == 0 => "No fault had an effect: this run bounds nothing.".into(),
            None => "The run is not valid: it bounds nothing.".into(),
        }
    }
}

impl Swapped {
    fn of(verdict: &Verdict) -> Self {
        let count = |name: &str| verdict.counts.get(name).copied().unwrap_or(0);
        let (swapped, plain_receipts) = (count("swapped_on_the_wire"), count("plain_receipts"));
        let messages = count("messages");
        let per_million = |of: u64| (of > 0).then(|| swapped as f64 * 1e6 / of as f64);
        Self {
            swapped,
            plain_receipts,
            messages,
            per_million_receipts: per_million(plain_receipts),
            per_million_messages: per_million(messages),
        }
    }
}

impl Target {
    fn of(name: &str, times: Quantiles, never: u64, [p50, p99, max]: [Option<u64>; 3]) -> Self {
        let below = |value: Option<u64>, bound: Option<u64>| match (value, bound) {
            (Some(value), Some(bound)) => value < bound,
            _ => true,
        };
        let asked = p50.or(p99).or(max).is_some() && times.n + never > 0;
        let met = never == 0
            && below(times.p50_us, p50)
            && below(times.p99_us, p99)
            && below(times.max_us, max);
        Self {
            name: name.into(),
            times,
            never,
            p50_below_us: p50,
            p99_below_us: p99,
            max_below_us: max,
            met: asked.then_some(met),
        }
    }
}

fn targets(measures: &Measures) -> Vec<Target> {
    const NONE: [Option<u64>; 3] = [None; 3];
    const RECOVERY: [Option<u64>; 3] = [Some(500_000), Some(2_000_000), None];
    const HISTORY: [Option<u64>; 3] = [None, None, Some(10_000_000)];
    let never = |counts: fn(&Cluster) -> bool| {
        let noticed = measures.faults.iter().filter(|fault| !fault.vacuous());
        noticed
            .filter(|fault| counts(&measures.clusters[fault.cluster]))
            .count() as u64
    };
    let recovery = &measures.recovery;
    let mut targets = vec![
        Target::of(
            "everything back, no consumer hit",
            recovery.without_consumer,
            never(|cluster| !cluster.consumer && cluster.recovery_us.is_none()),
            RECOVERY,
        ),
        Target::of(
            "sends and plain joins back, a consumer hit",
            recovery.consumer_live,
            never(|cluster| cluster.consumer && cluster.live_us.is_none()),
            RECOVERY,
        ),
        Target::of(
            "ordered joins (they follow the store) back, a consumer hit",
            recovery.consumer_history,
            never(|cluster| cluster.consumer && cluster.history_us.is_none()),
            HISTORY,
        ),
    ];
    if recovery.consumer_lag.n > 0 {
        targets.push(Target::of(
            "the consumers' lag over, a consumer hit (as seldom as it is sampled)",
            recovery.consumer_lag,
            0,
            NONE,
        ));
    }
    let all = never(|cluster| cluster.recovery_us.is_none());
    targets.push(Target::of(
        "everything back, all faults",
        recovery.all,
        all,
        NONE,
    ));
    targets.push(Target::of(
        "of these, not overtaken by the next fault",
        recovery.undisturbed,
        0,
        NONE,
    ));
    targets.push(Target::of("time to detect", recovery.detect, 0, NONE));
    targets.push(Target::of("send outage", recovery.outage, 0, NONE));
    targets
}

fn lines(entries: &[Entry]) -> BTreeMap<String, u64> {
    let mut lines: BTreeMap<&'static str, u64> = BTreeMap::new();
    for entry in entries {
        *lines.entry(event_name(&entry.event)).or_default() += 1;
    }
    lines
        .into_iter()
        .map(|(name, count)| (name.to_owned(), count))
        .collect()
}

/// An event's name as in the history; the rare ones are taken together. By hand: to encode
/// millions of lines for their names alone would take longer than everything else here.
fn event_name(event: &Event) -> &'static str {
    match event {
        Event::Invoke { .. } => "invoke",
        Event::Ok { .. } => "ok",
        Event::Rejected { .. } => "rejected",
        Event::Unknown { .. } => "unknown",
        Event::Opened { .. } => "opened",
        Event::Closed { .. } => "closed",
        Event::Joined { .. } => "joined",
        Event::Left { .. } => "left",
        Event::Replay { .. } => "replay",
        Event::Wire { .. } => "wire",
        Event::Synced { .. } => "synced",
        Event::Given { .. } => "given",
        Event::Log { .. } => "log",
        Event::Row { .. } => "row",
        Event::Page { .. } => "page",
        Event::Gauge { .. } => "gauge",
        Event::LogLine { .. } => "log_line",
        _ => "other",
    }
}
