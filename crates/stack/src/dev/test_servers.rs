//! The servers that all test binaries of one `./dev test` share.

use anyhow::{Context, Result};
use clap::Args;
use hubbub_stack::{SharedServers, TEST_SERVERS};
use std::ffi::OsString;
use std::process::ExitCode;
use tokio::process::Command;

#[derive(Debug, Args)]
pub(crate) struct TestServersArgs {
    /// The command to run.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
    command: Vec<OsString>,
}

pub(crate) async fn run(args: TestServersArgs) -> Result<ExitCode> {
    let servers = SharedServers::launch().await?;
    let file = tempfile::NamedTempFile::new().context("make a temporary file")?;
    serde_json::to_writer(&file, &servers.addresses()).context("write the servers' addresses")?;
    let mut command = Command::new(&args.command[0]);
    command
        .args(&args.command[1..])
        .env(TEST_SERVERS, file.path());
    let status = command.status().await.context("run the command")?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}
