//! `torture storm` without the rest of the suite: needs the servers' programs in the directory
//! above (or `--bin-dir`).

use std::process::ExitCode;

use clap::Parser;
use hubbub_storm::{DrainArgs, StormArgs};

#[derive(Parser)]
enum Command {
    /// Thousands of sockets lose their connection at once.
    Storm(StormArgs),
    /// Every process is rolled under load.
    Drain(DrainArgs),
}

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let passed = match Command::parse() {
        Command::Storm(args) => hubbub_storm::storm(args).await?,
        Command::Drain(args) => hubbub_storm::drain(args).await?,
    };
    Ok(if passed {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
