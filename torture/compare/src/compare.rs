//! The comparison as a whole.

use std::{collections::BTreeMap, path::Path};

use anyhow::{Context, Result, bail, ensure};
use futures_util::future::try_join_all;
use serde::{Deserialize, Serialize};

use crate::{
    CompareArgs, Figures, Run, System,
    plan::Plan,
    run::{Programs, run},
    socketio, table,
};

/// A system that was not there.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Skipped {
    /// Which.
    pub system: System,
    /// Why.
    pub why: String,
}

/// Everything that came of a comparison.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Comparison {
    /// Messages in a run.
    pub messages: usize,
    /// Over so many seconds.
    pub seconds: u64,
    /// Of the runs, in order.
    pub seeds: Vec<u64>,
    /// Whether the systems ran at the same time.
    pub at_the_same_time: bool,
    /// Versions of what was compared.
    pub versions: BTreeMap<String, String>,
    /// What was not there.
    pub skipped: Vec<Skipped>,
    /// The sums, by name, in the order of the table. A name with a comma is a part of the system
    /// before the comma.
    pub sums: Vec<(String, Figures)>,
    /// The runs.
    pub runs: Vec<Run>,
}

impl Comparison {
    /// Whether Hubbub, if it ran, lost, doubled and invented nothing, kept every acknowledged
    /// message, answered every send, and kept the order where it promises one.
    #[must_use]
    pub fn hubbub_holds(&self) -> bool {
        let runs = self.runs.iter().filter(|run| run.system == System::Hubbub);
        let holds = |f: &Figures| {
            f.lost() + f.doubled + f.phantom + f.unanswered == 0
                && f.acked_not_stored.unwrap_or(0) + f.shown_not_stored.unwrap_or(0) == 0
                && f.out_of_order_by_seq.unwrap_or(0) == 0
        };
        let in_order = |run: &Run| {
            let ordered = run.parts.iter().filter(|(name, _)| name == "ordered joins");
            ordered
                .map(|(_, figures)| figures.out_of_order)
                .sum::<u64>()
                == 0
        };
        runs.fold(true, |all, run| all && holds(&run.figures) && in_order(run))
    }
}

/// Runs the comparison, writes `compare.md` and `compare.json`, and prints the table. Returns
/// whether Hubbub held what it promises; what the others lose is no failure.
///
/// # Errors
/// When a system that was named is not there, or a run came to nothing.
pub async fn compare(args: CompareArgs) -> Result<bool> {
    let comparison = run_compare(&args).await?;
    let text = table::markdown(&comparison);
    write(&args.dir.join("compare.md"), &text)?;
    let json = serde_json::to_string_pretty(&comparison).context("encode the comparison")?;
    write(&args.dir.join("compare.json"), &json)?;
    println!("{text}");
    println!("Written to {}.", args.dir.display());
    Ok(comparison.hubbub_holds())
}

/// [`compare`] without the files of the result; each run's history is written all the same.
///
/// # Errors
/// As [`compare`].
pub async fn run_compare(args: &CompareArgs) -> Result<Comparison> {
    let (programs, systems, skipped) = find(args).await?;
    ensure!(!systems.is_empty(), "there is nothing to compare");
    for Skipped { system, why } in &skipped {
        println!("{system}: skipped, {why}");
    }
    let seeds: Vec<u64> = (args.seed..).take(usize::try_from(args.runs)?).collect();
    let mut runs = Vec::new();
    for (number, seed) in (1..).zip(&seeds) {
        println!("run {number} of {}, seed {seed}", seeds.len());
        let plan = Plan::draw(*seed, args.messages, args.seconds);
        let dir = args.dir.join(format!("seed-{seed}"));
        let all = systems.iter().map(|system| {
            let dir = dir.join(system.word());
            one(*system, &programs, &plan, dir)
        });
        if args.one_at_a_time {
            for run in all {
                runs.push(run.await?);
            }
        } else {
            runs.extend(try_join_all(all).await?);
        }
    }
    Ok(Comparison {
        messages: args.messages,
        seconds: args.seconds,
        seeds,
        at_the_same_time: !args.one_at_a_time && systems.len() > 1,
        versions: versions(&programs),
        skipped,
        sums: sums(&systems, &runs),
        runs,
    })
}

async fn one(
    system: System,
    programs: &Programs,
    plan: &Plan,
    dir: std::path::PathBuf,
) -> Result<Run> {
    let run = Box::pin(run(system, programs, plan, &dir)).await;
    let run = run.with_context(|| format!("{system}, seed {}", plan.seed))?;
    println!("  {system}: {}", run.verdict.sentence());
    Ok(run)
}

/// What of that which is wanted is there.
async fn find(args: &CompareArgs) -> Result<(Programs, Vec<System>, Vec<Skipped>)> {
    let wanted = match args.systems.as_slice() {
        [] => System::ALL.to_vec(),
        some => System::ALL
            .into_iter()
            .filter(|s| some.contains(s))
            .collect(),
    };
    let bin_dir = match &args.bin_dir {
        Some(dir) => dir.clone(),
        None => hubbub_stack::test_bin_dir()?,
    };
    let (mut socketio, mut absent) = (None, String::new());
    let node = |s: &System| matches!(s, System::SocketioRedis | System::SocketioStreams);
    if wanted.iter().any(node) {
        match socketio::install().await? {
            Ok(installed) => socketio = Some(installed),
            Err(why) => absent = why.to_string(),
        }
    }
    let missing = |program: &str| {
        let path = bin_dir.join(program);
        (!path.is_file()).then(|| format!("{} is not built", path.display()))
    };
    let (mut systems, mut skipped) = (Vec::new(), Vec::new());
    for system in wanted {
        let why = match system {
            System::Hubbub => missing("hubbub-edge-server"),
            System::SeedFlow if !cfg!(feature = "seed-flow") => {
                Some("built without the feature seed-flow".to_owned())
            }
            System::SeedFlow => missing("seed-edge"),
            _ => socketio.is_none().then(|| absent.clone()),
        };
        match why {
            None => systems.push(system),
            Some(why) if args.systems.is_empty() => skipped.push(Skipped { system, why }),
            Some(why) => bail!("{system} was asked for: {why}"),
        }
    }
    Ok((Programs { bin_dir, socketio }, systems, skipped))
}

fn versions(programs: &Programs) -> BTreeMap<String, String> {
    let mut versions = BTreeMap::new();
    if let Some(installed) = &programs.socketio {
        versions.extend(socketio::versions());
        versions.insert("node".to_owned(), installed.node_version.clone());
    }
    versions
}

fn sums(systems: &[System], runs: &[Run]) -> Vec<(String, Figures)> {
    let mut sums: Vec<(String, Figures)> = Vec::new();
    for system in systems {
        for run in runs.iter().filter(|run| run.system == *system) {
            let whole = (system.to_string(), &run.figures);
            let parts = run
                .parts
                .iter()
                .map(|(name, figures)| (format!("{system}, {name}"), figures));
            for (name, figures) in std::iter::once(whole).chain(parts) {
                match sums.iter_mut().find(|(sum, _)| *sum == name) {
                    Some((_, sum)) => sum.add(figures),
                    None => sums.push((name, figures.clone())),
                }
            }
        }
    }
    sums
}

fn write(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).with_context(|| format!("write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn comparison(figures: Figures, ordered: Figures) -> Comparison {
        let run = Run {
            system: System::Hubbub,
            seed: 1,
            figures,
            parts: vec![("ordered joins".to_owned(), ordered)],
            verdict: hubbub_checker::Verdict::default(),
        };
        Comparison {
            messages: 1,
            seconds: 60,
            seeds: vec![1],
            at_the_same_time: false,
            versions: BTreeMap::new(),
            skipped: Vec::new(),
            sums: sums(&[System::Hubbub], std::slice::from_ref(&run)),
            runs: vec![run],
        }
    }

    #[test]
    fn hubbub_is_held_to_its_promises_only() {
        let good = Figures::default();
        let late = Figures {
            out_of_order: 3,
            out_of_order_by_seq: Some(0),
            ..Figures::default()
        };
        // A plain join may hand on late what had to be repaired; an ordered one may not.
        assert!(comparison(late.clone(), good.clone()).hubbub_holds());
        assert!(!comparison(late.clone(), late).hubbub_holds());
        let breaks: [fn(&mut Figures); 5] = [
            |f| f.lost_while_away = 1,
            |f| f.doubled = 1,
            |f| f.unanswered = 1,
            |f| f.acked_not_stored = Some(1),
            |f| f.out_of_order_by_seq = Some(1),
        ];
        for (n, broken) in breaks.iter().enumerate() {
            let mut figures = good.clone();
            broken(&mut figures);
            assert!(!comparison(figures, good.clone()).hubbub_holds(), "{n}");
        }
    }

    #[test]
    fn sums_are_by_system_and_part() {
        let one = Figures {
            sent: 2,
            acked_not_stored: Some(1),
            latencies_us: vec![3, 1],
            ..Figures::default()
        };
        let comparison = comparison(one.clone(), Figures::default());
        let runs = [comparison.runs.clone(), comparison.runs].concat();
        let sums = sums(&[System::Hubbub], &runs);
        let names: Vec<&str> = sums.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["Hubbub", "Hubbub, ordered joins"]);
        assert_eq!((sums[0].1.sent, sums[0].1.acked_not_stored), (4, Some(2)));
    }
}
