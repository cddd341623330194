//! One run, from the first server to the last line of the report.

use std::path::Path;

use anyhow::{Context, Result};
use hubbub_checker::{Fault, Verdict};
use hubbub_torture_report::Run;
use tokio::time::Instant;

use crate::{
    facts,
    files::{RunDir, copy_logs, write_json},
    judge, play,
    profile::Profile,
    progress::Progress,
    system::{Plan, System, settings},
};

/// What is run.
#[derive(Debug, Clone)]
pub struct Order {
    /// Its size.
    pub profile: Profile,
    /// Of all choices.
    pub seed: u64,
    /// The faults; drawn from the seed if absent.
    pub faults: Option<Vec<Fault>>,
    /// The programs, and what was planted in them.
    pub plan: Plan,
    /// Says nothing while it runs.
    pub silent: bool,
}

/// How a run ended.
#[derive(Debug)]
pub struct Outcome {
    /// What the checker says.
    pub verdict: Verdict,
    /// What went wrong with the suite itself: a run with an error proves nothing.
    pub errors: Vec<String>,
    /// Faults that nobody noticed.
    pub vacuous: Vec<u32>,
}

impl Outcome {
    /// Whether the run shows that the contract held.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.verdict.holds() && self.errors.is_empty()
    }
}

/// Runs, judges and reports into a directory.
///
/// # Errors
/// When the system does not start, or what must be read at the end cannot be.
pub async fn run(order: &Order, dir: &RunDir) -> Result<Outcome> {
    let began = Instant::now();
    let began_unix_ms = u64::try_from(hubbub_service::wall_clock_ms()).unwrap_or(0);
    let progress = Progress::new(order.silent);
    let name = &order.profile.name;
    progress.say(&format!("profile {name}, seed {}: starting", order.seed));
    let started = Box::pin(System::start(&order.plan, &|_| {})).await;
    let system = started.context("start the system")?;
    progress.say("2 HAProxy, 3 edges, 2 API servers, 3 consumers, Redis, Kafka, 3 Postgres run");
    let logs = system.logs();
    let played = Box::pin(play::play(order, dir, &system, &progress)).await;
    // Whatever happened, the logs tell of it.
    copy_logs(&logs, &dir.logs())?;
    let played = played?;
    progress.say(&format!("{} lines of history; judging", played.lines));

    let mut run = Run {
        profile: name.clone(),
        seed: order.seed,
        mutant: order.plan.mutant.clone(),
        commit: facts::commit(),
        machine: facts::machine(),
        began_unix_ms,
        command: match order.faults {
            Some(_) => format!("./dev torture replay {}", dir.path().display()),
            None => format!("./dev torture --profile {name} --seed {}", order.seed),
        },
        left_out: played.left_out.clone(),
        errors: played.errors.clone(),
        ..Run::default()
    };
    let sizes = [
        ("messages", order.profile.messages),
        ("sockets", order.profile.sockets() as u64),
        ("channels", order.profile.channels as u64),
        (
            "single_row_pages_of_every_nth_channel",
            order.profile.single_rows_of as u64,
        ),
        ("messages_abandoned", played.abandoned),
        ("pages_read_meanwhile", played.paged.pages),
        ("pages_failed_meanwhile", played.paged.failed),
    ];
    let sizes = sizes.map(|(key, value)| (key.to_owned(), value.to_string()));
    let environment = settings().into_iter();
    let environment = environment.map(|(key, value)| (key.to_owned(), value.to_owned()));
    run.settings = sizes.into_iter().chain(environment).collect();
    run.took_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    write_json(&dir.run(), &run)?;

    // How servers end is `drain`'s business; here they are only in the way.
    drop(system);
    let judged_dir = dir.clone();
    let judged = tokio::task::spawn_blocking(move || judge::judge(&judged_dir)).await;
    let verdict = judged.context("judge the run")??;
    Ok(Outcome {
        verdict,
        errors: run.errors,
        vacuous: played.vacuous,
    })
}

/// The verdict in words, and where the rest stands.
#[must_use]
pub fn summary(verdict: &Verdict, errors: &[String], vacuous: &[u32], dir: &Path) -> String {
    use std::fmt::Write as _;
    let mut text = String::new();
    let mut line = |line: &str| {
        // A String takes every write.
        writeln!(text, "{line}").ok();
    };
    line(&verdict.sentence());
    for (assertion, count) in &verdict.broken {
        line(&format!("  {assertion:?}: {count} violations, the first:"));
        let of_it = |v: &&hubbub_checker::Violation| v.assertion == *assertion;
        for violation in verdict.violations.iter().filter(of_it).take(3) {
            line(&format!("    {}: {}", violation.name, violation.message));
        }
    }
    for error in errors {
        line(&format!("  the run is not valid: {error}"));
    }
    if !vacuous.is_empty() {
        line(&format!(
            "  {} faults had no effect that anybody saw and do not count: {vacuous:?}",
            vacuous.len()
        ));
    }
    for file in ["report.md", "timeline.html"] {
        line(&format!("  {}", dir.join(file).display()));
    }
    text
}
