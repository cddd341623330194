//! `hubbub`: see `hubbub --help`.
use std::{process::ExitCode, time::Duration};

use hubbub_cli::{Cli, report, run};

fn main() -> ExitCode {
    let cli = match hubbub_service::config::parse::<Cli>() {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return report(&anyhow::Error::new(error).context("start the runtime")),
    };
    let code = match runtime.block_on(run(cli)) {
        Ok(code) => code,
        Err(error) => report(&error),
    };
    // A thread that waits for a line of stdin cannot be stopped; the process ends without it.
    runtime.shutdown_timeout(Duration::from_millis(100));
    code
}
