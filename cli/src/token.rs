use std::process::ExitCode;

use crate::{args::TokenArgs, connect::Context, show::line};

/// `hubbub token`.
pub(crate) fn run(context: &Context, args: &TokenArgs) -> anyhow::Result<ExitCode> {
    line(&context.mint(&args.name, args.ttl)?)?;
    Ok(ExitCode::SUCCESS)
}
