//! The HAProxies.

use anyhow::Result;

use super::{Deed, back};

pub(super) async fn kill(deed: &Deed<'_>) -> Result<()> {
    let haproxy = deed.ground.haproxy(&deed.fault.target)?;
    haproxy.kill().await;
    deed.hold().await;
    back(haproxy).await
}

/// A new worker takes over; the old one keeps who is connected.
pub(super) async fn reload(deed: &Deed<'_>) -> Result<()> {
    let haproxy = deed.ground.haproxy(&deed.fault.target)?;
    let before = haproxy.worker().await?;
    let now = haproxy.reloaded().await?;
    deed.note(format!("worker {before} replaced by worker {now}"));
    deed.hold().await;
    back(haproxy).await
}
