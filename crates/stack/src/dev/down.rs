//! `./dev down`

use super::lock::Lock;
use super::screen::say;
use super::state::is_supervisor;
use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// Edges drain up to 40 s, then the servers below get 15 s.
const LIMIT: Duration = Duration::from_secs(70);
const POLL: Duration = Duration::from_millis(50);

pub(crate) async fn run(dir: &Path) -> Result<ExitCode> {
    // Asks the lock rather than the state, which is written only when everything is ready.
    let Some(supervisor) = Lock::holder(dir) else {
        say("Nothing runs here.");
        return Ok(ExitCode::SUCCESS);
    };
    let begin = Instant::now();
    let pid = Pid::from_raw(supervisor.cast_signed());
    kill(pid, Signal::SIGTERM).context("ask the supervisor to stop")?;
    say("Stopping: edges first, then the servers that they use.");
    while is_supervisor(supervisor) {
        if begin.elapsed() > LIMIT {
            bail!(
                "process {pid} has not stopped after {LIMIT:?}; `kill -9 {pid}` ends it and all its children"
            );
        }
        sleep(POLL).await;
    }
    say(format_args!(
        "Stopped in {:.1} s.",
        begin.elapsed().as_secs_f64()
    ));
    Ok(ExitCode::SUCCESS)
}
