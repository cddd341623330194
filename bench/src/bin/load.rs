//! The epoll load client; see `hubbub_bench::load`.

use std::process::ExitCode;

use clap::Parser as _;
use hubbub_bench::load::{Args, run};

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("load: {error:#}");
            ExitCode::FAILURE
        }
    }
}
