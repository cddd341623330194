//! `torture`: runs, judges and repeats runs of the torture suite.

use std::process::ExitCode;

use clap::Parser;
use hubbub_torture::cli::Arguments;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

#[tokio::main]
async fn main() -> ExitCode {
    raise_descriptor_limit();
    tracing_subscriber::fmt()
        .with_max_level(tracing::Level::ERROR)
        .with_writer(std::io::stderr)
        .init();
    match Box::pin(Arguments::parse().execute()).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("torture: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Each socket of a run costs three descriptors here, and the servers inherit the limit.
fn raise_descriptor_limit() {
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        // With the lower limit small runs work all the same.
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard).ok();
    }
}
