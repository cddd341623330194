//! `hubbub admin`: what an operator does.
mod init;
mod new_log;
mod seed;
pub(crate) mod servers;
mod status;

use std::process::ExitCode;

use crate::args::{AdminArgs, AdminCommand};
use servers::Servers;

pub(crate) async fn run(args: &AdminArgs) -> anyhow::Result<ExitCode> {
    let servers = Servers::new(&args.servers)?;
    match &args.command {
        AdminCommand::Init { seed } => init::run(&servers, *seed).await,
        AdminCommand::Status { all, json } => status::run(&servers, *all, *json).await,
        AdminCommand::NewLog { yes } => new_log::run(&servers, *yes).await,
    }
}
