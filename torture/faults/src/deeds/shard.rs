//! A shard's Postgres.

use anyhow::{Context, Result};

use super::{Deed, back};

pub(super) async fn kill(deed: &Deed<'_>) -> Result<()> {
    let (shard, _) = deed.ground.shard(&deed.fault.target)?;
    shard.stop_immediately().await;
    deed.hold().await;
    back(shard).await
}

pub(super) async fn freeze(deed: &Deed<'_>) -> Result<()> {
    let (shard, _) = deed.ground.shard(&deed.fault.target)?;
    shard.pause();
    deed.hold().await;
    shard.resume();
    back(shard).await
}

/// Nobody reads or writes the messages of the shard.
pub(super) async fn lock(deed: &Deed<'_>) -> Result<()> {
    let (shard, database) = deed.ground.shard(&deed.fault.target)?;
    let seconds = deed.fault.lasts_ms as f64 / 1_000.0;
    let locked = format!(
        "begin; lock table messages in access exclusive mode; select pg_sleep({seconds}); commit"
    );
    // Waits for: the end of the statement; the end of all, which frees the lock.
    tokio::select! {
        done = shard.sql(&database, &locked) => done.map(drop).context("lock the table"),
        () = deed.stop.cancelled() => Ok(()),
    }
}
