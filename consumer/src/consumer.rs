use std::{net::SocketAddr, process::ExitCode, sync::Arc, time::Duration};

use hubbub_bus::Publisher;
use hubbub_log::ConsumerConfig;
use hubbub_service::{Lifecycle, OnError, Ops, Readiness, ops::DebugState};
use prometheus_client::registry::Registry;
use tokio_util::sync::CancellationToken;

use crate::{
    Config,
    metrics::Metrics,
    partition::{BATCH_RECORDS, Shared},
    partitions::{FINISH, Partitions, Shown},
    positions::StorePositions,
    start,
};

/// From SIGTERM to the end, unless configured otherwise: [`LONGEST_DRAIN`] and a reserve.
pub const GRACE: Duration = Duration::from_secs(25);
/// The longest that a drain takes: batches, the farewell to the group, the last announcements.
pub(crate) const LONGEST_DRAIN: Duration = FINISH
    .saturating_add(hubbub_log::CONSUMER_STOP)
    .saturating_add(LAST_ANNOUNCEMENTS);
/// How long the last announcements may take in a drain; lost ones the edges' sweep replaces.
const LAST_ANNOUNCEMENTS: Duration = Duration::from_secs(2);

/// Why the consumer ended before it was told to.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The ops port could not be bound.
    #[error(transparent)]
    Bind(#[from] std::io::Error),
    /// The log and the store do not belong together, or are not set up. Names the remedy.
    #[error("{0}")]
    Refused(String),
    /// A server did not come up in time.
    #[error("{server} did not come up: {reason}")]
    Unavailable {
        /// Which one.
        server: &'static str,
        /// What the last attempt said.
        reason: String,
    },
    /// The log's consumer could not be started.
    #[error("log: {0}")]
    Log(#[from] hubbub_log::Error),
    /// The log's consumer ended by itself; its log line says why.
    #[error("the log's consumer ended")]
    LogEnded,
}

impl Error {
    /// What the process ends with (sysexits: 69 unavailable, 78 configuration).
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Unavailable { .. } => 69,
            Self::Refused(_) => 78,
            Self::Bind(_) | Self::Log(_) | Self::LogEnded => 1,
        })
    }
}

/// A consumer whose ops port is bound and that does nothing yet.
#[derive(Debug)]
pub struct Consumer {
    config: Config,
    ops: Ops,
    readiness: Readiness,
    metrics: AllMetrics,
    shown: Shown,
}

#[derive(Debug, Clone, Default)]
struct AllMetrics {
    own: Metrics,
    bus: hubbub_bus::Metrics,
    log: hubbub_log::Metrics,
    store: hubbub_store::Metrics,
}

impl AllMetrics {
    fn registry(&self) -> Registry {
        let mut registry = Registry::default();
        self.own.register(&mut registry);
        self.bus.register(&mut registry);
        self.log.register(&mut registry);
        self.store.register(&mut registry);
        registry
    }
}

impl Consumer {
    /// Binds the ops port. The configuration has passed [`Config::check`].
    ///
    /// # Errors
    /// `Bind`.
    pub async fn bind(config: Config) -> Result<Self, Error> {
        let metrics = AllMetrics::default();
        let readiness = Readiness::default();
        let shown = Shown::default();
        let debug: DebugState = {
            let shown = Arc::clone(&shown);
            Arc::new(move || serde_json::json!({ "partitions": &*shown.lock() }))
        };
        let registry = Arc::new(metrics.registry());
        let ops = Ops::bind(&config.ops, registry, readiness.clone(), Some(debug)).await?;
        Ok(Self {
            config,
            ops,
            readiness,
            metrics,
            shown,
        })
    }

    /// Where `/readyz` and `/metrics` are.
    pub fn ops_addr(&self) -> SocketAddr {
        self.ops.addr()
    }

    /// Waits for the servers, joins the group and works until the drain begins; then finishes the
    /// batches under way and leaves the group, within [`GRACE`]. Ready as soon as it has joined,
    /// with or without partitions.
    ///
    /// # Errors
    /// Anything but `Bind`.
    pub async fn run(self, lifecycle: Lifecycle) -> Result<(), Error> {
        let pod = self.config.pod();
        tracing::info!(pod.id = %pod, ops.addr = %self.ops.addr(), "consumer starts");
        self.ops.start(&lifecycle);
        let soft = lifecycle.soft();
        let store = &self.metrics.store;
        let started = start::connect(&self.config, pod.as_str(), store, &soft).await?;
        let Some((store, log)) = started else {
            return Ok(());
        };

        let bus = hubbub_bus::Config::new(&self.config.redis_url, pod);
        let (publisher, publishing) = Publisher::new(&bus, &self.metrics.bus);
        // Its own token: it must outlive the drain of the partitions.
        let publisher_stop = CancellationToken::new();
        let stop = publisher_stop.clone();
        lifecycle.spawn("bus publisher", OnError::Stop, publishing.run(stop));

        let group = ConsumerConfig {
            log,
            group: self.config.group.clone(),
            session_timeout: self.config.session_timeout(),
            heartbeat: self.config.heartbeat(),
            batch_records: BATCH_RECORDS,
        };
        let positions = Arc::new(StorePositions::new(store.clone()));
        let started = hubbub_log::Consumer::start(group, &self.metrics.log, positions);
        let (consumer, mut events) = started.inspect_err(|_| publisher_stop.cancel())?;
        self.readiness.set_ready();
        tracing::info!(group = %self.config.group, "consumer joins its group");

        let shared = Shared {
            store,
            publisher: publisher.clone(),
            log: consumer.handle(),
            metrics: self.metrics.own,
        };
        let ended = Partitions::new(shared, self.shown)
            .run(&mut events, &soft)
            .await;
        self.readiness.set_draining();
        // Nobody serves events any more, and nothing is left to revoke.
        drop(events);
        consumer.stop().await;
        let flushed = tokio::time::timeout(LAST_ANNOUNCEMENTS, publisher.flush()).await;
        if flushed.is_err() {
            tracing::info!("the last announcements were not sent: the edges' sweep replaces them");
        }
        publisher_stop.cancel();
        ended.map_err(|()| Error::LogEnded)
    }
}
