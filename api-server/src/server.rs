use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use hubbub_bus::{Asker, Leases, Publisher, PublisherTask, Subscriber};
use hubbub_chat::Chat;
use hubbub_protocol::{BusChannel, PodId};
use hubbub_service::{
    Lifecycle, OnError, Ops, Readiness,
    config::{Mistakes, NofileError, check_nofile},
    http::{HttpLimits, HttpMetrics, serve_counted},
    token::Verifier,
};
use hubbub_store::Store;
use prometheus_client::registry::Registry;
use tokio::{net::TcpListener, time::sleep};
use tokio_util::sync::CancellationToken;

use crate::{
    Config, bus, call,
    context::{Context, Parts},
    dashboard::Dashboard,
    metrics::Metrics,
    routes,
    sign_in::SignIn,
    startup::{self, Attempt, Patience, StartError},
    waiters::{WAITERS, Waiters},
};

/// How long the log's producer may take for what it holds, at the end of a drain.
const FLUSH: Duration = Duration::from_secs(5);
/// How long the bus may take for the last publishes.
const BUS_FLUSH: Duration = Duration::from_secs(1);
/// What ends beside these: connections that are kept alive, tasks.
const RESERVE: Duration = Duration::from_millis(500);
/// The longest that a drain takes once the load balancer has seen it: the grace must hold it.
pub(crate) const LONGEST_DRAIN: Duration = call::DEADLINE
    .saturating_add(FLUSH)
    .saturating_add(BUS_FLUSH)
    .saturating_add(RESERVE);
/// Descriptors beside the connections: databases, Kafka, Redis, the ops port, files.
const OTHER_FILES: u64 = 256;

/// Why no port was bound.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The configuration is wrong; all of it is said together.
    #[error(transparent)]
    Mistakes(Mistakes),
    /// The API's address cannot be listened on.
    #[error("listen on {0}: {1}")]
    Listen(SocketAddr, #[source] io::Error),
    /// The ops port's address cannot be listened on.
    #[error("listen on {0} for the ops port: {1}")]
    Ops(SocketAddr, #[source] io::Error),
    /// The process may not open as many files as it may get connections.
    #[error(transparent)]
    Files(#[from] NofileError),
}

/// Metrics of everything inside; cheap handles that the parts share with the registry.
#[derive(Debug, Clone, Default)]
struct AllMetrics {
    api: Metrics,
    http: HttpMetrics,
    chat: hubbub_chat::Metrics,
    log: hubbub_log::Metrics,
    store: hubbub_store::Metrics,
    bus: hubbub_bus::Metrics,
}

/// One API server: ports bound, nothing else begun.
pub struct Api {
    config: Config,
    verifier: Verifier,
    sign_in: Option<SignIn>,
    listener: TcpListener,
    addr: SocketAddr,
    ops: Ops,
    readiness: Readiness,
    metrics: AllMetrics,
    pod: PodId,
}

impl std::fmt::Debug for Api {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Api")
            .field("config", &self.config)
            .field("pod", &self.pod)
            .field("addr", &self.addr)
            .finish_non_exhaustive()
    }
}

impl Api {
    /// Checks the configuration as a whole (`log` is how setting up the logs went, so that its
    /// mistakes are told with the others), then binds both ports.
    pub async fn bind(config: Config, log: anyhow::Result<()>) -> Result<Self, BindError> {
        let mut mistakes = Mistakes::new();
        config.check(&mut mistakes);
        mistakes.take("--log", log);
        let verifier = mistakes.take("--jwt-secret-file", Verifier::load(&config.token));
        let signer = config.dev_sign_in.then(|| SignIn::load(&config.token));
        let sign_in = signer.and_then(|signer| mistakes.take("--dev-sign-in", signer));
        mistakes.finish().map_err(BindError::Mistakes)?;
        let Some(verifier) = verifier else {
            unreachable!("a verifier that is not there is a mistake");
        };
        check_nofile(config.max_connections as u64 + OTHER_FILES)?;

        let metrics = AllMetrics::default();
        let mut registry = Registry::default();
        metrics.api.register(&mut registry);
        metrics.http.register(&mut registry);
        metrics.chat.register(&mut registry);
        metrics.log.register(&mut registry);
        metrics.store.register(&mut registry);
        metrics.bus.register(&mut registry);

        let listen = |error| BindError::Listen(config.listen, error);
        let listener = TcpListener::bind(config.listen).await.map_err(listen)?;
        let addr = listener.local_addr().map_err(listen)?;
        let readiness = Readiness::default();
        let ops = Ops::bind(&config.ops, Arc::new(registry), readiness.clone(), None)
            .await
            .map_err(|error| BindError::Ops(config.ops.ops_addr, error))?;
        let pod = config.pod_id.clone().unwrap_or_else(random_pod);
        Ok(Self {
            config,
            verifier,
            sign_in,
            listener,
            addr,
            ops,
            readiness,
            metrics,
            pod,
        })
    }

    /// Where the API listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Where the ops port listens.
    pub fn ops_addr(&self) -> SocketAddr {
        self.ops.addr()
    }

    /// What the ops port says of this server.
    pub fn readiness(&self) -> Readiness {
        self.readiness.clone()
    }

    /// Waits for the databases and the log, serves, and after soft drains in this order: not ready
    /// any more, one interval of the load balancer's check, no new connections, the requests under
    /// way, the log's producer, the bus. Returns when that is over. A drain that begins while it
    /// still waits is a stop like any other, not a failure.
    pub async fn run(self, lifecycle: Lifecycle) -> Result<(), StartError> {
        match self.start_and_serve(lifecycle).await {
            Err(StartError::Stopped) => {
                tracing::info!("stopped before the start was done");
                Ok(())
            }
            result => result,
        }
    }

    async fn start_and_serve(self, lifecycle: Lifecycle) -> Result<(), StartError> {
        let Self {
            config,
            verifier,
            sign_in,
            listener,
            addr,
            ops,
            readiness,
            metrics,
            pod,
        } = self;
        tracing::info!(%addr, ops.addr = %ops.addr(), pod = %pod, "starting");
        if sign_in.is_some() {
            tracing::warn!(
                "development sign-in is on: whoever reaches this server may act as any of the \
                 example users"
            );
        }
        ops.start(&lifecycle);
        let soft = lifecycle.soft();

        let store = open(&config, &metrics, &soft).await?;
        let bus = Bus::start(&config, &pod, &store, &metrics, &lifecycle);
        let chat = start_chat(&config, &metrics, &store, &bus, &lifecycle).await?;

        // Requests live in a lifecycle of their own, which begins to drain one check interval
        // after the process does.
        let work = Lifecycle::new();
        let waiters = Waiters::new(
            store.shards(),
            WAITERS,
            metrics.api.waiters.clone(),
            metrics.api.head_failures.clone(),
        );
        for shard in 0..store.shards() {
            let poll = waiters.clone().poll(shard, store.clone(), work.soft());
            work.spawn("poll heads", OnError::Stop, poll);
        }
        let watching = bus.dashboard.clone().run(work.soft());
        work.spawn("dashboard", OnError::Stop, watching);
        let parts = Parts {
            store,
            chat: chat.clone(),
            asker: bus.asker.clone(),
            dashboard: bus.dashboard.clone(),
            waiters,
            verifier,
            sign_in,
            metrics: metrics.api.clone(),
            work: work.clone(),
        };
        let context = Arc::new(Context::new(&config, parts));
        let (serving, routes) = (work.clone(), routes::routes(&context));
        let limits = HttpLimits {
            max_connections: config.max_connections,
        };
        work.spawn("http", OnError::Stop, async move {
            serve_counted(listener, routes, limits, &serving, &metrics.http).await
        });
        readiness.set_ready();
        tracing::info!(%addr, "ready");

        // Waits for the drain, or for a failure among the tasks that serve.
        let failed = work.soft();
        let result = tokio::select! {
            () = soft.cancelled() => Ok(()),
            () = failed.cancelled() => Err(StartError::Listener),
        };
        readiness.set_draining();
        drain(&config, &lifecycle, &work, &chat, &bus).await;
        result
    }
}

async fn drain(config: &Config, lifecycle: &Lifecycle, work: &Lifecycle, chat: &Chat, bus: &Bus) {
    let hard = lifecycle.hard();
    // Waits for the load balancer to see it, or for hard.
    tokio::select! {
        () = sleep(config.drain_delay()) => {}
        () = hard.cancelled() => work.stop_now(),
    }
    work.begin_drain("the load balancer has seen it");
    // Waits for the requests under way; the process's own grace is the limit.
    tokio::select! {
        _ = work.finished(config.grace()) => {}
        () = hard.cancelled() => work.stop_now(),
    }
    if let Err(error) = chat.flush(FLUSH).await {
        tracing::warn!(%error, "the log did not take everything in time");
    }
    if tokio::time::timeout(BUS_FLUSH, bus.publisher.flush())
        .await
        .is_err()
    {
        tracing::info!("the bus did not take the last events in time; the feeds repair that");
    }
    bus.stop.cancel();
}

async fn open(
    config: &Config,
    metrics: &AllMetrics,
    soft: &CancellationToken,
) -> Result<Store, StartError> {
    let settings = hubbub_store::Config {
        core_url: config.core_database_url.clone(),
        shard_urls: config.shard_database_urls.clone(),
        core_connections: config.core_connections,
        shard_connections: config.shard_connections,
    };
    let patience = Patience::new(Duration::from_secs(config.start_deadline_s));
    startup::until_there("the core database", patience, soft, || {
        startup::open_store(&settings, &metrics.store)
    })
    .await
}

async fn start_chat(
    config: &Config,
    metrics: &AllMetrics,
    store: &Store,
    bus: &Bus,
    lifecycle: &Lifecycle,
) -> Result<Chat, StartError> {
    let identity = store.log_identity();
    if identity.topic != config.topic {
        return Err(StartError::Refused(format!(
            "the databases belong to the topic `{}` and the topic configured is `{}`: set \
             HUBBUB_TOPIC",
            identity.topic, config.topic
        )));
    }
    let log = hubbub_log::Config {
        brokers: config.kafka_brokers.clone(),
        topic: identity.topic.clone(),
        partitions: identity.partitions,
        base: identity.base,
        client_id: "hubbub-api-server".to_owned(),
    };
    let rates = hubbub_chat::Config {
        send_rate: config.send_rate,
        send_burst: config.send_burst,
    };
    let (chat, task) = Chat::start(
        rates,
        &log,
        &metrics.log,
        &metrics.chat,
        store.clone(),
        bus.publisher.clone(),
    )
    .map_err(|error| StartError::Refused(error.to_string()))?;
    lifecycle.spawn("chat", OnError::Stop, task.run(bus.stop.clone()));
    let patience = Patience::new(Duration::from_secs(config.start_deadline_s));
    startup::until_there("the log", patience, &lifecycle.soft(), || async {
        startup::check_log(&log, store).await?;
        let warm = chat.warm_up().await;
        warm.map_err(|error| Attempt::Again(error.to_string()))
    })
    .await?;
    Ok(chat)
}

/// The bus, as an API server uses it: it publishes, and asks the pods.
struct Bus {
    publisher: Publisher,
    asker: Asker,
    dashboard: Dashboard,
    /// Wants `pod-<id>` for as long as it is here.
    _subscriber: Subscriber,
    /// Ends the connections; cancelled when everything else is over.
    stop: CancellationToken,
}

impl Bus {
    fn start(
        config: &Config,
        pod: &PodId,
        store: &Store,
        metrics: &AllMetrics,
        lifecycle: &Lifecycle,
    ) -> Self {
        let settings = hubbub_bus::Config::new(&config.redis_url, pod.clone());
        let stop = CancellationToken::new();
        let (publisher, publishing): (_, PublisherTask) = Publisher::new(&settings, &metrics.bus);
        let (subscriber, inbox, subscribing) = Subscriber::new(&settings, &metrics.bus);
        let asker = Asker::new(publisher.clone(), Leases::new(&publisher), pod.clone());
        let dashboard = Dashboard::new(
            pod.clone(),
            store.clone(),
            publisher.clone(),
            subscriber.clone(),
            metrics.api.clone(),
        );
        subscriber.subscribe(BusChannel::Pod(pod.clone()));
        lifecycle.spawn("publish", OnError::Stop, publishing.run(stop.clone()));
        lifecycle.spawn("subscribe", OnError::Stop, subscribing.run(stop.clone()));
        let draining = bus::drain_inbox(
            inbox,
            pod.clone(),
            (asker.clone(), dashboard.clone()),
            lifecycle.clone(),
            metrics.api.bad_pod_messages.clone(),
            stop.clone(),
        );
        lifecycle.spawn("inbox", OnError::Stop, draining);
        Self {
            publisher,
            asker,
            dashboard,
            _subscriber: subscriber,
            stop,
        }
    }
}

impl Drop for Bus {
    /// A start that failed half-way must not leave the connections' tasks behind.
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn random_pod() -> PodId {
    format!("api-{:08x}", rand::random::<u32>())
        .parse()
        .expect("letters, digits and a dash")
}
