//! `./dev status`

use super::lock::Lock;
use super::screen::{Screen, say};
use super::state::{Part, State};
use anyhow::{Context, Result};
use clap::Args;
use futures_util::future::join_all;
use serde_json::json;
use std::path::Path;
use std::process::ExitCode;

/// As for services: "not running".
const NOTHING_RUNS: u8 = 3;

#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    /// For programs.
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(dir: &Path, args: StatusArgs) -> Result<ExitCode> {
    let Some(state) = State::read(dir) else {
        if args.json {
            say(json!({ "running": false }));
        } else if Lock::holder(dir).is_some() {
            say("Starting or stopping.");
        } else {
            say("Nothing runs here: start it with `./dev up`.");
        }
        return Ok(ExitCode::from(NOTHING_RUNS));
    };
    let all_ready = if args.json {
        print_json(&state).await?
    } else {
        print(&state, Screen::new()).await
    };
    Ok(if all_ready {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Prints a table and says whether everything is ready.
pub(super) async fn print(state: &State, screen: Screen) -> bool {
    let ready = probe(&state.parts).await;
    say(format_args!(
        "  front {}   stats {}",
        state.endpoints.front_url, state.endpoints.stats_url
    ));
    say(format_args!(
        "  {:<12} {:<9} {:>8}  {:<16} {:<16} log",
        "name", "state", "pid", "address", "ops"
    ));
    for (part, &ready) in state.parts.iter().zip(&ready) {
        let word = match (part.pid, ready) {
            (_, true) => screen.green("ready    "),
            (0, _) => screen.red("down     "),
            _ => screen.yellow("not ready"),
        };
        let Part { name, pid, log, .. } = part;
        let addr = part.addr.map_or("-".to_owned(), |addr| addr.to_string());
        let asked = part.ready.addr().to_string();
        let ops = if asked == addr { "-" } else { &asked };
        say(format_args!(
            "  {name:<12} {word} {pid:>8}  {addr:<16} {ops:<16} {}",
            log.display()
        ));
    }
    ready.iter().all(|&ready| ready)
}

async fn print_json(state: &State) -> Result<bool> {
    let ready = probe(&state.parts).await;
    let parts = state.parts.iter().zip(&ready).map(|(part, ready)| {
        json!({
            "name": part.name, "pid": part.pid, "ready": ready,
            "addr": part.addr, "ops": part.ready.addr(), "log": part.log,
        })
    });
    let report = json!({
        "running": true,
        "supervisor": state.supervisor,
        "endpoints": state.endpoints,
        "processes": parts.collect::<Vec<_>>(),
    });
    let text = serde_json::to_string_pretty(&report).context("spell the status")?;
    say(text);
    Ok(ready.iter().all(|&ready| ready))
}

async fn probe(parts: &[Part]) -> Vec<bool> {
    join_all(parts.iter().map(|part| part.ready.answers())).await
}
