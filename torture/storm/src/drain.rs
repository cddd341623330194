//! Every process is rolled again and again under load: nobody loses anything, and no send is
//! left unknown.

use std::time::Duration;

use hubbub_stack::{Role, Service};
use serde::{Deserialize, Serialize};

use crate::{
    DrainArgs, Refusal, Roll,
    crowd::Crowd,
    ending::Ending,
    http_load::HttpLoad,
    output,
    town::{Plan, Town},
    writers::Writers,
};

/// Those who share the writing.
const WRITERS: usize = 10;
/// Sockets a second that connect at the beginning.
const ARRIVALS: f64 = 200.0;
/// Their graces, as they are by default.
const EDGE_GRACE: Duration = Duration::from_secs(35);
const API_GRACE: Duration = Duration::from_secs(30);
const CONSUMER_GRACE: Duration = Duration::from_secs(25);
/// One look at `/readyz`.
const LOOK: Duration = Duration::from_secs(1);

/// `drain.json`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct DrainReport {
    /// `release` or `debug`.
    pub build: String,
    /// Sockets that listened.
    pub sockets: usize,
    /// Messages a second, over WebSockets and over HTTP.
    pub rates: [f64; 2],
    /// All rolls.
    pub rolls: Vec<Roll>,
    /// Starts with a grace that is too short.
    pub refusals: Vec<Refusal>,
    /// What everybody had in the end.
    pub ending: Ending,
    /// What is not as promised.
    pub wrong: Vec<String>,
}

/// Runs the rolls, prints a table, writes `drain.json`. `true`: everything was as promised.
pub async fn drain(args: DrainArgs) -> anyhow::Result<bool> {
    let report = run_drain(&args).await?;
    println!("{}", report.table());
    output::write(&args.out, "drain.json", &report)?;
    Ok(report.passed())
}

/// The same without a word.
pub async fn run_drain(args: &DrainArgs) -> anyhow::Result<DrainReport> {
    output::say("starting the servers and making the people");
    let plan = Plan {
        sockets: args.sockets,
        channels: args.channels,
        writers: WRITERS,
        edges: args.edges,
        apis: args.apis,
        consumers: args.consumers,
        haproxies: 1,
        env: &args.env,
        bin_dir: args.bin_dir.as_deref(),
    };
    let town = Town::build(&plan).await?;
    let result = Box::pin(rolls(&town, args)).await;
    town.keep_logs(&args.out.join("logs"))?;
    let report = result?;
    town.stack.stop().await;
    Ok(report)
}

async fn rolls(town: &Town, args: &DrainArgs) -> anyhow::Result<DrainReport> {
    let mut crowd = Crowd::gather(town, args.sockets, ARRIVALS).await?;
    let writers = Writers::start(town, WRITERS, args.rate)?;
    let posts = HttpLoad::start(town, args.http_rate, writers.ledger())?;
    let http = reqwest::Client::builder().timeout(LOOK).build()?;
    let stack = &town.stack;
    let mut report = DrainReport {
        build: output::build().to_owned(),
        sockets: args.sockets,
        rates: [args.rate, args.http_rate],
        ..DrainReport::default()
    };
    for round in 1..=args.rolls {
        output::say(&format!("round {round} of {}", args.rolls));
        let services = stack.edges().iter().chain(stack.apis());
        for service in services.chain(stack.consumers()) {
            let unknown = || writers.unknown();
            let roll = Roll::run(service, round, &mut crowd, &http, unknown).await?;
            let failures = roll.failures(service.role(), grace(service.role()));
            failures.iter().for_each(|what| output::say(what));
            report.wrong.extend(failures);
            report.rolls.push(roll);
        }
    }
    posts.finish().await;
    let ledger = writers.finish().await;
    report.ending = Ending::of(town, &crowd, &ledger).await;
    if report.ending.sends.unknown > 0 {
        let unknown = report.ending.sends.unknown;
        report.wrong.push(format!("{unknown} sends were unknown"));
    }
    report.wrong.extend(report.ending.failures());
    drop(crowd);
    let first = [stack.edges(), stack.apis(), stack.consumers()];
    let first = first.into_iter().filter_map(|all: &[Service]| all.first());
    for service in first {
        let refusal = Refusal::run(service).await?;
        report.wrong.extend(refusal.failures());
        report.refusals.push(refusal);
    }
    Ok(report)
}

fn grace(role: Role) -> Duration {
    match role {
        Role::Edge => EDGE_GRACE,
        Role::Api => API_GRACE,
        Role::Consumer => CONSUMER_GRACE,
    }
}

impl DrainReport {
    /// Everything was as promised.
    pub fn passed(&self) -> bool {
        self.wrong.is_empty()
    }

    /// For people: a line for each process, over all rounds.
    pub fn table(&self) -> String {
        let mut lines = vec![format!(
            "{:<12} {:>5} {:>6} {:>8} {:>8} {:>9} {:>9} {:>8} {:>12} {:>12} {:>8}",
            "process",
            "rolls",
            "exit 0",
            "p50 ms",
            "max ms",
            "404 ms",
            "sockets",
            "told",
            "delays ms",
            "back p99 ms",
            "unknown"
        )];
        let mut names: Vec<&str> = self.rolls.iter().map(|r| r.process.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        for name in names {
            let rolls: Vec<&Roll> = self.rolls.iter().filter(|r| r.process == name).collect();
            let took = rolls.iter().map(|r| Duration::from_millis(r.took_ms));
            let took = crate::stats::Spread::of(took);
            let delays = rolls.iter().filter(|r| r.delays.count > 0);
            let least = delays.clone().map(|r| r.delays.min_ms).min();
            let most = delays.map(|r| r.delays.max_ms).max();
            let span = least
                .zip(most)
                .map(|(least, most)| format!("{least}..{most}"));
            lines.push(format!(
                "{name:<12} {:>5} {:>6} {:>8} {:>8} {:>9} {:>9} {:>8} {:>12} {:>12} {:>8}",
                rolls.len(),
                rolls.iter().filter(|r| r.exit_code == Some(0)).count(),
                took.p50_ms,
                took.max_ms,
                rolls
                    .iter()
                    .filter_map(|r| r.not_ready_ms)
                    .max()
                    .map_or_else(|| "-".to_owned(), |ms| format!("<= {ms}")),
                rolls.iter().map(|r| r.sockets).sum::<usize>(),
                rolls.iter().map(|r| r.sent_away).sum::<usize>(),
                span.unwrap_or_else(|| "-".to_owned()),
                rolls.iter().map(|r| r.back.p99_ms).max().unwrap_or(0),
                rolls.iter().map(|r| r.unknown).sum::<u64>(),
            ));
        }
        let Ending {
            sends,
            stored,
            diff,
            ..
        } = &self.ending;
        lines.push(format!(
            "\n{} sent, {} acknowledged, {} unknown; {stored} stored, {} given to {} sockets: {} \
             lost, {} doubled, {} foreign",
            sends.sent,
            sends.acked,
            sends.unknown,
            diff.given,
            self.sockets,
            diff.lost,
            diff.doubled,
            diff.foreign
        ));
        for Refusal {
            process,
            exit_code,
            message,
        } in &self.refusals
        {
            lines.push(format!(
                "too short a grace: {process} ends with {exit_code:?}: {message}"
            ));
        }
        lines.extend(self.ending.notes.iter().map(|note| format!("note: {note}")));
        lines.extend(self.wrong.iter().map(|wrong| format!("WRONG: {wrong}")));
        lines.push(if self.passed() { "passed" } else { "failed" }.to_owned());
        lines.join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROLES: [Role; 3] = [Role::Edge, Role::Api, Role::Consumer];

    #[test]
    fn table_has_a_line_for_each_process_and_each_wrong() {
        let mut report = DrainReport::default();
        for role in ROLES {
            for round in 1..=3 {
                report.rolls.push(Roll {
                    process: format!("{}-1", role.word()),
                    round,
                    exit_code: Some(0),
                    took_ms: 100 * round as u64,
                    ..Roll::default()
                });
            }
        }
        let table = report.table();
        assert!(table.ends_with("passed"), "{table}");
        for role in ROLES {
            let name = format!("{}-1 ", role.word());
            let lines: Vec<&str> = table.lines().filter(|l| l.starts_with(&name)).collect();
            assert_eq!(lines.len(), 1, "{table}");
            let words: Vec<&str> = lines[0].split_whitespace().collect();
            assert_eq!(words[1..5], ["3", "3", "200", "300"], "{table}");
        }
        report.wrong.push("a send was lost".to_owned());
        let table = report.table();
        assert!(!report.passed() && table.ends_with("failed"), "{table}");
        assert!(table.contains("WRONG: a send was lost"), "{table}");
    }
}
