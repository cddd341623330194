//! Our own processes: killed, frozen, drained, crashed, added and taken away.

use std::time::Duration;

use anyhow::{Context, Result};
use hubbub_stack::process::describe;
use nix::sys::signal::Signal;
use tokio::time::timeout;

use super::{Deed, back};

/// The grace of an edge is 30 s; past this it hangs.
const DRAIN: Duration = Duration::from_secs(45);

pub(super) async fn kill(deed: &Deed<'_>, note: bool) -> Result<()> {
    let service = deed.service()?;
    service.kill().await;
    if note && let Some(status) = service.exited().await {
        deed.note(format!("{} ended ({})", service.name(), describe(status)));
    }
    deed.hold().await;
    back(service).await
}

pub(super) async fn freeze(deed: &Deed<'_>) -> Result<()> {
    let service = deed.service()?;
    service.pause();
    deed.hold().await;
    service.resume();
    back(service).await
}

pub(super) async fn drain(deed: &Deed<'_>) -> Result<()> {
    let service = deed.service()?;
    service.signal(Signal::SIGTERM);
    let ended = timeout(DRAIN, service.exited()).await;
    let status = ended.with_context(|| format!("it still drains after {DRAIN:?}"))?;
    // Sockets that were sent away are the effect; code 0 is what is expected of every drain.
    if let Some(status) = status.filter(|status| !status.success()) {
        deed.note(describe(status));
    }
    deed.hold().await;
    back(service).await
}

/// The process aborts itself at a failpoint, the next time it gets there.
pub(super) async fn crash(deed: &Deed<'_>, failpoint: &str) -> Result<()> {
    let service = deed.service()?;
    deed.failpoint(service, failpoint, "return").await?;
    // Waits for: its end; the time of the fault.
    tokio::select! {
        _ = service.exited() => {}
        () = deed.hold() => deed.disarm(service, failpoint).await?,
    }
    if !service.is_running()
        && let Some(status) = service.exited().await
    {
        let name = service.name();
        deed.note(format!(
            "{name} aborted at {failpoint} ({})",
            describe(status)
        ));
    }
    back(service).await
}

/// One leaves in order and comes back; a spare one comes and leaves.
pub(super) async fn scale(deed: &Deed<'_>) -> Result<()> {
    let service = deed.service()?;
    if deed.ground.is_spare(&deed.fault.target) {
        back(service).await?;
        deed.hold().await;
        return leave(deed).await;
    }
    leave(deed).await?;
    deed.hold().await;
    back(service).await
}

async fn leave(deed: &Deed<'_>) -> Result<()> {
    let status = deed.service()?.stop().await;
    if let Some(status) = status.filter(|status| !status.success()) {
        deed.note(describe(status));
    }
    Ok(())
}
