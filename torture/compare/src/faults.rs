//! Carries a plan's faults out. What they are made on is the same for every system: three servers,
//! a Redis, a link of each client.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context, Result, bail};
use futures_util::future::try_join_all;
use hubbub_checker::{Event, Fault, FaultKind};
use hubbub_stack::{Proxy, Server};
use tokio::time::{Instant, sleep, sleep_until};

use crate::{bus::kill_connections, recorder::Recorder};

/// What faults are made on.
#[derive(Debug)]
pub(crate) struct Ground<'a> {
    /// Called `server-1` and so on.
    pub(crate) servers: Vec<&'a Server>,
    /// Redis' process.
    pub(crate) redis: &'a Server,
    /// Redis' address.
    pub(crate) redis_addr: SocketAddr,
    /// The type of connections by which the servers hear of each other.
    pub(crate) subscriptions: &'static str,
    /// Of every listener, by name.
    pub(crate) links: &'a [(String, Proxy)],
}

/// Does everything at its time, which is counted from `begun`.
///
/// # Errors
/// When something could not be done or healed: the run is not valid.
pub(crate) async fn inject(
    faults: &[Fault],
    ground: &Ground<'_>,
    begun: Instant,
    recorder: &Recorder,
) -> Result<()> {
    let all = faults.iter().map(|fault| async move {
        sleep_until(begun + Duration::from_millis(fault.start_ms)).await;
        recorder.record(Event::FaultStarted(fault.clone()));
        let effect = ground.make(fault).await.with_context(|| {
            format!("fault {}: {:?} {}", fault.number, fault.kind, fault.target)
        })?;
        let number = fault.number;
        recorder.record(Event::FaultSeen { number, effect });
        recorder.record(Event::FaultEnded { number });
        anyhow::Ok(())
    });
    try_join_all(all).await.map(drop)
}

impl Ground<'_> {
    /// Makes a fault and heals it; says what happened.
    async fn make(&self, fault: &Fault) -> Result<String> {
        let lasts = Duration::from_millis(fault.lasts_ms);
        match fault.kind {
            FaultKind::EdgeKill => restart(self.server(&fault.target)?, lasts).await,
            FaultKind::RedisKill => restart(self.redis, lasts).await,
            FaultKind::PubsubKill => {
                let count = kill_connections(self.redis_addr, self.subscriptions).await?;
                Ok(format!("{count} connections killed"))
            }
            FaultKind::ClientReset => {
                let link = self.link(&fault.target)?;
                let before = link.connections();
                link.cut();
                Ok(format!("{before} connections reset"))
            }
            FaultKind::ClientSilent => {
                let link = self.link(&fault.target)?;
                let before = link.connections();
                link.go_silent();
                sleep(lasts).await;
                Ok(format!("{before} connections silenced"))
            }
            other => bail!("no such fault here: {other:?}"),
        }
    }

    fn server(&self, name: &str) -> Result<&Server> {
        let number = name.strip_prefix("server-").and_then(|n| n.parse().ok());
        let found = number.and_then(|n: usize| self.servers.get(n.checked_sub(1)?));
        found.copied().with_context(|| format!("no {name}"))
    }

    fn link(&self, device: &str) -> Result<&Proxy> {
        let found = self.links.iter().find(|(name, _)| name == device);
        found
            .map(|(_, link)| link)
            .with_context(|| format!("no link of {device}"))
    }
}

async fn restart(server: &Server, lasts: Duration) -> Result<String> {
    server.kill().await;
    sleep(lasts).await;
    server.start().await?;
    Ok(format!("{} was down", server.name()))
}
