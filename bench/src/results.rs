//! What a run of the suite found, as it is kept.

use crate::machine::Machine;
use crate::pair::{Comparison, Sample, Side, Spread};
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// What a ratio must be.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// This or more.
    AtLeast(f64),
    /// This or less.
    AtMost(f64),
}

impl Target {
    /// Whether a value reaches it.
    #[must_use]
    pub fn is_met(self, value: f64) -> bool {
        match self {
            Self::AtLeast(least) => value >= least,
            Self::AtMost(most) => value <= most,
        }
    }
}

/// How a row ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The target is reached.
    Met,
    /// It is not.
    Missed,
    /// There is no target: the figure is for looking.
    Reported,
    /// There is no figure: what it needs is not installed.
    NotMeasured(String),
    /// Something broke, or a message was lost, doubled or out of order.
    Failed(String),
}

/// One line of the table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// `B1`
    pub id: String,
    /// What was done.
    pub workload: String,
    /// What was measured of both: `CPU a delivery, us`.
    pub metric: String,
    /// Ours.
    pub subject: String,
    /// What it is held against; empty where a figure stands for itself.
    pub paired_with: String,
    /// Its version, if it is not built here.
    pub version: String,
    /// The metric of ours.
    pub ours: Spread,
    /// The metric of theirs.
    pub theirs: Option<Spread>,
    /// What the target is about; of each round, then the median.
    pub ratio: Option<Spread>,
    /// How the ratio is built: `theirs / ours` or `ours / theirs`.
    pub ratio_is: String,
    /// The same of the CPU in user mode alone.
    pub user_ratio: Option<Spread>,
    /// What the ratio, or ours where there is none, must be.
    pub target: Option<Target>,
    /// How it ended.
    pub verdict: Verdict,
    /// Rounds, each with both.
    pub rounds: usize,
    /// Exact counts over all rounds.
    pub counts: BTreeMap<String, u64>,
    /// What else was seen.
    pub figures: BTreeMap<String, f64>,
}

impl Row {
    /// A row without any figure yet.
    #[must_use]
    pub fn new(id: &str, workload: &str, metric: &str, subject: &str) -> Self {
        Self {
            id: id.to_owned(),
            workload: workload.to_owned(),
            metric: metric.to_owned(),
            subject: subject.to_owned(),
            paired_with: String::new(),
            version: String::new(),
            ours: Spread::default(),
            theirs: None,
            ratio: None,
            ratio_is: String::new(),
            user_ratio: None,
            target: None,
            verdict: Verdict::Reported,
            rounds: 0,
            counts: BTreeMap::new(),
            figures: BTreeMap::new(),
        }
    }

    /// CPU an operation beside another system; the ratio is theirs / ours.
    #[must_use]
    pub fn compared(mut self, with: &str, ours: &[Sample], theirs: &[Sample]) -> Self {
        let comparison = Comparison::of(ours, theirs);
        with.clone_into(&mut self.paired_with);
        self.ours = comparison.ours_us;
        self.theirs = Some(comparison.theirs_us);
        self.ratio = Some(comparison.ratio);
        "theirs / ours".clone_into(&mut self.ratio_is);
        self.user_ratio = (comparison.user_ratio.median > 0.0).then_some(comparison.user_ratio);
        self.rounds = ours.len();
        self.counted(ours)
    }

    /// [`Row::compared`] with another server and its target, if it went through.
    #[must_use]
    pub fn beside(
        self,
        side: &Side,
        ours: &[Sample],
        theirs: &[Sample],
        target: Option<Target>,
    ) -> Self {
        if let Some(why) = &side.failed {
            let why = Verdict::Failed(why.clone());
            return self.without(&side.name, why).version(&side.version);
        }
        let row = self
            .compared(&side.name, ours, theirs)
            .version(&side.version);
        match target {
            Some(target) => row.target(target),
            None => row,
        }
    }

    /// Some value of each round beside another system's; the ratio is ours / theirs.
    #[must_use]
    pub fn against(mut self, with: &str, ours: &[f64], theirs: &[f64]) -> Self {
        with.clone_into(&mut self.paired_with);
        self.ours = Spread::of(ours.iter().copied());
        self.theirs = Some(Spread::of(theirs.iter().copied()));
        self.ratio = Some(ratio(ours, theirs));
        "ours / theirs".clone_into(&mut self.ratio_is);
        self.rounds = ours.len();
        self
    }

    /// The same upside down: theirs / ours.
    #[must_use]
    pub fn theirs_by_ours(mut self, with: &str, ours: &[f64], theirs: &[f64]) -> Self {
        self = self.against(with, ours, theirs);
        self.ratio = Some(ratio(theirs, ours));
        "theirs / ours".clone_into(&mut self.ratio_is);
        self
    }

    /// Some value of each round that stands for itself.
    #[must_use]
    pub fn measured(mut self, values: &[f64]) -> Self {
        self.ours = Spread::of(values.iter().copied());
        self.rounds = values.len();
        self
    }

    /// Adds up what the client counted.
    #[must_use]
    pub fn counted(mut self, samples: &[Sample]) -> Self {
        for figures in samples.iter().map(|sample| &sample.figures) {
            for (name, count) in [
                ("sent", figures.sent),
                ("delivered", figures.delivered),
                ("lost", figures.lost),
                ("duplicated", figures.duplicated),
                ("out_of_order", figures.misordered),
            ] {
                *self.counts.entry(name.to_owned()).or_default() += count;
            }
        }
        self
    }

    /// The version of what it is held against.
    #[must_use]
    pub fn version(mut self, version: &str) -> Self {
        version.clone_into(&mut self.version);
        self
    }

    /// A count beside those.
    #[must_use]
    pub fn count(mut self, name: &str, count: u64) -> Self {
        self.counts.insert(name.to_owned(), count);
        self
    }

    /// A further figure.
    #[must_use]
    pub fn figure(mut self, name: &str, value: f64) -> Self {
        self.figures.insert(name.to_owned(), value);
        self
    }

    /// Judges the median of the ratio, or of ours where there is no ratio.
    #[must_use]
    pub fn target(mut self, target: Target) -> Self {
        let value = self.ratio.map_or(self.ours.median, |ratio| ratio.median);
        self.target = Some(target);
        self.verdict = if target.is_met(value) {
            Verdict::Met
        } else {
            Verdict::Missed
        };
        self
    }

    /// There is no figure, and why.
    #[must_use]
    pub fn without(mut self, with: &str, why: Verdict) -> Self {
        with.clone_into(&mut self.paired_with);
        self.verdict = why;
        self
    }
}

/// Of each round; one whose divisor was too small to be seen gives none.
fn ratio(above: &[f64], below: &[f64]) -> Spread {
    let rounds = above.iter().zip(below).filter(|(_, below)| **below > 0.0);
    Spread::of(rounds.map(|(above, below)| above / below))
}

/// The rows of one benchmark, and how quiet the machine was meanwhile.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Part {
    /// `B1`
    pub id: String,
    /// Its rows.
    pub rows: Vec<Row>,
    /// `full`, `quick` or `smoke`.
    pub mode: String,
    /// How long it took.
    pub seconds: f64,
    /// Cores that were busy with something else, on average.
    pub strangers: f64,
    /// The commit whose programs were measured; `+` at its end: with changes.
    pub commit: String,
}

/// Everything that was found on a day.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Results {
    /// `2026-11-21`
    pub date: String,
    /// `full`, `quick` or `smoke`.
    pub mode: String,
    /// Where.
    pub machine: Machine,
    /// In the order of the suite.
    pub parts: Vec<Part>,
}

impl Results {
    /// Reads what was kept; `None` if there is nothing.
    ///
    /// # Errors
    /// When it is there and cannot be read.
    pub fn read(path: &Path) -> Result<Option<Self>> {
        if !path.exists() {
            return Ok(None);
        }
        let text = std::fs::read_to_string(path);
        let text = text.with_context(|| format!("read {}", path.display()))?;
        let results = serde_json::from_str(&text);
        results.with_context(|| format!("understand {}", path.display()))
    }

    /// Keeps it; a reader sees the old or the new file, never half of one.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        if let Some(dir) = path.parent() {
            std::fs::create_dir_all(dir).with_context(|| format!("create {}", dir.display()))?;
        }
        let json = serde_json::to_string_pretty(self)? + "\n";
        let half = path.with_extension("json.part");
        std::fs::write(&half, json).with_context(|| format!("write {}", half.display()))?;
        std::fs::rename(&half, path).with_context(|| format!("write {}", path.display()))
    }

    /// Puts a part in its place, instead of an older one.
    pub fn put(&mut self, part: Part, order: &[&str]) {
        self.parts.retain(|old| old.id != part.id);
        self.parts.push(part);
        let place = |id: &str| order.iter().position(|known| *known == id);
        self.parts.sort_by_key(|part| place(&part.id));
    }

    /// All rows.
    pub fn rows(&self) -> impl Iterator<Item = &Row> {
        self.parts.iter().flat_map(|part| &part.rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(id: &str, seconds: f64) -> Part {
        Part {
            id: id.to_owned(),
            rows: vec![
                Row::new(id, "w", "m", "s")
                    .against("x", &[2.0, 3.0], &[1.0, 1.0])
                    .target(Target::AtMost(2.5)),
            ],
            mode: "quick".to_owned(),
            seconds,
            strangers: 0.0,
            commit: "c".to_owned(),
        }
    }

    #[test]
    fn parts_replace_older_ones_and_keep_the_order() {
        let mut results = Results {
            date: "d".to_owned(),
            mode: "quick".to_owned(),
            machine: Machine::default(),
            parts: Vec::new(),
        };
        let order = ["B1", "B2"];
        for (id, seconds) in [("B2", 1.0), ("B1", 2.0), ("B2", 3.0)] {
            results.put(part(id, seconds), &order);
        }
        let kept: Vec<_> = results.parts.iter().map(|p| (&*p.id, p.seconds)).collect();
        assert_eq!(kept, [("B1", 2.0), ("B2", 3.0)]);
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("a/b.json");
        assert_eq!(Results::read(&path).expect("nothing"), None);
        results.write(&path).expect("written");
        assert_eq!(Results::read(&path).expect("read"), Some(results));
    }

    #[test]
    fn the_median_is_judged() {
        let row = part("B1", 0.0).rows.remove(0);
        assert_eq!(row.ratio.map(|ratio| ratio.median), Some(2.5));
        assert_eq!(row.verdict, Verdict::Met);
        assert_eq!(row.target(Target::AtMost(2.4)).verdict, Verdict::Missed);
        let alone = Row::new("B27", "w", "m", "s").measured(&[5.0]);
        assert_eq!(alone.target(Target::AtMost(4.0)).verdict, Verdict::Missed);
    }
}
