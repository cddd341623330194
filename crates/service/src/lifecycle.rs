//! The life of a process: two tokens, soft then hard; no task without a name; one exit path.
use std::{fmt::Display, future::Future, time::Duration};
use tokio_util::sync::CancellationToken;

/// What the failure of a task means for the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnError {
    /// It is logged as an error; the process goes on.
    Log,
    /// It is logged and the process drains (exit code 1).
    Stop,
}

/// Cheap handle; clones share one lifecycle. A test makes as many as it likes.
#[derive(Debug, Clone)]
pub struct Lifecycle {}

impl Lifecycle {
    pub fn new() -> Self {
        todo!()
    }
    /// Cancelled when the drain begins.
    pub fn soft(&self) -> CancellationToken {
        todo!()
    }
    /// Cancelled when whatever still runs must end at once. Implies soft.
    pub fn hard(&self) -> CancellationToken {
        todo!()
    }
    /// Runs a future as a named task; a panic counts as an error. The task is dropped at `hard`.
    pub fn spawn<E: Display + Send + 'static>(
        &self,
        _name: &'static str,
        _on_error: OnError,
        _future: impl Future<Output = Result<(), E>> + Send + 'static,
    ) {
        todo!()
    }
    /// Begins the drain, as the first SIGTERM does.
    pub fn begin_drain(&self, _reason: &str) {
        todo!()
    }
    pub fn stop_now(&self) {
        todo!()
    }
    /// Cancels soft at the first SIGTERM or SIGINT and hard at the second. Runs until hard.
    pub async fn watch_signals(&self) -> std::io::Result<()> {
        todo!()
    }
    /// Waits until soft is cancelled and all tasks are over, at most `grace` after soft; then hard
    /// (and names in a log line the tasks that were still running). Returns the exit code (0, or 1 if a Stop task failed or tasks were cut).
    pub async fn finish(&self, _grace: Duration) -> std::process::ExitCode {
        todo!()
    }
}
