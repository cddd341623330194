//! Fresh servers, pods in this process, and what a test does beside them: memberships, the
//! consumer's part, questions on the bus.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use anyhow::Context;
use bytes::Bytes;
use clap::Parser;
use hubbub_bus::{Event, Inbox, Inspect, Publisher, Subscriber};
use hubbub_chat::Chat;
use hubbub_edge_server::{Config, Pod};
use hubbub_log::{Appender, Report};
use hubbub_protocol::{
    Answer, BusChannel, ChannelId, MarkRecord, MessageId, PodId, PodMessage, Question, Receipt,
    Record, Seq, Stored, UserEvent, UserId,
    http::{ChannelKind, Role, User},
};
use hubbub_service::{Lifecycle, telemetry::wall_clock_ms, token};
use hubbub_stack::{Proxy, TestEnv};
use hubbub_store::{Incoming, LogIdentity, NewRow, Store};
use serde_json::Value;
use tokio::{
    sync::oneshot,
    task::{JoinSet, spawn_blocking},
    time::{Instant, MissedTickBehavior, interval, timeout},
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

const PARTITIONS: u32 = 8;
const SECRET: &[u8] = b"a secret of the tests with more than 32 bytes";
pub(crate) const ORIGIN: &str = "https://chat.example.com";
/// Longer than anything a test waits for.
pub(crate) const LONG: Duration = Duration::from_secs(20);

/// What the log held when it was read, by partition, with the offset behind it.
pub(crate) type Batches = BTreeMap<i32, (i64, Vec<Incoming>)>;

/// A clock that stands still while this runtime does. A test, its pods and its clients share one
/// thread: by the wall clock all of them are late when the machine lets it wait.
pub(crate) struct Awake {
    ticks: Arc<AtomicU32>,
    _ticking: JoinSet<()>,
}

impl Awake {
    /// Short beside what is measured, long beside what any timer is late.
    const TICK: Duration = Duration::from_millis(50);

    pub(crate) fn start() -> Self {
        let ticks = Arc::new(AtomicU32::new(0));
        let mut every = interval(Self::TICK);
        every.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut ticking, counted) = (JoinSet::new(), Arc::clone(&ticks));
        ticking.spawn(async move {
            // The first one comes at once.
            every.tick().await;
            loop {
                every.tick().await;
                counted.fetch_add(1, Ordering::Relaxed);
            }
        });
        Self {
            ticks,
            _ticking: ticking,
        }
    }

    /// Since the start; at most what the wall clock says.
    pub(crate) fn elapsed(&self) -> Duration {
        Self::TICK * self.ticks.load(Ordering::Relaxed)
    }
}

/// Fresh servers, `hubbub admin init` done.
pub(crate) struct World {
    pub(crate) env: TestEnv,
    pub(crate) log: hubbub_log::Config,
    /// The databases directly.
    pub(crate) store: Store,
    /// Between the pods and the core database.
    pub(crate) core: Proxy,
}

/// Somebody with a token.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    pub(crate) user: User,
    pub(crate) token: String,
}

impl Caller {
    pub(crate) fn id(&self) -> UserId {
        self.user.id
    }
}

/// A token of `subject` that expires in `ttl_s` seconds.
pub(crate) fn token_of(subject: &str, device: Option<&str>, ttl_s: i64) -> String {
    let now_s = wall_clock_ms() / 1_000;
    token::mint(SECRET, "hubbub", "hubbub", subject, device, now_s, ttl_s).expect("a token")
}

impl Caller {
    /// The same user on a device of this name.
    pub(crate) fn on(&self, device: &str) -> Self {
        let token = token_of(&self.user.name, Some(device), 3_600);
        Self {
            user: self.user.clone(),
            token,
        }
    }
}

/// Tries until `check` gives something, at most [`LONG`].
pub(crate) async fn eventually<T, F: Future<Output = Option<T>>>(
    what: &str,
    mut check: impl FnMut() -> F,
) -> anyhow::Result<T> {
    let deadline = Instant::now() + LONG;
    loop {
        if let Some(found) = check().await {
            return Ok(found);
        }
        anyhow::ensure!(Instant::now() < deadline, "not within {LONG:?}: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

impl World {
    pub(crate) async fn new(name: &str) -> anyhow::Result<Self> {
        let env = TestEnv::new(name).await?;
        let log = hubbub_log::Config {
            brokers: env.kafka_brokers.clone(),
            topic: env.topic.clone(),
            partitions: PARTITIONS,
            base: 0,
            client_id: "test".to_owned(),
        };
        hubbub_log::create_topic(&log, 1).await?;
        hubbub_log::create_topic(&log.marks(), 1).await?;
        let facts = hubbub_log::topic_facts(&log).await?;
        let identity = LogIdentity {
            cluster_id: facts.cluster_id,
            topic: env.topic.clone(),
            partitions: PARTITIONS,
            base: 0,
        };
        let databases = hubbub_store::Config {
            core_url: env.core_url.clone(),
            shard_urls: env.shard_urls.clone(),
            core_connections: 2,
            shard_connections: 1,
        };
        hubbub_store::init(&databases, &identity).await?;
        let store = Store::open(&databases, &hubbub_store::Metrics::default()).await?;
        let core = Proxy::start(env.postgres_addr())?;
        std::fs::write(env.dir().join("secret"), SECRET)?;
        Ok(Self {
            env,
            log,
            store,
            core,
        })
    }

    /// A pod with these flags beside the usual ones.
    pub(crate) fn config(&self, flags: &[&str]) -> anyhow::Result<Config> {
        let program = "hubbub-edge-server".to_owned();
        let all = [program].into_iter().chain(self.flags(flags));
        Ok(Config::try_parse_from(all)?)
    }

    /// The usual flags and these; a flag of the test's takes the usual one's place.
    pub(crate) fn flags(&self, flags: &[&str]) -> Vec<String> {
        let secret = self.env.dir().join("secret");
        let (postgres, core) = (
            self.env.postgres_addr().to_string(),
            self.core.addr().to_string(),
        );
        let usual = [
            "--listen=127.0.0.1:0".to_owned(),
            "--ops-addr=127.0.0.1:0".to_owned(),
            format!("--redis-url={}", self.env.redis_url),
            format!("--kafka-brokers={}", self.env.kafka_brokers),
            format!("--topic={}", self.env.topic),
            format!(
                "--core-database-url={}",
                self.env.core_url.replace(&postgres, &core)
            ),
            format!("--shard-database-urls={}", self.env.shard_list()),
            format!("--jwt-secret-file={}", secret.display()),
            format!("--allowed-origins={ORIGIN}"),
            "--max-connections=100".to_owned(),
            "--drain-delay-ms=50".to_owned(),
            "--send-rate=100000".to_owned(),
            "--send-burst=100000".to_owned(),
            "--frame-rate=100000".to_owned(),
            "--frame-burst=100000".to_owned(),
        ];
        let name = |flag: &str| flag.split('=').next().map(str::to_owned);
        let taken = |flag: &String| flags.iter().any(|own| name(own) == name(flag));
        let usual = usual.into_iter().filter(|flag| !taken(flag));
        let own = flags.iter().map(|flag| (*flag).to_owned());
        usual.chain(own).collect()
    }

    /// A running pod.
    pub(crate) async fn pod(&self, name: &str, flags: &[&str]) -> anyhow::Result<RunningPod> {
        let id = format!("--pod-id={name}");
        let flags: Vec<&str> = flags.iter().copied().chain([id.as_str()]).collect();
        let lifecycle = Lifecycle::new();
        let pod = Pod::bind(self.config(&flags)?, &lifecycle).await?;
        let running = RunningPod {
            id: pod.pod_id().clone(),
            addr: pod.addr(),
            ops: format!("http://{}", pod.ops_addr()),
            lifecycle: lifecycle.clone(),
        };
        pod.run(&lifecycle).await;
        Ok(running)
    }

    /// A user with a token.
    pub(crate) async fn caller(&self, name: &str) -> anyhow::Result<Caller> {
        let user = self.store.provision_user(name, name).await?;
        let token = token_of(name, None, 3_600);
        Ok(Caller { user, token })
    }

    /// A private channel of these users, made in the database alone.
    pub(crate) async fn channel(&self, members: &[&Caller]) -> anyhow::Result<ChannelId> {
        let name = Uuid::from_u128(rand::random()).to_string();
        let owner = members.first().context("a channel has an owner")?;
        let kind = ChannelKind::Private;
        let channel = self.store.create_channel(&name, kind, owner.id()).await?;
        for member in &members[1..] {
            self.store
                .add_member(channel.id, member.id(), Role::Member)
                .await?;
        }
        Ok(channel.id)
    }

    /// Appends a message as a pod does that dies before its publish.
    pub(crate) async fn append(
        &self,
        channel: ChannelId,
        user: UserId,
        text: &str,
    ) -> anyhow::Result<Seq> {
        let on_report = |asked: oneshot::Sender<Report>, report| {
            asked.send(report).ok();
        };
        let appender = Appender::start(&self.log, &hubbub_log::Metrics::default(), on_report)?;
        appender.warm_up().await?;
        let id = MessageId(Uuid::from_u128(rand::random()));
        let record = Record::message(channel, user, id, text.to_owned());
        let (asked, report) = oneshot::channel();
        let taken = appender.append(channel, record.encode(), asked);
        anyhow::ensure!(taken.is_ok(), "no room in the queue");
        let report = timeout(LONG, report).await??;
        // It joins its thread: on this one the pods would stand still meanwhile.
        spawn_blocking(move || drop(appender)).await?;
        match report {
            Report::Appended(appended) => Ok(appended.seq),
            other => anyhow::bail!("not appended: {other:?}"),
        }
    }

    /// The marks that the log holds of a channel, in order.
    pub(crate) async fn marked(&self, channel: ChannelId) -> anyhow::Result<Vec<Receipt>> {
        let mut found = Vec::new();
        for (_, record) in hubbub_log::read_all(&self.log.marks()).await? {
            let MarkRecord(mark) = MarkRecord::decode(&record.payload.unwrap_or_default())?;
            if mark.channel == channel {
                found.push(mark);
            }
        }
        Ok(found)
    }

    /// What the log holds of a channel, in order.
    pub(crate) async fn logged(&self, channel: ChannelId) -> anyhow::Result<Vec<(Seq, Record)>> {
        let mut found = Vec::new();
        for (_, record) in hubbub_log::read_all(&self.log).await? {
            let payload = record.payload.unwrap_or_default();
            let read = Record::decode(&payload).map_err(|e| anyhow::anyhow!("{e}"))?;
            if read.channel() == channel {
                found.push((record.seq, read));
            }
        }
        Ok(found)
    }

    /// The consumer's part: stores what the log holds, and gives what is to be announced.
    pub(crate) async fn store_log(&self) -> anyhow::Result<Vec<Stored>> {
        self.store(self.read_log().await?).await
    }

    /// The first half of [`Self::store_log`]: reading takes long, and storing does not.
    pub(crate) async fn read_log(&self) -> anyhow::Result<Batches> {
        let mut batches = Batches::new();
        for (partition, record) in hubbub_log::read_all(&self.log).await? {
            let payload = record.payload.unwrap_or_default();
            let read = Record::decode(&payload).map_err(|e| anyhow::anyhow!("{e}"))?;
            let (next, batch) = batches.entry(partition).or_default();
            *next = record.next_offset;
            batch.push(Incoming::Row(NewRow::read(record.seq, record.ts_ms, read)));
        }
        Ok(batches)
    }

    /// The second half: stores what is not stored yet.
    pub(crate) async fn store(&self, batches: Batches) -> anyhow::Result<Vec<Stored>> {
        let mut stored = Vec::new();
        for (partition, (next, mut batch)) in batches {
            let position = self.store.positions(&[partition]).await?[0].1;
            batch.retain(|incoming| incoming.seq().to_db() > position);
            if batch.is_empty() {
                continue;
            }
            let written = self
                .store
                .write_batch(partition, position, next, &batch, || {})
                .await?;
            stored.extend(written.touched.into_iter().map(|touched| Stored {
                channel: touched.channel,
                from: touched.from,
                through: touched.through,
                seqs: Some(touched.seqs),
            }));
        }
        Ok(stored)
    }

    /// How many connections subscribe a channel.
    pub(crate) async fn subscribers(&self, channel: ChannelId) -> anyhow::Result<u64> {
        self.subscribers_of(&BusChannel::Channel(channel)).await
    }

    /// How many connections subscribe a channel of the bus.
    pub(crate) async fn subscribers_of(&self, channel: &BusChannel) -> anyhow::Result<u64> {
        let name = channel.to_string();
        let mut inspect = Inspect::connect(&self.env.redis_url).await?;
        Ok(inspect.numsub(&[name]).await?[0].1)
    }

    /// Waits until so many connections subscribe `user-<id>`: each pod that has a socket of theirs.
    pub(crate) async fn until_followed(&self, user: UserId, pods: u64) -> anyhow::Result<()> {
        eventually("user-<id> is followed", async || {
            let followed = self.subscribers_of(&BusChannel::User(user)).await.ok()?;
            (followed == pods).then_some(())
        })
        .await
    }
}

/// A pod in this process; stopped at once when dropped.
pub(crate) struct RunningPod {
    pub(crate) id: PodId,
    pub(crate) addr: SocketAddr,
    pub(crate) ops: String,
    pub(crate) lifecycle: Lifecycle,
}

impl RunningPod {
    /// The debug page.
    pub(crate) async fn state(&self) -> anyhow::Result<Value> {
        let page = reqwest::get(format!("{}/debug/state", self.ops)).await?;
        Ok(page.json().await?)
    }

    /// Waits until the pod has so many sockets.
    pub(crate) async fn until_sockets(&self, count: u64) -> anyhow::Result<()> {
        eventually(&format!("{count} sockets"), async || {
            let state = self.state().await.ok()?;
            (state["sockets"] == count).then_some(())
        })
        .await
    }

    /// Waits until nothing of any channel is held, or everything is.
    pub(crate) async fn until_held(&self, held: bool) -> anyhow::Result<()> {
        eventually(&format!("held: {held}"), async || {
            let state = self.state().await.ok()?;
            let feeds = state["feeds"].as_object()?;
            feeds
                .values()
                .all(|feed| feed["held"] == held)
                .then_some(())
        })
        .await
    }

    /// The value of a metric, labels included in its name; 0 if it is not there.
    pub(crate) async fn metric(&self, name: &str) -> anyhow::Result<f64> {
        let page = reqwest::get(format!("{}/metrics", self.ops)).await?;
        let text = page.text().await?;
        let value = text
            .lines()
            .find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
        Ok(value.unwrap_or(0.0))
    }
}

impl Drop for RunningPod {
    fn drop(&mut self) {
        self.lifecycle.stop_now();
    }
}

/// This test as a process on the bus.
pub(crate) struct OnBus {
    pub(crate) me: PodId,
    pub(crate) publisher: Publisher,
    pub(crate) inbox: Inbox,
    _subscriber: Subscriber,
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

impl OnBus {
    pub(crate) async fn start(world: &World) -> anyhow::Result<Self> {
        Self::named(world, "tester").await
    }

    /// Under a name of its own, and subscribed to what is sent to it.
    pub(crate) async fn named(world: &World, name: &str) -> anyhow::Result<Self> {
        let me: PodId = name.parse()?;
        let config = hubbub_bus::Config::new(&world.env.redis_url, me.clone());
        let metrics = hubbub_bus::Metrics::default();
        let (publisher, publishing) = Publisher::new(&config, &metrics);
        let (subscriber, mut inbox, subscribing) = Subscriber::new(&config, &metrics);
        let (stop, mut tasks) = (CancellationToken::new(), JoinSet::new());
        let (one, two) = (stop.clone(), stop.clone());
        tasks.spawn(async move { publishing.run(one).await.expect("publishes") });
        tasks.spawn(async move { subscribing.run(two).await.expect("subscribes") });
        let own = BusChannel::Pod(me.clone());
        subscriber.subscribe(own.clone());
        let mut events = Vec::new();
        while !events.contains(&Event::Subscribed(own.clone())) {
            timeout(LONG, inbox.recv_all(&mut events)).await?;
        }
        Ok(Self {
            me,
            publisher,
            inbox,
            _subscriber: subscriber,
            stop,
            tasks,
        })
    }

    /// What an API server has.
    pub(crate) async fn chat(&mut self, world: &World) -> anyhow::Result<Chat> {
        let (chat, task) = Chat::start(
            hubbub_chat::Config::default(),
            &world.log,
            &hubbub_log::Metrics::default(),
            &hubbub_chat::Metrics::default(),
            world.store.clone(),
            self.publisher.clone(),
        )?;
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            let Ok(()) = task.run(stop).await;
        });
        chat.warm_up().await?;
        Ok(chat)
    }

    /// Asks all pods to evict; the answer of the one pod that there is.
    pub(crate) async fn evict(&mut self, channel: ChannelId, user: UserId) -> anyhow::Result<u64> {
        let request = Uuid::from_u128(rand::random());
        let ask = PodMessage::Ask {
            request,
            reply_to: self.me.clone(),
            question: Question::Evict { channel, user },
        };
        self.publisher
            .publish(&BusChannel::Pods, Bytes::from(ask.encode()))
            .await?;
        let mut events = Vec::new();
        loop {
            timeout(LONG, self.inbox.recv_all(&mut events)).await?;
            for event in events.drain(..) {
                let Event::Message { payload, .. } = event else {
                    continue;
                };
                if let PodMessage::Reply {
                    request: answered,
                    answer: Answer::Evicted { sockets },
                    ..
                } = serde_json::from_slice(&payload)?
                    && answered == request
                {
                    return Ok(sockets);
                }
            }
        }
    }

    /// Tells the devices of a user something.
    pub(crate) async fn tell(&self, user: UserId, event: UserEvent) -> anyhow::Result<()> {
        let to = BusChannel::User(user);
        self.publisher.publish(&to, event.encode().into()).await?;
        Ok(())
    }

    /// Publishes an event of a channel.
    pub(crate) async fn say(&self, channel: ChannelId, frame: &str) -> anyhow::Result<()> {
        let to = BusChannel::Channel(channel);
        let payload = Bytes::copy_from_slice(frame.as_bytes());
        self.publisher.publish(&to, payload).await?;
        Ok(())
    }

    /// Announces what was stored.
    pub(crate) async fn announce(&self, stored: &[Stored]) -> anyhow::Result<()> {
        for one in stored {
            let to = BusChannel::Channel(one.channel);
            self.publisher
                .publish(&to, Bytes::from(one.encode()))
                .await?;
        }
        Ok(())
    }
}

impl Drop for OnBus {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}
