//! `./dev hubbub …`

use super::state::State;
use anyhow::{Context, Result};
use clap::Args;
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};

#[derive(Debug, Args)]
pub(crate) struct HubbubArgs {
    /// Given to `hubbub` as they are.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<OsString>,
}

/// Becomes the client, with the running system's addresses and key in its environment.
pub(crate) fn run(dir: &Path, args: HubbubArgs) -> Result<ExitCode> {
    let state = State::required(dir)?;
    let mut command = Command::new(state.bin_dir.join("hubbub"));
    command.envs(state.endpoints.env()).args(args.args);
    Err(command.exec()).context("run the command line client")
}
