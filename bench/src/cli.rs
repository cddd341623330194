//! The command line: which benchmarks run, and what becomes of their figures.

use crate::machine::{Machine, Strangers};
use crate::peers::debian;
use crate::report;
use crate::results::{Part, Results, Row, Verdict};
use crate::suite::{Bench, Benchmark, Mode, publish_subject};
use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use hubbub_service::wall_clock_ms;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, timeout};

/// Measures Hubbub beside bare programs and other servers, by turns, on this machine.
///
/// The figures of a day are kept in bench/results/<date>.json, with a table and a chart. Named
/// benchmarks replace their older figures of that day.
#[derive(Debug, Clone, Parser)]
#[command(name = "bench")]
pub struct Args {
    /// Which: B1, B2, ... (see --list); all without a name
    names: Vec<String>,
    /// Fewer rounds: all of it in some twenty minutes
    #[arg(long)]
    quick: bool,
    /// Small numbers and the debug programs: whether it works, never how fast. Keeps nothing
    #[arg(long, conflicts_with = "quick")]
    smoke: bool,
    /// Say what there is
    #[arg(long)]
    list: bool,
    /// Leave out what today's results have already
    #[arg(long)]
    resume: bool,
    /// Leave out other servers
    #[arg(long)]
    no_peers: bool,
    /// Install what other servers need without asking
    #[arg(long)]
    yes: bool,
    /// Put the table and the chart of the newest results into docs/
    #[arg(long)]
    publish: bool,
    /// Where Hubbub's programs are; target/release, or target/debug for --smoke
    #[arg(long)]
    servers: Option<PathBuf>,
    /// Where results are kept [default: bench/results; nowhere with --smoke]
    #[arg(long)]
    results: Option<PathBuf>,
    /// The process that is measured in B14: Redis's URL
    #[arg(long, hide = true, value_name = "URL")]
    subject_publish: Option<String>,
    #[arg(long, hide = true, default_value_t = 1)]
    senders: usize,
    #[arg(long, hide = true, default_value_t = 1)]
    messages: usize,
}

impl Args {
    fn mode(&self) -> Mode {
        match (self.quick, self.smoke) {
            (true, _) => Mode::Quick,
            (_, true) => Mode::Smoke,
            _ => Mode::Full,
        }
    }

    fn results_dir(&self) -> PathBuf {
        let dir = self.results.clone();
        dir.unwrap_or_else(|| Path::new("bench").join("results"))
    }

    /// # Errors
    /// Names what is no benchmark.
    fn chosen(&self) -> Result<Vec<Benchmark>> {
        let mut chosen = Vec::new();
        for name in &self.names {
            let Some(one) = Benchmark::named(name) else {
                bail!("{name} is no benchmark: see --list");
            };
            chosen.push(one);
        }
        if chosen.is_empty() {
            chosen.extend(Benchmark::ALL);
        }
        Ok(chosen)
    }
}

/// Does what the arguments say. `true`: everything ran, and nothing was lost, doubled or out of
/// order; targets that are missed are figures, not failures.
///
/// # Errors
/// When it cannot begin, or results cannot be kept.
pub async fn run(args: Args) -> Result<bool> {
    if let Some(url) = &args.subject_publish {
        publish_subject(url, args.senders, args.messages).await?;
        return Ok(true);
    }
    if args.list {
        for one in Benchmark::ALL {
            println!("{:<7} {}", one.id(), one.about());
        }
        return Ok(true);
    }
    if args.publish {
        let newest = report::newest(&args.results_dir())?;
        report::publish(&newest, Path::new("docs"))?;
        return Ok(true);
    }
    let mode = args.mode();
    let own = std::env::current_exe().context("find this program")?;
    let tools = own.parent().context("find this program's directory")?;
    let servers = args.servers.clone().unwrap_or_else(|| {
        let profile = if mode == Mode::Smoke {
            "debug"
        } else {
            "release"
        };
        Path::new("target").join(profile)
    });
    ensure!(
        servers.join("hubbub-edge-server").is_file(),
        "{} has no servers: build them, or use ./dev bench",
        servers.display()
    );
    // A crowd has more descriptors than the usual limit; children inherit what is raised here.
    hubbub_service::config::check_nofile(10_500)?;
    let dir = tempfile::Builder::new()
        .prefix("hubbub-bench-")
        .tempdir()
        .context("make a directory for logs")?;
    let mut bench = Bench::new(mode, &servers, tools, dir.path(), !args.no_peers);
    let mut terminate = signal(SignalKind::terminate()).context("listen to SIGTERM")?;
    let interrupted = || anyhow::anyhow!("interrupted; go on with --resume");
    // Waits for the end of the suite, for Ctrl-C or for SIGTERM: dropping the suite kills what it
    // started.
    let whole = tokio::select! {
        whole = Box::pin(suite(&args, mode, &mut bench)) => whole,
        _ = tokio::signal::ctrl_c() => Err(interrupted()),
        _ = terminate.recv() => Err(interrupted()),
    };
    bench.leave_town().await;
    if !matches!(whole, Ok(true)) {
        // Logs tell why.
        eprintln!("logs are kept in {}", dir.keep().display());
    }
    whole
}

async fn suite(args: &Args, mode: Mode, bench: &mut Bench) -> Result<bool> {
    let chosen = args.chosen()?;
    let order: Vec<&str> = Benchmark::ALL.iter().map(|one| one.id()).collect();
    let date = date(wall_clock_ms());
    let path = args.results_dir().join(format!("{date}.json"));
    let mut results = start_results(args, mode, date, &path)?;
    if !args.no_peers
        && mode != Mode::Smoke
        && let Err(unavailable) = debian::install(args.yes)
    {
        eprintln!("{unavailable}");
    }
    let commit = commit();
    let mut whole = true;
    for one in chosen {
        let there = results.parts.iter().any(|part| part.id == one.id());
        if args.resume && there {
            eprintln!("{}: is there", one.id());
            continue;
        }
        eprintln!("{}: {}", one.id(), one.about());
        let part = measure(one, mode, bench, &commit).await?;
        let failed = |row: &Row| matches!(row.verdict, Verdict::Failed(_));
        whole &= !part.rows.iter().any(failed);
        for row in &part.rows {
            eprintln!("  {}", report::line(row));
        }
        results.put(part, &order);
        if mode != Mode::Smoke || args.results.is_some() {
            results.write(&path)?;
            report::write(&results, &path)?;
        }
    }
    println!("{}", report::table(&results));
    Ok(whole)
}

/// Today's, where something is to be added to it.
fn start_results(args: &Args, mode: Mode, date: String, path: &Path) -> Result<Results> {
    let adds = args.resume || !args.names.is_empty();
    let kept = if adds && mode != Mode::Smoke {
        Results::read(path)?
    } else {
        None
    };
    match kept {
        Some(kept) => Ok(kept),
        None => Ok(Results {
            date,
            mode: mode.word().to_owned(),
            machine: Machine::this()?,
            parts: Vec::new(),
        }),
    }
}

/// Runs one benchmark; what goes wrong in it becomes a row and no end of the suite.
async fn measure(one: Benchmark, mode: Mode, bench: &mut Bench, commit: &str) -> Result<Part> {
    let limit = Duration::from_secs(match mode {
        Mode::Full => 1_800,
        Mode::Quick => 240,
        Mode::Smoke => 90,
    });
    let (strangers, begun) = (Strangers::watch()?, Instant::now());
    let outcome = match timeout(limit, one.run(bench)).await {
        Ok(outcome) => outcome,
        Err(_) => Err(anyhow::anyhow!("not done after {limit:?}")),
    };
    let rows = match outcome {
        Ok(rows) if mode == Mode::Smoke => rows.into_iter().map(without_verdict).collect(),
        Ok(rows) => rows,
        Err(error) => {
            // Whatever it left half done is not for the next one.
            bench.leave_town().await;
            let mut row = Row::new(one.id(), one.about(), "", "");
            row.verdict = Verdict::Failed(format!("{error:#}"));
            vec![row]
        }
    };
    Ok(Part {
        id: one.id().to_owned(),
        rows,
        mode: mode.word().to_owned(),
        seconds: begun.elapsed().as_secs_f64(),
        strangers: strangers.cores()?,
        commit: commit.to_owned(),
    })
}

/// Of a smoke nothing but the counts means anything.
fn without_verdict(mut row: Row) -> Row {
    if matches!(row.verdict, Verdict::Met | Verdict::Missed) {
        row.verdict = Verdict::Reported;
    }
    row
}

/// The commit that is checked out, with a `+` if files differ from it.
fn commit() -> String {
    let output = std::process::Command::new("git")
        .args(["describe", "--always", "--abbrev=10", "--dirty=+"])
        .output();
    output.map_or_else(
        |_| "unknown".to_owned(),
        |output| String::from_utf8_lossy(&output.stdout).trim().to_owned(),
    )
}

/// The day in UTC, `2026-11-21`, of a time in milliseconds since 1970.
fn date(ms: i64) -> String {
    // Days since 1 March of year 0, in eras of 400 years: leap days come last in a year.
    let days = ms.div_euclid(86_400_000) + 719_468;
    let (era, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, later) = if month < 10 {
        (month + 3, 0)
    } else {
        (month - 9, 1)
    };
    format!("{:04}-{month:02}-{day:02}", era * 400 + year + later)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_have_their_dates() {
        let day = 86_400_000;
        assert_eq!(date(0), "1970-01-01");
        assert_eq!(date(day * 59 - 1), "1970-02-28");
        assert_eq!(date(day * 11_016), "2000-02-29");
        assert_eq!(date(1_795_305_599_999), "2026-11-21");
        assert_eq!(date(1_795_305_600_000), "2026-11-22");
    }

    #[test]
    fn what_is_no_benchmark_is_named() {
        let args = Args::parse_from(["bench", "b1", "B27", "sweep"]);
        let chosen = args.chosen().expect("all three are known");
        assert_eq!(chosen, [Benchmark::B1, Benchmark::B27, Benchmark::Sweep]);
        let error = Args::parse_from(["bench", "B99"]).chosen();
        assert!(error.expect_err("no benchmark").to_string().contains("B99"));
    }
}
