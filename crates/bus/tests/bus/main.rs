//! The bus against a real Redis, which every test has to itself.
use std::{
    collections::{BTreeSet, VecDeque},
    net::SocketAddr,
    time::Duration,
};

use bytes::Bytes;
use hubbub_bus::{
    Asker, Config, Error, Event, Inbox, Inspect, LEASE, Leases, Metrics, Publisher, Subscriber,
};
use hubbub_protocol::{
    Answer, BusChannel, ChannelId, ChannelLetter, PodId, PodMessage, Question, UserId,
};
use hubbub_stack::{Direction, Port, Proxy, Redis};
use prometheus_client::{encoding::text::encode, registry::Registry};
use tokio::{
    sync::Notify,
    task::JoinSet,
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;

mod asking;
mod leases;
mod publishing;
mod subscribing;

/// Never reached unless a test fails.
const LONG: Duration = Duration::from_secs(15);
/// What P7 leaves for the whole of a repair.
const REPAIR: Duration = Duration::from_secs(2);

struct Server {
    redis: Redis,
    _dir: tempfile::TempDir,
}

impl Server {
    async fn start() -> anyhow::Result<Self> {
        let dir = tempfile::tempdir()?;
        let redis = Redis::launch(dir.path(), Port::free()?).await?;
        Ok(Self { redis, _dir: dir })
    }

    fn config(&self, pod: &str) -> Config {
        Config::new(&self.redis.url(), self.pod(pod))
    }

    fn pod(&self, pod: &str) -> PodId {
        pod.parse().expect("a pod id")
    }

    fn addr(&self) -> SocketAddr {
        let url = self.redis.url();
        let addr = url.strip_prefix("redis://").expect("a URL");
        addr.parse().expect("an address")
    }

    /// A connection of the test itself.
    async fn client(&self) -> anyhow::Result<redis::aio::MultiplexedConnection> {
        let client = redis::Client::open(self.redis.url())?;
        Ok(client.get_multiplexed_async_connection().await?)
    }
}

/// One process on the bus.
struct Node {
    publisher: Publisher,
    subscriber: Subscriber,
    inbox: Inbox,
    read: VecDeque<Event>,
    registry: Registry,
    stop: CancellationToken,
    tasks: JoinSet<Result<(), Error>>,
}

impl Node {
    fn start(config: &Config) -> Self {
        let metrics = Metrics::default();
        let mut registry = Registry::default();
        metrics.register(&mut registry);
        let (publisher, publishing) = Publisher::new(config, &metrics);
        let (subscriber, inbox, subscribing) = Subscriber::new(config, &metrics);
        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        tasks.spawn(publishing.run(stop.clone()));
        tasks.spawn(subscribing.run(stop.clone()));
        Self {
            publisher,
            subscriber,
            inbox,
            read: VecDeque::new(),
            registry,
            stop,
            tasks,
        }
    }

    async fn next(&mut self) -> Event {
        if self.read.is_empty() {
            let mut events = Vec::new();
            timeout(LONG, self.inbox.recv_all(&mut events))
                .await
                .expect("an event");
            self.read.extend(events);
        }
        self.read.pop_front().expect("at least one")
    }

    /// Reads until the event comes, and returns what came before it.
    async fn until(&mut self, event: &Event) -> Vec<Event> {
        let mut before = Vec::new();
        loop {
            let next = self.next().await;
            if next == *event {
                return before;
            }
            before.push(next);
        }
    }

    /// Reads until each channel is confirmed.
    async fn until_subscribed(&mut self, channels: &[BusChannel]) {
        let mut open: BTreeSet<_> = channels.iter().cloned().collect();
        while !open.is_empty() {
            if let Event::Subscribed(channel) = self.next().await {
                open.remove(&channel);
            }
        }
    }

    async fn subscribed(&mut self, channels: &[BusChannel]) {
        for channel in channels {
            self.subscriber.subscribe(channel.clone());
        }
        self.until_subscribed(channels).await;
    }

    fn metric(&self, name: &str) -> u64 {
        let mut text = String::new();
        encode(&mut text, &self.registry).expect("encoded");
        let lines = text.lines().filter_map(|line| line.rsplit_once(' '));
        let value = lines
            .filter(|(key, _)| *key == name)
            .map(|(_, value)| value);
        value
            .map(|value| value.parse::<u64>().expect("a number"))
            .sum()
    }

    async fn connected(&self) {
        eventually("connected", || self.subscriber.is_connected()).await;
    }

    async fn finished(mut self) {
        self.stop.cancel();
        while let Some(ended) = timeout(LONG, self.tasks.join_next()).await.expect("ends") {
            ended.expect("no panic").expect("no error");
        }
    }
}

async fn eventually(what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + LONG;
    while !holds() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// As often as it takes until Redis can be reached.
async fn publish(publisher: &Publisher, to: &BusChannel, payload: &'static str) -> u64 {
    let deadline = Instant::now() + LONG;
    loop {
        match publisher.publish(to, Bytes::from(payload)).await {
            Ok(receivers) => return receivers,
            Err(error) => assert!(Instant::now() < deadline, "cannot publish: {error}"),
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn channel(number: i64) -> BusChannel {
    let id = ChannelId::new(ChannelLetter::Channel, number).expect("from 1");
    BusChannel::Channel(id)
}

fn channels(count: i64) -> Vec<BusChannel> {
    (1..=count).map(channel).collect()
}

fn message(channel: &BusChannel, payload: &'static str) -> Event {
    Event::Message {
        channel: channel.clone(),
        payload: Bytes::from(payload),
    }
}

#[tokio::test]
async fn inspect_shows_what_is_live() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let mut node = Node::start(&server.config("a"));
    node.subscribed(&[channel(1), BusChannel::Pods]).await;
    let mut inspect = Inspect::connect(&server.redis.url()).await?;
    assert_eq!(
        inspect.channels("*").await?,
        ["channel-C000000001", "pod-a", "pods"]
    );
    let names = [channel(1).to_string(), "channel-C000000002".to_owned()];
    let expected = [(names[0].clone(), 1), (names[1].clone(), 0)];
    assert_eq!(inspect.numsub(&names).await?, expected);

    let mut seen = Vec::new();
    let tail = inspect.tail("channel-*", |channel, payload| {
        seen.push(format!("{channel} {}", String::from_utf8_lossy(payload)));
        seen.len() < 2
    });
    let publisher = node.publisher.clone();
    let send = async {
        // Two receivers: the node, and the tail once it is there.
        while publish(&publisher, &channel(1), "x").await < 2 {
            tokio::task::yield_now().await;
        }
        publish(&publisher, &BusChannel::Pods, "not shown").await;
        publish(&publisher, &channel(1), "y").await;
    };
    let (tailed, ()) = tokio::join!(timeout(LONG, tail), send);
    tailed??;
    assert_eq!(seen, ["channel-C000000001 x", "channel-C000000001 y"]);

    let inspect = Inspect::connect(&server.redis.url()).await?;
    let shown = Notify::new();
    let tail = inspect.tail("channel-*", |_, _| {
        shown.notify_one();
        true
    });
    let (tailed, ()) = tokio::join!(timeout(LONG, tail), async {
        while publish(&publisher, &channel(1), "x").await < 2 {
            tokio::task::yield_now().await;
        }
        // Two receivers is what Redis says; the tail's own answer may still be under way.
        shown.notified().await;
        server.redis.kill().await;
    });
    assert!(matches!(tailed, Ok(Err(Error::Disconnected))), "{tailed:?}");
    Ok(())
}

#[tokio::test]
async fn url_that_is_none_ends_the_tasks_with_an_error() {
    let config = Config::new("not a url", "a".parse().expect("a pod id"));
    let mut node = Node::start(&config);
    for _ in 0..2 {
        let ended = node.tasks.join_next().await.expect("two tasks");
        assert!(ended.expect("no panic").is_err());
    }
    assert!(!format!("{config:?}").contains("url"), "{config:?}");
}
