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
    task::JoinSet,
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;

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
async fn ten_thousand_messages_arrive_in_order_and_none_is_lost() -> anyhow::Result<()> {
    const COUNT: usize = 10_000;
    let server = Server::start().await?;
    let sender = Node::start(&server.config("sender"));
    let mut receiver = Node::start(&server.config("receiver"));
    receiver.subscribed(&channels(4)).await;
    let mut tasks = JoinSet::new();
    let publisher = sender.publisher.clone();
    tasks.spawn(async move {
        for number in 0..COUNT {
            let to = channel(1 + i64::try_from(number % 4).expect("small"));
            let payload = Bytes::from(number.to_string());
            while let Err(error) = publisher.offer(&to, payload.clone()) {
                assert!(matches!(error, Error::Full), "{error}");
                tokio::task::yield_now().await;
            }
        }
    });
    for number in 0..COUNT {
        let to = channel(1 + i64::try_from(number % 4)?);
        let payload = Bytes::from(number.to_string());
        assert_eq!(
            receiver.next().await,
            Event::Message {
                channel: to,
                payload
            }
        );
    }
    assert_eq!(sender.metric("bus_publishes_total{result=\"ok\"}"), 10_000);
    assert_eq!(receiver.metric("bus_inbox_dropped_total"), 0);
    sender.finished().await;
    receiver.finished().await;
    Ok(())
}

#[tokio::test]
async fn publish_tells_the_number_of_receivers() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let mut node = Node::start(&server.config("a"));
    assert_eq!(publish(&node.publisher, &channel(1), "x").await, 0);
    node.subscribed(&channels(1)).await;
    assert_eq!(publish(&node.publisher, &channel(1), "x").await, 1);
    assert_eq!(node.next().await, message(&channel(1), "x"));
    Ok(())
}

#[tokio::test]
async fn killed_subscriber_connection_is_lost_and_all_is_subscribed_again() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let mut node = Node::start(&server.config("a"));
    let wanted = channels(1_500);
    node.subscribed(&wanted).await;
    let mut client = server.client().await?;
    for round in 1..=3 {
        let mut kill = redis::cmd("CLIENT");
        kill.arg("KILL").arg("TYPE").arg("pubsub");
        let killed: u64 = kill.query_async(&mut client).await?;
        assert_eq!(killed, 1);
        let begun = Instant::now();
        node.until(&Event::Lost).await;
        node.until_subscribed(&wanted).await;
        assert!(begun.elapsed() < REPAIR, "{:?}", begun.elapsed());
        assert_eq!(publish(&node.publisher, &channel(7), "back").await, 1);
        assert_eq!(node.until(&message(&channel(7), "back")).await, []);
        assert_eq!(
            node.metric("bus_connects_total{connection=\"subscriber\"}"),
            round + 1
        );
    }
    Ok(())
}

#[tokio::test]
async fn restarted_redis_has_everything_again_within_two_seconds() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let mut node = Node::start(&server.config("a"));
    let wanted = channels(2_000);
    node.subscribed(&wanted).await;
    node.connected().await;
    server.redis.kill().await;
    node.until(&Event::Lost).await;
    eventually("noticed", || !node.subscriber.is_connected()).await;
    server.redis.start().await?;
    let begun = Instant::now();
    node.until_subscribed(&wanted).await;
    assert_eq!(publish(&node.publisher, &channel(9), "back").await, 1);
    assert!(begun.elapsed() < REPAIR, "{:?}", begun.elapsed());
    assert_eq!(node.until(&message(&channel(9), "back")).await, []);
    Ok(())
}

#[tokio::test]
async fn frozen_redis_fails_fast_and_works_again_after() -> anyhow::Result<()> {
    const FREEZE: Duration = Duration::from_secs(3);
    let server = Server::start().await?;
    let mut node = Node::start(&server.config("a"));
    node.subscribed(&channels(10)).await;
    node.connected().await;
    server.redis.pause();
    let begun = Instant::now();
    let mut longest = Duration::ZERO;
    while begun.elapsed() < FREEZE {
        let asked = Instant::now();
        let answer = node
            .publisher
            .publish(&channel(1), Bytes::from_static(b"frozen"))
            .await;
        assert!(answer.is_err(), "{answer:?}");
        longest = longest.max(asked.elapsed());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(longest < Duration::from_millis(1_500), "{longest:?}");
    assert!(!node.subscriber.is_connected());
    server.redis.resume();
    let begun = Instant::now();
    // Nobody knows what was missed meanwhile, so everything is confirmed again.
    node.until(&Event::Lost).await;
    node.until_subscribed(&channels(10)).await;
    publish(&node.publisher, &channel(1), "thawed").await;
    node.until(&message(&channel(1), "thawed")).await;
    node.connected().await;
    assert!(begun.elapsed() < REPAIR, "{:?}", begun.elapsed());
    Ok(())
}

#[tokio::test]
async fn deaf_connection_is_found_and_replaced() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let proxy = Proxy::start(server.addr())?;
    let mut config = server.config("a");
    config.subscribe_url = format!("redis://{}", proxy.addr());
    let mut node = Node::start(&config);
    node.subscribed(&channels(10)).await;
    node.connected().await;
    proxy.black_hole(Direction::ToClient);
    let begun = Instant::now();
    assert_eq!(publish(&node.publisher, &channel(1), "unheard").await, 1);
    assert_eq!(node.until(&Event::Lost).await, []);
    assert!(begun.elapsed() < REPAIR, "{:?}", begun.elapsed());
    assert_eq!(node.metric("bus_losses_total{reason=\"deaf\"}"), 1);
    assert!(!node.subscriber.is_connected());
    proxy.heal();
    let begun = Instant::now();
    node.until_subscribed(&channels(10)).await;
    assert!(begun.elapsed() < REPAIR, "{:?}", begun.elapsed());
    publish(&node.publisher, &channel(2), "heard").await;
    assert_eq!(node.until(&message(&channel(2), "heard")).await, []);
    Ok(())
}

#[tokio::test]
async fn probe_that_cannot_be_sent_cuts_nothing() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let proxy = Proxy::start(server.addr())?;
    let mut config = server.config("a");
    config.url = format!("redis://{}", proxy.addr());
    let mut node = Node::start(&config);
    node.subscribed(&channels(1)).await;
    node.connected().await;
    proxy.go_down();
    eventually("probes fail to be sent", || {
        node.metric("bus_probes_total{result=\"unsent\"}") >= 4
    })
    .await;
    let mut client = server.client().await?;
    let mut publish = redis::cmd("PUBLISH");
    publish.arg(channel(1).to_string()).arg("still heard");
    let receivers: u64 = publish.query_async(&mut client).await?;
    assert_eq!(receivers, 1);
    assert_eq!(node.next().await, message(&channel(1), "still heard"));
    assert_eq!(
        node.metric("bus_connects_total{connection=\"subscriber\"}"),
        1
    );
    Ok(())
}

#[tokio::test]
async fn full_inbox_says_lost_and_subscribes_again() -> anyhow::Result<()> {
    const SENT: u64 = 1_000;
    let server = Server::start().await?;
    let mut config = server.config("a");
    config.inbox_events = 64;
    let mut node = Node::start(&config);
    node.subscribed(&channels(100)).await;
    for _ in 0..SENT {
        node.publisher
            .offer(&channel(1), Bytes::from_static(b"x"))?;
    }
    node.publisher.flush().await;
    eventually("all came", || {
        node.metric("bus_inbox_dropped_total") == SENT - 64
    })
    .await;
    let before = node.until(&Event::Lost).await;
    assert_eq!(before, vec![message(&channel(1), "x"); 64]);
    node.until_subscribed(&channels(100)).await;
    publish(&node.publisher, &channel(1), "after").await;
    node.until(&message(&channel(1), "after")).await;
    assert_eq!(node.metric("bus_losses_total{reason=\"overflow\"}"), 1);
    assert_eq!(
        node.metric("bus_connects_total{connection=\"subscriber\"}"),
        1
    );
    Ok(())
}

#[tokio::test]
async fn five_thousand_channels_are_subscribed_in_batches() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let mut node = Node::start(&server.config("a"));
    node.connected().await;
    let wanted = channels(5_000);
    let begun = Instant::now();
    node.subscribed(&wanted).await;
    let took = begun.elapsed();
    assert!(took < REPAIR, "{took:?}");
    let mut client = server.client().await?;
    let stats: String = redis::cmd("INFO")
        .arg("commandstats")
        .query_async(&mut client)
        .await?;
    let line = stats
        .lines()
        .find(|line| line.starts_with("cmdstat_subscribe:"));
    let calls = line.and_then(|line| line.split(['=', ',']).nth(1));
    let calls: u32 = calls.expect("calls=").parse()?;
    // Our own channel, ten full batches, and some that began before the next calls came.
    assert!((11..=20).contains(&calls), "{calls}");
    let mut inspect = Inspect::connect(&server.redis.url()).await?;
    assert_eq!(inspect.channels("channel-*").await?.len(), 5_000);
    assert_eq!(node.metric("bus_subscriptions"), 5_000);
    for channel in &wanted[1..] {
        node.subscriber.unsubscribe(channel.clone());
    }
    let deadline = Instant::now() + LONG;
    while inspect.channels("channel-*").await? != [channel(1).to_string()] {
        assert!(Instant::now() < deadline, "not all unsubscribed");
    }
    Ok(())
}

#[tokio::test]
async fn last_order_for_a_channel_holds_and_each_subscribe_is_confirmed() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let mut node = Node::start(&server.config("a"));
    node.subscribed(&channels(1)).await;
    // Again, though it is subscribed: a fresh start.
    node.subscriber.subscribe(channel(1));
    assert_eq!(node.next().await, Event::Subscribed(channel(1)));
    for _ in 0..50 {
        node.subscriber.unsubscribe(channel(1));
        tokio::task::yield_now().await;
        node.subscriber.subscribe(channel(1));
        node.until(&Event::Subscribed(channel(1))).await;
        node.subscriber.subscribe(channel(2));
        tokio::task::yield_now().await;
        node.subscriber.unsubscribe(channel(2));
    }
    let names = [channel(1).to_string(), channel(2).to_string()];
    let expected = [(names[0].clone(), 1), (names[1].clone(), 0)];
    let mut inspect = Inspect::connect(&server.redis.url()).await?;
    let deadline = Instant::now() + LONG;
    while inspect.numsub(&names).await? != expected {
        assert!(
            Instant::now() < deadline,
            "{:?}",
            inspect.numsub(&names).await?
        );
    }
    Ok(())
}

#[tokio::test]
async fn publishes_that_went_stale_are_dropped_and_asking_fails_at_once() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let mut node = Node::start(&server.config("a"));
    node.subscribed(&channels(1)).await;
    publish(&node.publisher, &channel(1), "before").await;
    server.redis.kill().await;
    node.until(&Event::Lost).await;
    for _ in 0..10 {
        node.publisher
            .offer(&channel(1), Bytes::from_static(b"stale"))?;
    }
    let deadline = Instant::now() + LONG;
    loop {
        let answer = node
            .publisher
            .publish(&channel(1), Bytes::from_static(b"asked"))
            .await;
        if matches!(answer, Err(Error::Disconnected)) {
            break;
        }
        assert!(answer.is_err() && Instant::now() < deadline, "{answer:?}");
    }
    // What is offered is dropped without a connection, too: this returns while Redis is down.
    timeout(LONG, node.publisher.flush()).await?;
    let dropped = node.metric("bus_publishes_total{result=\"stale\"}")
        + node.metric("bus_publishes_total{result=\"failed\"}");
    assert!(dropped >= 10, "{dropped}");
    server.redis.start().await?;
    node.until_subscribed(&channels(1)).await;
    publish(&node.publisher, &channel(1), "fresh").await;
    assert_eq!(node.until(&message(&channel(1), "fresh")).await, []);
    Ok(())
}

#[tokio::test]
async fn full_publish_queue_refuses_at_once() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let mut config = server.config("a");
    config.publish_queue = 8;
    let metrics = Metrics::default();
    // Nobody runs the task, so nothing leaves the queue.
    let (publisher, _task) = Publisher::new(&config, &metrics);
    for _ in 0..8 {
        publisher.offer(&channel(1), Bytes::from_static(b"x"))?;
    }
    let refused = publisher.offer(&channel(1), Bytes::from_static(b"x"));
    assert!(matches!(refused, Err(Error::Full)), "{refused:?}");
    Ok(())
}

#[tokio::test]
async fn stopped_publisher_writes_what_was_offered() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let mut receiver = Node::start(&server.config("receiver"));
    receiver.subscribed(&channels(1)).await;
    let sender = Node::start(&server.config("sender"));
    publish(&sender.publisher, &channel(1), "connected").await;
    for _ in 0..1_000 {
        sender
            .publisher
            .offer(&channel(1), Bytes::from_static(b"x"))?;
    }
    let publisher = sender.publisher.clone();
    sender.finished().await;
    receiver.until(&message(&channel(1), "connected")).await;
    for _ in 0..1_000 {
        assert_eq!(receiver.next().await, message(&channel(1), "x"));
    }
    let refused = publisher.offer(&channel(1), Bytes::from_static(b"x"));
    assert!(matches!(refused, Err(Error::Disconnected)), "{refused:?}");
    timeout(LONG, publisher.flush()).await?;
    Ok(())
}

#[tokio::test]
async fn lease_expires_five_seconds_after_its_last_renewal() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let node = Node::start(&server.config("a"));
    let (a, b) = (server.pod("a"), server.pod("b"));
    publish(&node.publisher, &channel(1), "connected").await;
    let leases = Leases::new(&node.publisher);
    assert_eq!(leases.pods().await?, []);
    leases.renew(&b).await?;
    leases.renew(&a).await?;
    let renewed = Instant::now();
    assert_eq!(leases.pods().await?, [a.clone(), b.clone()]);
    leases.release(&b).await?;
    assert_eq!(leases.pods().await?, [a]);
    while !leases.pods().await?.is_empty() {
        assert!(renewed.elapsed() < LEASE + REPAIR);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(renewed.elapsed() > LEASE - Duration::from_millis(100));
    Ok(())
}

#[tokio::test]
async fn leases_are_found_among_many_keys() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let node = Node::start(&server.config("a"));
    publish(&node.publisher, &channel(1), "connected").await;
    let leases = Leases::new(&node.publisher);
    let mut client = server.client().await?;
    let mut set = redis::pipe();
    for number in 0..5_000 {
        set.set(format!("ticket:{number}"), 1).ignore();
    }
    let _: () = set.query_async(&mut client).await?;
    let mut expected = Vec::new();
    for number in 0..50 {
        let pod = server.pod(&format!("pod-{number:02}"));
        leases.renew(&pod).await?;
        expected.push(pod);
    }
    assert_eq!(leases.pods().await?, expected);
    Ok(())
}

fn evict() -> Question {
    let BusChannel::Channel(channel) = channel(1) else {
        unreachable!("made as one");
    };
    let user = UserId::new(1).expect("from 1");
    Question::Evict { channel, user }
}

/// A pod that has a lease and answers every question; with the number of questions it saw.
async fn answering(server: &Server, name: &str, tasks: &mut JoinSet<()>) -> anyhow::Result<()> {
    let mut node = Node::start(&server.config(name));
    node.subscribed(&[BusChannel::Pods]).await;
    publish(&node.publisher, &channel(1), "connected").await;
    let pod = server.pod(name);
    Leases::new(&node.publisher).renew(&pod).await?;
    tasks.spawn(async move {
        let mut sockets = 0;
        loop {
            if let Event::Message { payload, .. } = next_forever(&mut node).await {
                let asked = serde_json::from_slice(&payload).expect("a pod message");
                let PodMessage::Ask {
                    request, reply_to, ..
                } = asked
                else {
                    continue;
                };
                sockets += 1;
                let reply = PodMessage::Reply {
                    request,
                    pod: pod.clone(),
                    answer: Answer::Evicted { sockets },
                };
                let to = BusChannel::Pod(reply_to);
                node.publisher
                    .offer(&to, reply.encode().into())
                    .expect("room");
            }
        }
    });
    Ok(())
}

/// Who asks; its inbox is read by a task.
async fn asking(config: &Config, tasks: &mut JoinSet<()>) -> (Asker, Leases, Registry) {
    let mut node = Node::start(config);
    node.subscribed(&[BusChannel::Pod(config.pod.clone())])
        .await;
    publish(&node.publisher, &channel(1), "connected").await;
    let leases = Leases::new(&node.publisher);
    let asker = Asker::new(node.publisher.clone(), leases.clone(), config.pod.clone());
    let listener = asker.clone();
    let registry = std::mem::take(&mut node.registry);
    tasks.spawn(async move {
        loop {
            if let Event::Message { payload, .. } = next_forever(&mut node).await {
                let reply = serde_json::from_slice(&payload).expect("a pod message");
                if let PodMessage::Reply {
                    request,
                    pod,
                    answer,
                } = reply
                {
                    listener.on_reply(request, pod, answer);
                }
            }
        }
    });
    (asker, leases, registry)
}

async fn next_forever(node: &mut Node) -> Event {
    loop {
        if let Some(event) = node.read.pop_front() {
            return event;
        }
        let mut events = Vec::new();
        node.inbox.recv_all(&mut events).await;
        node.read.extend(events);
    }
}

#[tokio::test]
async fn question_is_answered_by_all_pods_and_names_who_is_missing() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let mut tasks = JoinSet::new();
    answering(&server, "a", &mut tasks).await?;
    answering(&server, "b", &mut tasks).await?;
    let (asker, leases, _) = asking(&server.config("asker"), &mut tasks).await;
    let survey = asker.ask(evict(), LONG).await?;
    let pods: Vec<_> = survey.answers.keys().map(PodId::as_str).collect();
    assert_eq!((pods, survey.missing), (vec!["a", "b"], vec![]));

    let ghost = server.pod("ghost");
    leases.renew(&ghost).await?;
    let deadline = Duration::from_millis(300);
    let begun = Instant::now();
    let survey = asker.ask(evict(), deadline).await?;
    assert_eq!((survey.answers.len(), survey.missing), (2, vec![ghost]));
    assert!(begun.elapsed() >= deadline && begun.elapsed() < deadline * 2);
    assert_eq!(asker.pending(), 0);
    Ok(())
}

#[tokio::test]
async fn asking_until_all_stops_waiting_for_a_pod_whose_lease_is_gone() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let mut tasks = JoinSet::new();
    answering(&server, "a", &mut tasks).await?;
    let (asker, leases, _) = asking(&server.config("asker"), &mut tasks).await;
    let mut client = server.client().await?;
    let mut set = redis::cmd("SET");
    set.arg("pod:ghost").arg(1).arg("PX").arg(900);
    let _: () = set.query_async(&mut client).await?;
    let begun = Instant::now();
    let survey = asker.ask_until_all(evict(), LONG).await?;
    assert_eq!(survey.missing, []);
    let took = begun.elapsed();
    assert!((700..1_900).contains(&took.as_millis()), "{took:?}");
    // It asked again each quarter of a second, and the pod that had answered saw that.
    let Some(Answer::Evicted { sockets }) = survey.answers.get(&server.pod("a")) else {
        panic!("{survey:?}");
    };
    assert!((3..=6).contains(sockets), "{sockets}");

    let ghost = server.pod("ghost");
    leases.renew(&ghost).await?;
    let survey = asker
        .ask_until_all(evict(), Duration::from_millis(600))
        .await?;
    assert_eq!(survey.missing, [ghost]);
    assert_eq!(asker.pending(), 0);
    Ok(())
}

#[tokio::test]
async fn asking_until_all_survives_a_cut() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let proxy = Proxy::start(server.addr())?;
    let mut tasks = JoinSet::new();
    answering(&server, "a", &mut tasks).await?;
    let mut config = server.config("asker");
    config.url = format!("redis://{}", proxy.addr());
    let (asker, _, _) = asking(&config, &mut tasks).await;
    proxy.go_down();
    let question = asker.clone();
    let mut asked = JoinSet::new();
    asked.spawn(async move { question.ask_until_all(evict(), LONG).await });
    eventually("the question is open", || asker.pending() == 1).await;
    eventually("nothing goes through", || proxy.connections() == 0).await;
    proxy.heal();
    let survey = asked.join_next().await.expect("one task")??;
    assert!(survey.answers.contains_key(&server.pod("a")), "{survey:?}");
    assert_eq!(survey.missing, []);

    proxy.go_down();
    let answer = asker
        .ask_until_all(evict(), Duration::from_millis(300))
        .await;
    assert!(answer.is_err(), "{answer:?}");
    assert_eq!(asker.pending(), 0);
    Ok(())
}

#[tokio::test]
async fn question_is_asked_even_if_nobody_has_a_lease() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let mut tasks = JoinSet::new();
    let (asker, _, _) = asking(&server.config("asker"), &mut tasks).await;
    let mut pod = Node::start(&server.config("a"));
    pod.subscribed(&[BusChannel::Pods]).await;
    let survey = asker.ask_until_all(evict(), LONG).await?;
    assert!(
        survey.answers.is_empty() && survey.missing.is_empty(),
        "{survey:?}"
    );
    assert!(matches!(
        pod.next().await,
        Event::Message {
            channel: BusChannel::Pods,
            ..
        }
    ));
    Ok(())
}

#[tokio::test]
async fn nothing_is_pending_after_many_questions_answered_late_or_dropped() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let mut tasks = JoinSet::new();
    answering(&server, "a", &mut tasks).await?;
    let (asker, leases, registry) = asking(&server.config("asker"), &mut tasks).await;
    leases.renew(&server.pod("ghost")).await?;
    let mut asked = JoinSet::new();
    for number in 0..200 {
        let asker = asker.clone();
        asked.spawn(async move {
            let asking = asker.ask(evict(), Duration::from_millis(700));
            if number % 4 == 0 {
                // Dropped under way.
                timeout(Duration::from_millis(100), asking).await.ok();
                return;
            }
            let survey = asking.await.expect("asked");
            assert_eq!(survey.answers.len(), 1);
            assert_eq!(survey.missing.len(), 1);
        });
    }
    while let Some(ended) = asked.join_next().await {
        ended?;
    }
    assert_eq!(asker.pending(), 0);
    let late = Answer::Evicted { sockets: 1 };
    asker.on_reply(uuid::Uuid::new_v4(), server.pod("a"), late);
    let mut text = String::new();
    encode(&mut text, &registry)?;
    assert!(text.contains("bus_late_replies_total 1\n"), "{text}");
    Ok(())
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
    let tail = inspect.tail("channel-*", |_, _| true);
    let (tailed, ()) = tokio::join!(timeout(LONG, tail), async {
        while publish(&publisher, &channel(1), "x").await < 2 {
            tokio::task::yield_now().await;
        }
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
