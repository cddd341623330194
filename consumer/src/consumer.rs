use std::{net::SocketAddr, process::ExitCode, sync::Arc, time::Duration};

use hubbub_bus::Publisher;
use hubbub_log::{ConsumerConfig, ConsumerEvent, Misfit};
use hubbub_service::{Lifecycle, OnError, Ops, Readiness, ops::DebugState};
use hubbub_store::Store;
use prometheus_client::registry::Registry;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::{
    Config,
    marks::Marks,
    metrics::Metrics,
    partition::Shared,
    partitions::{FINISH, Partitions, Shown},
    positions::{Of, StorePositions},
    start,
    work::{BATCH_RECORDS, Work},
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
    shown_marks: Shown,
}

#[derive(Debug, Clone, Default)]
struct AllMetrics {
    own: Metrics,
    bus: hubbub_bus::Metrics,
    log: hubbub_log::Metrics,
    marks_log: hubbub_log::Metrics,
    store: hubbub_store::Metrics,
}

impl AllMetrics {
    fn registry(&self) -> Registry {
        let mut registry = Registry::default();
        self.own.register(&mut registry);
        self.bus.register(&mut registry);
        self.log.register(&mut registry);
        let marks = registry.sub_registry_with_prefix("marks");
        self.marks_log.register(marks);
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
        let (shown, shown_marks) = (Shown::default(), Shown::default());
        let debug: DebugState = {
            let (shown, marks) = (Arc::clone(&shown), Arc::clone(&shown_marks));
            Arc::new(move || {
                let marks = marks.lock().clone();
                serde_json::json!({ "partitions": &*shown.lock(), "marks": marks })
            })
        };
        let registry = Arc::new(metrics.registry());
        let ops = Ops::bind(&config.ops, registry, readiness.clone(), Some(debug)).await?;
        Ok(Self {
            config,
            ops,
            readiness,
            metrics,
            shown,
            shown_marks,
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

        let joined = join_groups(&self.config, &self.metrics, &store, log);
        let (records, marks) = joined.inspect_err(|_| publisher_stop.cancel())?;
        self.readiness.set_ready();
        tracing::info!(group = %self.config.group, "consumer joins its groups");

        let metrics = self.metrics.own;
        let work = Arc::new(Shared {
            store: store.clone(),
            publisher: publisher.clone(),
            log: records.0.handle(),
            metrics: metrics.clone(),
        });
        let of_records = Partitions::new(work, records.0.handle(), metrics.clone(), self.shown);
        let work = Arc::new(Marks {
            store,
            publisher: publisher.clone(),
            log: marks.0.handle(),
            metrics: metrics.clone(),
        });
        let of_marks = Partitions::new(work, marks.0.handle(), metrics, self.shown_marks);
        // Whichever ends by itself takes the other one along.
        let both = soft.child_token();
        let ended = tokio::join!(
            serve(of_records, records, &both, &self.readiness),
            serve(of_marks, marks, &both, &self.readiness),
        );
        let flushed = tokio::time::timeout(LAST_ANNOUNCEMENTS, publisher.flush()).await;
        if flushed.is_err() {
            tracing::info!("the last announcements were not sent: the edges' sweep replaces them");
        }
        publisher_stop.cancel();
        let (records, marks) = ended;
        records.and(marks).map_err(|()| Error::LogEnded)
    }
}

/// Joins the groups of both topics; theirs are apart, so that a member of an older build,
/// which knows one topic, takes part in the one that it knows.
fn join_groups(
    config: &Config,
    metrics: &AllMetrics,
    store: &Store,
    log: hubbub_log::Config,
) -> Result<(Joined, Joined), Error> {
    let marks = ConsumerConfig {
        log: log.marks(),
        group: format!("{}-marks", config.group),
        session_timeout: config.session_timeout(),
        heartbeat: config.heartbeat(),
        batch_records: BATCH_RECORDS,
        // Marks may be applied twice, and later ones make a lost one good.
        misfit: Misfit::Begin,
    };
    let records = ConsumerConfig {
        log,
        group: config.group.clone(),
        misfit: Misfit::Refuse,
        ..marks.clone()
    };
    let positions = Arc::new(StorePositions::new(Of::Records, store.clone()));
    let records = hubbub_log::Consumer::start(records, &metrics.log, positions)?;
    let positions = Arc::new(StorePositions::new(Of::Marks, store.clone()));
    let marks = hubbub_log::Consumer::start(marks, &metrics.marks_log, positions)?;
    Ok((records, marks))
}

/// A member of a group, and what happens to its partitions.
type Joined = (hubbub_log::Consumer, mpsc::Receiver<ConsumerEvent>);

/// Works on the partitions of one topic until `stop`, then finishes the batches under way and
/// leaves the group. `Err` if it ended by itself.
async fn serve<W: Work>(
    partitions: Partitions<W>,
    (consumer, mut events): Joined,
    stop: &CancellationToken,
    readiness: &Readiness,
) -> Result<(), ()> {
    let ended = partitions.run(&mut events, stop).await;
    readiness.set_draining();
    stop.cancel();
    // Nobody serves events any more, and nothing is left to revoke.
    drop(events);
    consumer.stop().await;
    ended
}
