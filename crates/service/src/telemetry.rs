//! Logs: one line per event on stderr, JSON or text (`HUBBUB_LOG_FORMAT`), filter by `HUBBUB_LOG`.
#[derive(Debug, Clone, clap::Args)]
pub struct LogConfig {
    #[arg(long, env = "HUBBUB_LOG", default_value = "info")]
    pub log: String,
    #[arg(long, env = "HUBBUB_LOG_FORMAT", default_value = "text")]
    pub log_format: String,
}
pub fn init(_config: &LogConfig) -> anyhow::Result<()> {
    todo!()
}
/// Milliseconds since 1970 by the wall clock: for tokens and display only, never for order.
pub fn wall_clock_ms() -> i64 {
    todo!()
}
