//! A pod as a process: what it connects to, which tasks it starts, and its end.

use std::{
    future::Future,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64},
    },
    time::Duration,
};

use anyhow::Context;
use hubbub_bus::{Asker, Inbox, Leases, Publisher, PublisherTask, Subscriber, SubscriberTask};
use hubbub_chat::{Chat, ChatTask, Questions};
use hubbub_protocol::{BusChannel, PodId};
use hubbub_service::{Lifecycle, OnError, Ops, Readiness, token::Verifier};
use lru::LruCache;
use parking_lot::Mutex;
use prometheus_client::registry::Registry;
use tokio::{net::TcpListener, sync::Notify, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{
    Config, Edge, SUBJECTS, accept,
    dashboard::{self, Dashboard},
    drain,
    feed::Sweeper,
    fetch::{self, Fetcher},
    hub::Hub,
    metrics::Metrics,
    people::{self, errands::Errands},
    relay, start, tasks,
};

/// To get the first lease and the confirmation of `pods` before the pod calls itself ready.
const BUS_AT_START: Duration = Duration::from_secs(10);

/// A bound pod. See the crate.
#[derive(Debug)]
pub struct Pod {
    edge: Arc<Edge>,
    listener: TcpListener,
    ops: Ops,
    inbox: Inbox,
    publisher: PublisherTask,
    chat: ChatTask,
    subscriber: SubscriberTask,
    sweeper: Sweeper,
}

impl Pod {
    /// Connects to everything, waiting up to a minute for each with a line of progress, checks
    /// that log and store belong together, and binds both ports. Nothing is accepted before
    /// [`Pod::run`].
    ///
    /// Errors name what is wrong and the remedy.
    pub async fn bind(config: Config, lifecycle: &Lifecycle) -> anyhow::Result<Self> {
        hubbub_service::config::check_nofile(config.max_connections as u64 + 200)
            .context("--max-connections")?;
        let pod = config.pod_id.clone().unwrap_or_else(start::random_pod_id);
        let verifier = Verifier::load(&config.token)?;
        let mut registry = Registry::default();
        let metrics = Metrics::default();
        metrics.register(&mut registry);

        let listener = TcpListener::bind(config.listen)
            .await
            .with_context(|| format!("bind the WebSocket port {}", config.listen))?;
        let (store, log_config) = start::store_and_log(&config, &pod, &mut registry).await?;

        let bus_config = hubbub_bus::Config::new(&config.redis_url, pod.clone());
        let bus_metrics = hubbub_bus::Metrics::default();
        bus_metrics.register(&mut registry);
        let (publisher, publisher_task) = Publisher::new(&bus_config, &bus_metrics);
        let (subscriber, inbox, subscriber_task) = Subscriber::new(&bus_config, &bus_metrics);
        let leases = Leases::new(&publisher);
        let asker = Asker::new(publisher.clone(), leases.clone(), pod.clone());

        let log_metrics = hubbub_log::Metrics::default();
        log_metrics.register(&mut registry);
        let chat_metrics = hubbub_chat::Metrics::default();
        chat_metrics.register(&mut registry);
        let chat_config = hubbub_chat::Config {
            send_rate: config.send_rate,
            send_burst: config.send_burst,
        };
        let (chat, chat_task) = Chat::start(
            chat_config,
            &log_config,
            &log_metrics,
            &chat_metrics,
            store.clone(),
            publisher.clone(),
        )?;
        start::wait_for("Kafka", || chat.warm_up()).await?;

        let readiness = Readiness::default();
        let edge = Arc::new(Edge {
            hub: Hub::new(config.recent_bytes),
            fetcher: Fetcher::new(store.shards()),
            errands: Errands::default(),
            dashboard: Dashboard::new(pod.clone(), config.region.clone()),
            presence_due: Notify::new(),
            asker,
            pod,
            chat,
            store,
            publisher,
            subscriber,
            leases,
            verifier,
            metrics,
            readiness: readiness.clone(),
            stop_accepting: CancellationToken::new(),
            drained: CancellationToken::new(),
            unregistered: Notify::new(),
            lifecycle: lifecycle.clone(),
            subjects: Mutex::new(LruCache::new(SUBJECTS)),
            questions: Questions::default(),
            started: Instant::now(),
            lease_until_ms: AtomicU64::new(0),
            lease_ends_ms: AtomicU64::new(u64::MAX),
            suspended: AtomicBool::new(true),
            losses: AtomicU64::new(0),
            returned: Mutex::new((0, None)),
            renew_now: Notify::new(),
            config,
        });
        let debug = {
            let edge = Arc::clone(&edge);
            Arc::new(move || edge.hub.state())
        };
        let ops = Ops::bind(&edge.config.ops, Arc::new(registry), readiness, Some(debug))
            .await
            .context("bind the ops port")?;
        // The first positions are read before the first SUBSCRIBE (design, section 4). A shard
        // that is away is swept whole when it is back.
        let sweeper = tasks::first_sweep(&edge).await;
        Ok(Self {
            edge,
            listener,
            ops,
            inbox,
            publisher: publisher_task,
            chat: chat_task,
            subscriber: subscriber_task,
            sweeper,
        })
    }

    /// Address of the WebSocket port.
    pub fn addr(&self) -> SocketAddr {
        self.listener
            .local_addr()
            .expect("a bound listener has an address")
    }

    /// Address of the ops port.
    pub fn ops_addr(&self) -> SocketAddr {
        self.ops.addr()
    }

    /// This pod's name.
    pub fn pod_id(&self) -> &PodId {
        &self.edge.pod
    }

    /// Starts every task under `lifecycle` and calls itself ready. Returns at once after that;
    /// the lifecycle's soft token begins the drain.
    pub async fn run(self, lifecycle: &Lifecycle) {
        let Self {
            edge,
            listener,
            ops,
            inbox,
            publisher,
            chat,
            subscriber,
            sweeper,
        } = self;
        ops.start(lifecycle);
        let drained = edge.drained.clone();
        lifecycle.spawn(
            "bus.publisher",
            OnError::Stop,
            publisher.run(drained.clone()),
        );
        lifecycle.spawn(
            "bus.subscriber",
            OnError::Stop,
            subscriber.run(drained.clone()),
        );
        let spawn = |name, task| spawn_until(lifecycle, &drained, name, task);
        lifecycle.spawn("chat", OnError::Stop, chat.run(drained.clone()));
        edge.subscriber.subscribe(BusChannel::Pods);
        edge.subscriber.subscribe(BusChannel::Pod(edge.pod.clone()));
        spawn("relay", boxed(relay::run(Arc::clone(&edge), inbox)));
        spawn("fetch", boxed(fetch::run(Arc::clone(&edge))));
        spawn("lease", boxed(tasks::lease(Arc::clone(&edge))));
        spawn("sweep", boxed(tasks::sweep(Arc::clone(&edge), sweeper)));
        spawn("tick", boxed(tasks::tick(Arc::clone(&edge))));
        spawn("heartbeat", boxed(tasks::heartbeat(Arc::clone(&edge))));
        spawn("people", boxed(people::run(Arc::clone(&edge))));
        spawn("marks", boxed(people::write_marks(Arc::clone(&edge))));
        spawn("presence", boxed(people::survey::ask(Arc::clone(&edge))));
        spawn("leases", boxed(people::survey::leases(Arc::clone(&edge))));
        spawn(
            "directs",
            boxed(people::errands::directs(Arc::clone(&edge))),
        );
        spawn(
            "receipts",
            boxed(people::errands::receipts(Arc::clone(&edge))),
        );
        spawn("dashboard", boxed(dashboard::run(Arc::clone(&edge))));
        start::wait_for_bus(&edge, BUS_AT_START).await;
        dashboard::ask(&edge);
        edge.readiness.set_ready();
        lifecycle.spawn(
            "accept",
            OnError::Stop,
            accept::run(Arc::clone(&edge), listener),
        );
        let soft = lifecycle.soft();
        lifecycle.spawn("drain", OnError::Stop, async move {
            soft.cancelled().await;
            drain::run(edge).await;
            Ok::<(), std::convert::Infallible>(())
        });
    }
}

type Task = std::pin::Pin<Box<dyn Future<Output = Result<(), std::convert::Infallible>> + Send>>;

fn boxed(
    task: impl Future<Output = Result<(), std::convert::Infallible>> + Send + 'static,
) -> Task {
    Box::pin(task)
}

/// A task that lives until the pod is drained; its early end would be a mistake of ours.
fn spawn_until(lifecycle: &Lifecycle, drained: &CancellationToken, name: &'static str, task: Task) {
    let drained = drained.clone();
    lifecycle.spawn(name, OnError::Stop, async move {
        tokio::select! {
            () = drained.cancelled() => Ok(()),
            result = task => result,
        }
    });
}
