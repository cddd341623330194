//! How each kind of fault is made and undone on a running system.

mod bus;
mod clients;
pub(crate) mod clock;
mod front;
mod log;
mod poison;
mod process;
mod shard;
mod undo;

use std::time::Duration;

use anyhow::{Context, Result};
use hubbub_checker::{Fault, FaultKind};
use hubbub_stack::{Server, Service};
use parking_lot::Mutex;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::{Ground, dice::Dice};

pub(crate) use undo::make_whole;

/// Beyond its own time, a fault that is not done by then has failed: a broker needs the longest
/// to be back, and it may be asked for twice.
const LIMIT: Duration = Duration::from_secs(150);
/// Before a process that did not start is started again, as a supervisor would.
const AGAIN: Duration = Duration::from_millis(300);
const STARTS: u32 = 3;
/// A frozen process takes no order; it thaws by then.
const PATIENCE: Duration = Duration::from_secs(10);

/// A fault while it is being made.
#[derive(Debug)]
pub(crate) struct Deed<'a> {
    pub(crate) ground: &'a Ground,
    pub(crate) fault: &'a Fault,
    pub(crate) http: &'a reqwest::Client,
    /// Ends it early.
    pub(crate) stop: &'a CancellationToken,
    began: Instant,
    noted: Mutex<Vec<String>>,
}

impl<'a> Deed<'a> {
    pub(crate) fn new(
        ground: &'a Ground,
        fault: &'a Fault,
        http: &'a reqwest::Client,
        stop: &'a CancellationToken,
    ) -> Self {
        Self {
            ground,
            fault,
            http,
            stop,
            began: Instant::now(),
            noted: Mutex::default(),
        }
    }

    /// Makes the fault, holds it for its time and undoes it: when this returns, what was hit is
    /// ready again.
    ///
    /// # Errors
    /// When a step failed. What was hit has been undone all the same, as far as that could be
    /// done.
    pub(crate) async fn perform(&self) -> Result<()> {
        let limit = Duration::from_millis(self.fault.lasts_ms) + LIMIT;
        let made = timeout(limit, self.make());
        let made = made.await.context("it was not done in time").flatten();
        if made.is_err() {
            undo::undo(self).await;
        }
        made.with_context(|| {
            let Fault {
                number,
                kind,
                target,
                ..
            } = self.fault;
            format!("fault {number}, {kind:?} of {target}")
        })
    }

    /// What has been seen from outside so far.
    pub(crate) fn noted(&self) -> Vec<String> {
        self.noted.lock().clone()
    }

    async fn make(&self) -> Result<()> {
        match self.fault.kind {
            FaultKind::EdgeKill | FaultKind::ConsumerKill => process::kill(self, false).await,
            FaultKind::ApiKill => process::kill(self, true).await,
            FaultKind::EdgeFreeze | FaultKind::ConsumerFreeze => process::freeze(self).await,
            FaultKind::EdgeDrain => process::drain(self).await,
            FaultKind::EdgeCrashAfterAck => process::crash(self, "chat::after_log_ack").await,
            FaultKind::ConsumerCrashAfterCommit => {
                process::crash(self, "consumer::after_commit_before_announce").await
            }
            FaultKind::ConsumerScale => process::scale(self).await,
            FaultKind::ClockJump => clock::jump(self).await,
            FaultKind::RedisKill => bus::kill(self).await,
            FaultKind::RedisFreeze => bus::freeze(self).await,
            FaultKind::PubsubKill => bus::kill_subscribed(self).await,
            FaultKind::RedisBlackHole => bus::black_hole(self).await,
            FaultKind::BusLossy => bus::lose_some(self).await,
            FaultKind::KafkaDown => log::down(self).await,
            FaultKind::KafkaSlow => log::slow(self).await,
            FaultKind::PoisonRecord => poison::append(self).await,
            FaultKind::ShardKill => shard::kill(self).await,
            FaultKind::ShardLock => shard::lock(self).await,
            FaultKind::ShardFreeze => shard::freeze(self).await,
            FaultKind::HaproxyReload => front::reload(self).await,
            FaultKind::HaproxyKill => front::kill(self).await,
            FaultKind::ClientReset => clients::reset(self).await,
            FaultKind::ClientSilent => clients::silence(self).await,
            FaultKind::ClientTorn => clients::tear(self).await,
            FaultKind::ClientSlow => clients::slow(self).await,
        }
    }

    /// Waits until the fault has lasted its time, or is to end early.
    async fn hold(&self) {
        self.hold_until(self.fault.lasts_ms).await;
    }

    /// The same for a part of its time, counted from its start.
    async fn hold_until(&self, ms: u64) {
        let until = self.began + Duration::from_millis(ms);
        tokio::select! {
            () = tokio::time::sleep_until(until) => {}
            () = self.stop.cancelled() => {}
        }
    }

    fn note(&self, what: String) {
        self.noted.lock().push(what);
    }

    fn targets(&self) -> impl Iterator<Item = &str> {
        self.fault.target.split_whitespace()
    }

    /// The process that is hit.
    fn service(&self) -> Result<&Service> {
        self.ground.service(&self.fault.target)
    }

    /// What the fault leaves open is drawn from this.
    fn dice(&self) -> Dice {
        Dice::of(self.fault)
    }

    /// Sets a failpoint in a running process: `off` takes it away.
    async fn failpoint(&self, service: &Service, name: &str, action: &str) -> Result<()> {
        let url = format!("http://{}/failpoints", service.ops_addr());
        let request = self.http.post(url).body(format!("{name}={action}"));
        let reply = request.send().await.context("ask for a failpoint")?;
        let status = reply.status();
        let said = reply.text().await.unwrap_or_default();
        anyhow::ensure!(
            status.is_success(),
            "{} refuses the failpoint {name}={action} ({status}: {}): is it built with the \
             feature `failpoints`?",
            service.name(),
            said.trim()
        );
        Ok(())
    }

    /// Takes a failpoint away. A process that has ended meanwhile has none.
    async fn disarm(&self, service: &Service, name: &str) -> Result<()> {
        let begun = Instant::now();
        loop {
            let Err(error) = self.failpoint(service, name, "off").await else {
                return Ok(());
            };
            if !service.is_running() {
                return Ok(());
            }
            if begun.elapsed() > PATIENCE {
                return Err(error);
            }
            sleep(AGAIN).await;
        }
    }
}

/// Starts a server if it does not run and waits until it is ready. One that gives up, because
/// what it needs is away at the moment, is started again.
pub(crate) async fn back(server: &Server) -> Result<()> {
    for _ in 1..STARTS {
        match server.start().await {
            Ok(()) => return Ok(()),
            Err(error) => tracing::warn!("started again: {error:#}"),
        }
        sleep(AGAIN).await;
    }
    server.start().await
}
