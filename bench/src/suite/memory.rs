//! Memory of a set of processes.

use crate::process::rss_bytes;
use anyhow::Result;
use std::time::Duration;
use tokio::time::sleep;

/// What was in use for a moment has been given back by then. Nothing announces it.
pub(super) const SETTLE: Duration = Duration::from_secs(2);

/// Resident bytes of all, once they are at rest.
pub(super) async fn settled(pids: &[u32]) -> Result<u64> {
    sleep(SETTLE).await;
    now(pids)
}

/// Resident bytes of all.
pub(super) fn now(pids: &[u32]) -> Result<u64> {
    pids.iter().map(|pid| rss_bytes(*pid)).sum()
}
