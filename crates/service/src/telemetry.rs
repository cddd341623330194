//! Logs: one line per event on stderr, JSON or text (`HUBBUB_LOG_FORMAT`), filter by `HUBBUB_LOG`.
mod lines;

use std::{
    io::IsTerminal,
    sync::{Arc, OnceLock},
    thread,
    time::Duration,
};

use anyhow::Context;
use tracing_subscriber::{EnvFilter, fmt, prelude::*};

use self::lines::Lines;

pub use crate::clock::wall_clock_ms;

/// What is logged, and how.
#[derive(Debug, Clone, clap::Args)]
pub struct LogConfig {
    /// What to log: a level, or `target=level` directives separated by commas.
    #[arg(long, env = "HUBBUB_LOG", default_value = "info")]
    pub log: String,
    /// How a line looks.
    #[arg(long, env = "HUBBUB_LOG_FORMAT", default_value = "text", value_parser = ["text", "json"])]
    pub log_format: String,
}

/// How long the end of a process waits for the lines that are not yet written.
const LAST_LINES: Duration = Duration::from_secs(1);
/// How long a panic waits for its line, as the process may not live longer.
const PANIC_LINE: Duration = Duration::from_millis(100);

/// One for the process, as its logs are.
static LINES: OnceLock<Arc<Lines>> = OnceLock::new();

/// The logs of a process. Keep it until the end: dropped, it waits until the last lines are
/// written, for a second at most.
#[derive(Debug)]
#[must_use = "the last lines are written when it is dropped"]
pub struct Logs {
    lines: Arc<Lines>,
}

impl Drop for Logs {
    fn drop(&mut self) {
        // Nobody could be told of what was not written.
        self.lines.flush(LAST_LINES);
    }
}

/// Log lines of this process that nobody will read: who reads stderr stood still while 1 MiB of
/// them waited, or stderr is closed.
pub fn dropped_lines() -> u64 {
    LINES.get().map_or(0, |lines| lines.dropped())
}

/// Sends the process's logs, panics included, to stderr, by a thread of their own: nobody waits for
/// whoever reads them (see [`dropped_lines`]). Fails on a filter that cannot be parsed, on an
/// unknown format, when logs are set up already, and when no thread can be had.
pub fn init(config: &LogConfig) -> anyhow::Result<Logs> {
    init_without(config, &[])
}

/// [`init`], with targets whose lines are left out whatever the configuration says: libraries that
/// call something an error which is none.
pub fn init_without(config: &LogConfig, targets: &[&str]) -> anyhow::Result<Logs> {
    let mut filter = EnvFilter::try_new(&config.log)
        .with_context(|| format!("parse the log filter `{}`", config.log))?;
    for target in targets {
        let off = format!("{target}=off").parse();
        filter = filter.add_directive(off.with_context(|| format!("leave out `{target}`"))?);
    }
    let registry = tracing_subscriber::registry().with(filter);
    let lines = Arc::new(Lines::default());
    let layer = fmt::layer().with_writer(Arc::clone(&lines));
    match config.log_format.as_str() {
        "text" => registry
            .with(layer.with_ansi(std::io::stderr().is_terminal()))
            .try_init(),
        "json" => registry.with(layer.json().flatten_event(true)).try_init(),
        other => anyhow::bail!("log format `{other}`: text or json is expected"),
    }
    .context("set up logs")?;
    let logs = start(lines)?;
    // The default hook prints several lines of plain text, which no reader of JSON logs can take.
    std::panic::set_hook(Box::new(|panic| {
        let backtrace = std::backtrace::Backtrace::capture();
        tracing::error!(%panic, %backtrace, "panic");
        if let Some(lines) = LINES.get() {
            lines.flush(PANIC_LINE);
        }
    }));
    Ok(logs)
}

fn start(lines: Arc<Lines>) -> anyhow::Result<Logs> {
    let writer = Arc::clone(&lines);
    let gap = |lines| {
        tracing::warn!(
            lines,
            "log lines were dropped: whoever reads the log stood still"
        );
    };
    thread::Builder::new()
        .name("logging".to_owned())
        .spawn(move || writer.run(std::io::stderr(), gap))
        .context("start the thread that writes the log")?;
    let lines = LINES.get_or_init(|| lines);
    Ok(Logs {
        lines: Arc::clone(lines),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_filter_and_format_are_named() {
        let config = |log: &str, log_format: &str| LogConfig {
            log: log.to_owned(),
            log_format: log_format.to_owned(),
        };
        let error = init(&config("hubbub=loud", "text")).expect_err("no such level");
        assert!(format!("{error:#}").contains("hubbub=loud"), "{error:#}");
        let error = init(&config("info", "xml")).expect_err("no such format");
        assert!(format!("{error:#}").contains("xml"), "{error:#}");
    }
}
