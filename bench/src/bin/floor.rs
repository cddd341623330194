//! Bare programs; see `hubbub_bench::floor`.

use std::process::ExitCode;

use clap::Parser as _;
use hubbub_bench::floor::{Args, run};

fn main() -> ExitCode {
    match run(Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("floor: {error:#}");
            ExitCode::FAILURE
        }
    }
}
