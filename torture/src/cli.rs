//! The command line.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand};
use hubbub_checker::FaultKind;
use hubbub_compare::CompareArgs;
use hubbub_storm::{DrainArgs, StormArgs};

use crate::{
    files::{RunDir, Schedule, read_json},
    judge::judge,
    mutants::{self, MutantsArgs},
    profile::Profile,
    progress::spelled,
    run::{self, Order, Outcome, summary},
    system::Plan,
};

/// Where runs are kept unless they are told.
const RUNS: &str = "target/torture";

/// Runs the whole system behind fault proxies, keeps people talking while faults come and go, and
/// holds what everybody saw against the contract: nothing lost, doubled, out of order, invented,
/// shown to the wrong user, acknowledged falsely or claimed to be recovered when it is not.
///
/// Without a command it runs once: t0 is the smoke test (5,000 messages, 24 faults, at most two
/// minutes), t1 the torture (100,000 messages, 200 faults, 500 sockets, about twenty minutes).
/// The same seed draws the same faults at the same times. Exit code 0: nothing was broken;
/// 1: something was, or the run proves nothing.
///
/// A run's directory holds report.md and timeline.html for people, report.json and verdict.json
/// for programs, run.json, schedule.json and history.jsonl to judge or repeat it, and the logs.
#[derive(Debug, Parser)]
#[command(
    name = "torture",
    bin_name = "./dev torture",
    version,
    max_term_width = 100
)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Arguments {
    #[command(flatten)]
    run: RunArgs,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Args)]
struct RunArgs {
    /// How large: t0 or t1.
    #[arg(long, default_value = "t0")]
    profile: String,
    /// What the faults and the workload are drawn from; a new one each time if absent.
    #[arg(long)]
    seed: Option<u64>,
    /// Keep the run here: a directory without one. [default: target/torture/PROFILE-SEED]
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Only the first so many faults of the schedule, 0 for none.
    #[arg(long, value_name = "COUNT")]
    faults: Option<usize>,
    /// Only faults of this kind, as the schedule spells it (repeat it for more).
    #[arg(long, value_name = "KIND", value_parser = fault_kind)]
    only: Vec<FaultKind>,
    /// No faults of this kind (repeat it for more).
    #[arg(long, value_name = "KIND", value_parser = fault_kind)]
    without: Vec<FaultKind>,
    #[command(flatten)]
    programs: Programs,
}

/// Which programs run.
#[derive(Debug, Clone, Args)]
pub struct Programs {
    /// Where the servers' programs are. [default: beside this one]
    #[arg(long, hide = true, value_name = "DIR")]
    pub bin_dir: Option<PathBuf>,
    /// Run servers with this mistake planted in them (they must be built for it: see `mutants`).
    #[arg(long, value_name = "NAME")]
    pub mutant: Option<String>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Judge a saved run again, and write its verdict and reports anew.
    Check {
        /// The run's directory.
        dir: PathBuf,
    },
    /// Run again with the seed and the schedule of a saved run.
    Replay {
        /// The saved run's directory.
        saved: PathBuf,
        /// Keep the new run here. [default: target/torture/PROFILE-SEED]
        #[arg(long)]
        dir: Option<PathBuf>,
        #[command(flatten)]
        programs: Programs,
    },
    /// Plant each known mistake in the servers and see that a run notices it.
    Mutants(MutantsArgs),
    /// Cut thousands of sockets at once and see how fast all are back.
    Storm(StormArgs),
    /// Roll every process again and again under load and see that nobody notices.
    Drain(DrainArgs),
    /// Hold the seed's flow and socket.io against the same contract, beside Hubbub.
    Compare(CompareArgs),
}

impl Arguments {
    /// Does what was asked; false: something was broken.
    ///
    /// # Errors
    /// When it could not be done, which proves nothing.
    pub async fn execute(self) -> Result<bool> {
        match self.command {
            None => one_run(self.run).await,
            Some(Command::Check { dir }) => check(&dir).await,
            Some(Command::Replay {
                saved,
                dir,
                programs,
            }) => replay(&saved, dir, programs).await,
            Some(Command::Mutants(args)) => Box::pin(mutants::run_all(args)).await,
            Some(Command::Storm(args)) => Box::pin(hubbub_storm::storm(args)).await,
            Some(Command::Drain(args)) => Box::pin(hubbub_storm::drain(args)).await,
            Some(Command::Compare(args)) => Box::pin(hubbub_compare::compare(args)).await,
        }
    }
}

impl Programs {
    /// What to start.
    ///
    /// # Errors
    /// When this program is not where Cargo puts it.
    pub fn plan(self) -> Result<Plan> {
        let bin_dir = match self.bin_dir {
            Some(dir) => dir,
            None => hubbub_stack::test_bin_dir()?,
        };
        Ok(Plan {
            bin_dir,
            mutant: self.mutant,
        })
    }
}

fn fault_kind(text: &str) -> Result<FaultKind> {
    let found = serde_json::from_value(serde_json::Value::from(text));
    found.map_err(|_| {
        let all: Vec<_> = hubbub_faults::KINDS.iter().map(spelled).collect();
        anyhow::anyhow!("no such kind; there are: {}", all.join(" "))
    })
}

async fn one_run(args: RunArgs) -> Result<bool> {
    let mut profile = Profile::named(&args.profile)?;
    let seed = match args.seed {
        Some(seed) => seed,
        // Short enough to be typed.
        None => u64::from(rand::random::<u16>()),
    };
    if let Some(faults) = args.faults {
        profile.limit_faults(faults);
    }
    let wanted = |kind: &FaultKind| {
        (args.only.is_empty() || args.only.contains(kind)) && !args.without.contains(kind)
    };
    profile.faults.kinds.retain(wanted);
    let order = Order {
        profile,
        seed,
        faults: None,
        plan: args.programs.plan()?,
        silent: false,
    };
    run_into(&order, args.dir).await
}

async fn replay(saved: &Path, dir: Option<PathBuf>, programs: Programs) -> Result<bool> {
    let saved = RunDir::open(saved)?;
    let schedule: Schedule = read_json(&saved.schedule())?;
    let order = Order {
        profile: Profile::named(&schedule.profile)?,
        seed: schedule.seed,
        faults: Some(schedule.faults),
        plan: programs.plan()?,
        silent: false,
    };
    run_into(&order, dir).await
}

async fn run_into(order: &Order, dir: Option<PathBuf>) -> Result<bool> {
    let dir = RunDir::create(&dir.unwrap_or_else(|| free_dir(order)))?;
    let outcome = Box::pin(run::run(order, &dir)).await?;
    let Outcome {
        verdict,
        errors,
        vacuous,
    } = &outcome;
    print!("{}", summary(verdict, errors, vacuous, dir.path()));
    Ok(outcome.holds())
}

/// `target/torture/t0-42`, with a number behind it for the second run of a seed.
fn free_dir(order: &Order) -> PathBuf {
    let name = format!("{}-{}", order.profile.name, order.seed);
    let first = Path::new(RUNS).join(&name);
    let others = (2_u32..).map(|n| Path::new(RUNS).join(format!("{name}-{n}")));
    let mut all = std::iter::once(first).chain(others);
    all.find(|dir| !dir.exists()).expect("a number is free")
}

async fn check(dir: &Path) -> Result<bool> {
    let dir = RunDir::open(dir)?;
    let judged = dir.clone();
    let judging = tokio::task::spawn_blocking(move || judge(&judged));
    let verdict = judging.await.context("judge the run")??;
    let run: hubbub_torture_report::Run = read_json(&dir.run())?;
    print!("{}", summary(&verdict, &run.errors, &[], dir.path()));
    Ok(verdict.holds() && run.errors.is_empty())
}
