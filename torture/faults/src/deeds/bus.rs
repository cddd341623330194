//! Redis, the ways to it, and what it loses.

use anyhow::{Context, Result, ensure};
use hubbub_stack::{Direction, Role, Service};

use super::{Deed, back};

const PUBLISH: &str = "chat::before_publish";
const ANNOUNCE: &str = "consumer::before_announce";

pub(super) async fn kill(deed: &Deed<'_>) -> Result<()> {
    let redis = deed.ground.stack.redis();
    redis.kill().await;
    deed.hold().await;
    back(redis).await
}

pub(super) async fn freeze(deed: &Deed<'_>) -> Result<()> {
    let redis = deed.ground.stack.redis();
    redis.pause();
    deed.hold().await;
    redis.resume();
    back(redis).await
}

pub(super) async fn kill_subscribed(deed: &Deed<'_>) -> Result<()> {
    let redis = deed.ground.stack.redis();
    let killed = redis.command(&["CLIENT", "KILL", "TYPE", "pubsub"]).await;
    let killed = killed.context("kill the subscribed connections")?;
    tracing::debug!("{} subscribed connections killed", killed.trim());
    deed.hold().await;
    Ok(())
}

/// One way carries nothing: requests, or answers and messages.
pub(super) async fn black_hole(deed: &Deed<'_>) -> Result<()> {
    let mut dice = deed.dice();
    let ways = [Direction::ToServer, Direction::ToClient];
    let way = ways[dice.index(ways.len())];
    for link in deed.targets() {
        deed.ground.link(link)?.black_hole(way);
    }
    deed.hold().await;
    for link in deed.targets() {
        deed.ground.link(link)?.heal();
    }
    Ok(())
}

/// The processes drop some of what they publish and announce, and tell nobody.
pub(super) async fn lose_some(deed: &Deed<'_>) -> Result<()> {
    let services: Result<Vec<&Service>> = deed.targets().map(|t| deed.ground.service(t)).collect();
    let services = services?;
    let mut armed = 0;
    for service in &services {
        let (name, action) = lossy(service.role());
        match deed.failpoint(service, name, action).await {
            Ok(()) => armed += 1,
            // Another fault has it just now.
            Err(error) if !service.is_ready().await => tracing::debug!("left out: {error:#}"),
            // It was frozen, and has thawed in between.
            Err(_) => {
                deed.failpoint(service, name, action).await?;
                armed += 1;
            }
        }
    }
    ensure!(armed > 0, "none of {} could be told", deed.fault.target);
    deed.hold().await;
    for service in services {
        deed.disarm(service, lossy(service.role()).0).await?;
    }
    Ok(())
}

pub(super) fn lossy(role: Role) -> (&'static str, &'static str) {
    match role {
        Role::Edge | Role::Api => (PUBLISH, "5%return"),
        Role::Consumer => (ANNOUNCE, "40%return"),
    }
}
