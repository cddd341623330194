//! Logs: one line per event on stderr, JSON or text (`HUBBUB_LOG_FORMAT`), filter by `HUBBUB_LOG`.
use std::io::IsTerminal;

use anyhow::Context;
use tracing_subscriber::{EnvFilter, fmt, prelude::*};

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

/// Sends the process's logs, panics included, to stderr. Fails on a filter that cannot be parsed,
/// on an unknown format, and when logs are set up already.
pub fn init(config: &LogConfig) -> anyhow::Result<()> {
    init_without(config, &[])
}

/// [`init`], with targets whose lines are left out whatever the configuration says: libraries that
/// call something an error which is none.
pub fn init_without(config: &LogConfig, targets: &[&str]) -> anyhow::Result<()> {
    let mut filter = EnvFilter::try_new(&config.log)
        .with_context(|| format!("parse the log filter `{}`", config.log))?;
    for target in targets {
        let off = format!("{target}=off").parse();
        filter = filter.add_directive(off.with_context(|| format!("leave out `{target}`"))?);
    }
    let registry = tracing_subscriber::registry().with(filter);
    let lines = fmt::layer().with_writer(std::io::stderr);
    match config.log_format.as_str() {
        "text" => registry
            .with(lines.with_ansi(std::io::stderr().is_terminal()))
            .try_init(),
        "json" => registry.with(lines.json().flatten_event(true)).try_init(),
        other => anyhow::bail!("log format `{other}`: text or json is expected"),
    }
    .context("set up logs")?;
    // The default hook prints several lines of plain text, which no reader of JSON logs can take.
    std::panic::set_hook(Box::new(|panic| {
        let backtrace = std::backtrace::Backtrace::capture();
        tracing::error!(%panic, %backtrace, "panic");
    }));
    Ok(())
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
