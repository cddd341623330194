//! `torture`: runs, judges and repeats runs of the torture suite.

use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use clap::Parser;
use hubbub_torture::cli::Arguments;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};

#[tokio::main]
async fn main() -> ExitCode {
    raise_descriptor_limit();
    tracing_subscriber::fmt()
        .with_max_level(tracing::Level::ERROR)
        .with_writer(std::io::stderr)
        .init();
    match execute(Arguments::parse()).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("torture: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Until the end, Ctrl-C or SIGTERM: what is dropped ends the servers that it started, those too
/// that a fault has frozen and that no signal but SIGKILL would reach.
async fn execute(arguments: Arguments) -> Result<bool> {
    let mut interrupt = signal(SignalKind::interrupt()).context("listen to SIGINT")?;
    let mut terminate = signal(SignalKind::terminate()).context("listen to SIGTERM")?;
    tokio::select! {
        whole = Box::pin(arguments.execute()) => whole,
        _ = interrupt.recv() => bail!("interrupted"),
        _ = terminate.recv() => bail!("told to end"),
    }
}

/// Each socket of a run costs three descriptors here, and the servers inherit the limit.
fn raise_descriptor_limit() {
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        // With the lower limit small runs work all the same.
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard).ok();
    }
}
