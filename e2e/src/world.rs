use std::{future::Future, net::SocketAddr, time::Duration};

use anyhow::{Context, bail, ensure};
use hubbub_client::{Http, HttpError, Page, TokenSource, Who};
use hubbub_protocol::{
    ChannelId, MessageId, Seq, UserId,
    http::{ChannelKind, Entry, NewChannel},
};
use hubbub_stack::{Options, Stack};
use hubbub_store::{AdminStatus, Store};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::{Semaphore, SemaphorePermit},
    time::{Instant, sleep, timeout},
};

use crate::Device;

/// One system at a time.
static TURN: Semaphore = Semaphore::const_new(1);
/// What every condition is given, unless a promise is tighter.
const PATIENCE: Duration = Duration::from_secs(30);
/// What a busy machine is given on top of what is promised: the promise is the product's, and two
/// cores that run all of its parts and the test take their turns.
pub const MARGIN: Duration = Duration::from_secs(2);
/// Between two looks at something that announces nothing.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Waits until `holds` says so, at most 30 s.
pub async fn eventually<F: Future<Output = anyhow::Result<bool>>>(
    what: &str,
    holds: impl Fn() -> F,
) -> anyhow::Result<()> {
    let begun = Instant::now();
    loop {
        if holds().await? {
            return Ok(());
        }
        ensure!(
            begun.elapsed() < PATIENCE,
            "{what} did not happen within {PATIENCE:?}"
        );
        sleep(LOOK_AGAIN).await;
    }
}

/// A whole system of one test.
#[derive(Debug)]
pub struct World {
    /// Its processes.
    pub stack: Stack,
    store: Store,
    secret: Vec<u8>,
    _turn: SemaphorePermit<'static>,
}

impl World {
    /// The seeded users.
    pub const USERS: [&str; 10] = hubbub_protocol::EXAMPLE_USERS;

    /// Starts a system with its own Redis, Postgres clusters and HAProxy, and the Kafka that all
    /// tests share. Limits on rates are lifted: they have tests of their own.
    pub async fn start(name: &str, edges: usize, consumers: usize) -> anyhow::Result<Self> {
        let turn = TURN.acquire().await?;
        let options = Options::for_test()?.with_shared_kafka().await?;
        Self::with_options(name, turn, options, edges, consumers).await
    }

    /// As [`Self::start`], with a Kafka of its own that can be stopped.
    pub async fn start_with_kafka(
        name: &str,
        edges: usize,
        consumers: usize,
    ) -> anyhow::Result<Self> {
        let turn = TURN.acquire().await?;
        Self::with_options(name, turn, Options::for_test()?, edges, consumers).await
    }

    async fn with_options(
        name: &str,
        turn: SemaphorePermit<'static>,
        mut options: Options,
        edges: usize,
        consumers: usize,
    ) -> anyhow::Result<Self> {
        options.edges = edges;
        options.consumers = consumers;
        for (key, value) in [
            ("HUBBUB_SEND_RATE", "100000"),
            ("HUBBUB_SEND_BURST", "100000"),
            ("HUBBUB_FRAME_RATE", "100000"),
            ("HUBBUB_FRAME_BURST", "100000"),
            ("HUBBUB_HISTORY_RATE", "100000"),
            ("HUBBUB_HISTORY_BURST", "100000"),
            ("HUBBUB_SESSION_TIMEOUT_MS", "3000"),
            ("HUBBUB_HEARTBEAT_MS", "1000"),
            ("HUBBUB_REQUEST_RATE", "100000"),
            ("HUBBUB_REQUEST_BURST", "100000"),
            ("HUBBUB_DRAIN_DELAY_MS", "100"),
            // The page's tests sign in by it; no other test asks.
            ("HUBBUB_DEV_SIGN_IN", "true"),
        ] {
            options.env.push((key.to_owned(), value.to_owned()));
        }
        let stack = Stack::start(options)
            .await
            .with_context(|| format!("start {name}"))?;
        let at = stack.endpoints();
        let store = Store::open(
            &hubbub_store::Config {
                core_url: at.core_url.clone(),
                shard_urls: at.shard_urls.clone(),
                core_connections: 2,
                shard_connections: 2,
            },
            &hubbub_store::Metrics::default(),
        )
        .await?;
        let secret = std::fs::read(stack.token_secret_path())?;
        Ok(Self {
            stack,
            store,
            secret,
            _turn: turn,
        })
    }

    /// A token of a user, for an hour.
    pub fn token(&self, user: &str) -> anyhow::Result<String> {
        let now_s = hubbub_service::wall_clock_ms() / 1_000;
        hubbub_service::token::mint(&self.secret, "hubbub", "hubbub", user, None, now_s, 3_600)
    }

    /// A device that connects through HAProxy.
    pub async fn device(&self, user: &str) -> anyhow::Result<Device> {
        Device::connect(&self.stack.ws_url(), self.token(user)?).await
    }

    /// A device that connects to one edge, past HAProxy.
    pub async fn device_on(&self, user: &str, edge: usize) -> anyhow::Result<Device> {
        self.device_at(user, self.stack.edge(edge).addr()).await
    }

    /// A device that connects to an address: a fault proxy's.
    pub async fn device_at(&self, user: &str, addr: SocketAddr) -> anyhow::Result<Device> {
        Device::connect(&format!("ws://{addr}/ws"), self.token(user)?).await
    }

    /// A device that HAProxy gave this edge: it will come back through another one. An edge that has
    /// just started gets few at first (`slowstart`), and none before its first check.
    pub async fn device_through_front_on(&self, user: &str, edge: usize) -> anyhow::Result<Device> {
        let pod = self.stack.edge(edge).name();
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            let device = self.device(user).await?;
            if device.pod() == pod {
                return Ok(device);
            }
            device.client.close().await;
        }
        bail!("HAProxy did not choose {pod} within {PATIENCE:?}");
    }

    /// The HTTP API through HAProxy.
    pub fn http(&self, user: &str) -> anyhow::Result<Http> {
        Ok(Http::new(
            &self.stack.front_url(),
            TokenSource::Fixed(self.token(user)?),
        )?)
    }

    /// The HTTP API of one API server.
    pub fn http_at(&self, user: &str, api: usize) -> anyhow::Result<Http> {
        let base = format!("http://{}", self.stack.api(api).addr());
        Ok(Http::new(&base, TokenSource::Fixed(self.token(user)?))?)
    }

    /// A seeded channel.
    pub async fn channel(&self, name: &str) -> anyhow::Result<ChannelId> {
        let channel = self.http("John")?.channel_by_name(name).await?;
        Ok(channel.with_context(|| format!("no channel {name}"))?.id)
    }

    /// A new public channel with all seeded users as members.
    pub async fn open_channel(&self, name: &str) -> anyhow::Result<ChannelId> {
        let new = NewChannel {
            name: name.to_owned(),
            kind: Some(ChannelKind::Public),
        };
        let channel = self.http("John")?.create_channel(&new).await?;
        for user in &Self::USERS[1..] {
            self.http(user)?.add_member(channel.id, Who::Me).await?;
        }
        Ok(channel.id)
    }

    /// The body for a new private channel.
    pub fn new_private(name: &str) -> NewChannel {
        NewChannel {
            name: name.to_owned(),
            kind: Some(ChannelKind::Private),
        }
    }

    /// The id of a seeded user.
    pub async fn user(&self, name: &str) -> anyhow::Result<UserId> {
        Ok(self.http(name)?.me().await?.id)
    }

    /// Repeats a call that the API refuses for now.
    pub async fn patient<T, F: Future<Output = Result<T, HttpError>>>(
        &self,
        call: impl Fn() -> F,
    ) -> anyhow::Result<T> {
        let begun = Instant::now();
        loop {
            match call().await {
                Err(error) if error.retryable() && begun.elapsed() < PATIENCE => {
                    sleep(LOOK_AGAIN).await;
                }
                result => return Ok(result?),
            }
        }
    }

    /// The newest page of a channel, read after the write of `seq` (as `at_least` does, which
    /// gives up after 2 s; a busy machine is given longer).
    pub async fn page_with(
        &self,
        http: &Http,
        channel: ChannelId,
        seq: Option<Seq>,
    ) -> anyhow::Result<Vec<Entry>> {
        let begun = Instant::now();
        loop {
            let page = Page {
                at_least: seq,
                ..Page::default()
            };
            let page = http.messages(channel, page).await?;
            if Some(page.head) >= seq {
                return Ok(page.messages);
            }
            ensure!(
                begun.elapsed() < PATIENCE,
                "the head stays at {} before {seq:?}",
                page.head
            );
        }
    }

    /// All of a channel's history, over HTTP.
    pub async fn history(&self, channel: ChannelId) -> anyhow::Result<Vec<Entry>> {
        let http = self.http("John")?;
        let mut all: Vec<Entry> = Vec::new();
        loop {
            let after = all.last().map_or(Seq::ZERO, |entry| entry.seq);
            let page = Page {
                after: Some(after),
                limit: Some(200),
                ..Page::default()
            };
            let page = self.patient(|| http.messages(channel, page)).await?;
            all.extend(page.messages);
            if !page.has_more {
                return Ok(all);
            }
        }
    }

    /// How the log is configured, for those who read or write it themselves.
    pub fn log(&self) -> hubbub_log::Config {
        let identity = self.store.log_identity();
        hubbub_log::Config {
            brokers: self.stack.endpoints().kafka_brokers.clone(),
            topic: identity.topic.clone(),
            partitions: identity.partitions,
            base: identity.base,
            client_id: "hubbub-e2e".to_owned(),
        }
    }

    /// Positions and counts of the store.
    pub async fn status(&self) -> anyhow::Result<AdminStatus> {
        Ok(self.store.admin_status().await?)
    }

    /// Waits until the consumers have processed everything that is in the log.
    pub async fn wait_caught_up(&self) -> anyhow::Result<()> {
        let high = self.ends().await?;
        eventually("the consumers catch up", || async {
            // A shard that has just come back answers the next time.
            let Ok(status) = self.status().await else {
                return Ok(false);
            };
            Ok(high.iter().enumerate().all(|(partition, high)| {
                let found = status
                    .partitions
                    .iter()
                    .find(|p| p.partition as usize == partition);
                found.map_or(0, |p| p.next_offset) >= *high
            }))
        })
        .await
    }

    /// Where the log's partitions end. One whose broker has just come back has no leader yet, and is
    /// asked again.
    async fn ends(&self) -> anyhow::Result<Vec<i64>> {
        let begun = Instant::now();
        loop {
            match hubbub_log::watermarks(&self.log()).await {
                Ok(marks) => return Ok(marks.iter().map(|mark| mark.high).collect()),
                Err(error) if begun.elapsed() >= PATIENCE => return Err(error.into()),
                Err(_) => sleep(LOOK_AGAIN).await,
            }
        }
    }

    /// Appends a payload that no edge would have appended.
    pub async fn append_raw(&self, channel: ChannelId, payload: &[u8]) -> anyhow::Result<()> {
        let (tell, told) = tokio::sync::oneshot::channel();
        let appender = hubbub_log::Appender::start(
            &self.log(),
            &hubbub_log::Metrics::default(),
            move |tell: tokio::sync::oneshot::Sender<hubbub_log::Report>, report| {
                tell.send(report).ok();
            },
        )?;
        if let Err((_, rejected)) = appender.append(channel, payload.to_vec(), tell) {
            bail!("append: {rejected}");
        }
        match timeout(PATIENCE, told).await?? {
            hubbub_log::Report::Appended(_) => Ok(()),
            other => bail!("append: {other:?}"),
        }
    }

    /// Sends a message as a resend is sent: appended, and not published.
    pub async fn resend_only(
        &self,
        user: &str,
        channel: ChannelId,
        text: &str,
    ) -> anyhow::Result<Seq> {
        let id = MessageId(uuid::Uuid::new_v4());
        let body = serde_json::json!({"text": text, "client_msg_id": id, "retry": true});
        let response = reqwest::Client::new()
            .post(format!(
                "{}/channels/{channel}/messages",
                self.stack.front_url()
            ))
            .bearer_auth(self.token(user)?)
            .json(&body)
            .send()
            .await?
            .error_for_status()?;
        let reply: hubbub_protocol::MessageReply = response.json().await?;
        ensure!(
            reply.seq.is_none(),
            "the reply to a resend has no seq: {reply:?}"
        );
        reply.fence.context("the reply to a resend has a fence")
    }

    /// Starts one more consumer, with an environment of its own. Its number is returned.
    pub async fn start_consumer(&mut self, env: &[(&str, &str)]) -> anyhow::Result<usize> {
        self.stack.add_consumer(env).await?;
        Ok(self.stack.consumers().len() - 1)
    }

    /// Restarts an edge with one more variable in its environment.
    pub async fn restart_edge_with(
        &self,
        edge: usize,
        key: &str,
        value: &str,
    ) -> anyhow::Result<()> {
        let edge = self.stack.edge(edge);
        edge.set_env(key, value);
        edge.restart().await
    }

    /// Answers of a Redis command, as text.
    pub async fn redis_command(&self, words: &[&str]) -> anyhow::Result<String> {
        let url = self.stack.endpoints().redis_url.clone();
        let addr = url.trim_start_matches("redis://").trim_end_matches('/');
        let mut tcp = TcpStream::connect(addr).await?;
        tcp.write_all(format!("{}\r\nQUIT\r\n", words.join(" ")).as_bytes())
            .await?;
        let mut answer = String::new();
        timeout(Duration::from_secs(5), tcp.read_to_string(&mut answer)).await??;
        Ok(answer)
    }

    /// Subscribers of a Redis channel.
    pub async fn numsub(&self, channel: &str) -> anyhow::Result<u64> {
        let answer = self.redis_command(&["PUBSUB", "NUMSUB", channel]).await?;
        let count = answer.lines().find_map(|line| line.strip_prefix(':'));
        Ok(count.context("no count in the answer")?.parse()?)
    }

    /// Redis channels with subscribers.
    pub async fn pubsub_channels(&self, pattern: &str) -> anyhow::Result<Vec<String>> {
        let answer = self.redis_command(&["PUBSUB", "CHANNELS", pattern]).await?;
        let names = answer
            .lines()
            .filter(|line| !line.starts_with(['*', '$', '+']));
        Ok(names.map(str::to_owned).collect())
    }

    /// A metric of a pod, 0 if it has not been counted yet. `series` is name and labels as on
    /// the metrics page.
    pub async fn metric(&self, pod: &str, series: &str) -> anyhow::Result<f64> {
        let edge = self.stack.edges().iter().find(|edge| edge.name() == pod);
        let addr = edge.with_context(|| format!("no pod {pod}"))?.ops_addr();
        let page = reqwest::get(format!("http://{addr}/metrics"))
            .await?
            .text()
            .await?;
        let line = page
            .lines()
            .find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        Ok(line.map(str::parse).transpose()?.unwrap_or(0.0))
    }

    /// Resident memory of an edge, in bytes.
    pub fn edge_rss(&self, edge: usize) -> anyhow::Result<u64> {
        let pid = self.stack.edge(edge).pid().context("the edge runs")?;
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.context("no VmRSS")?.trim().trim_end_matches(" kB");
        Ok(kib.parse::<u64>()? * 1_024)
    }

    /// The end of every test: the log is conserved to the unit (contract P12), nothing panicked,
    /// and every process that still runs ends in order.
    pub async fn finish(self) -> anyhow::Result<()> {
        self.wait_caught_up().await?;
        let marks = hubbub_log::watermarks(&self.log()).await?;
        let status = self.status().await?;
        for (partition, mark) in marks.iter().enumerate() {
            let found = status
                .partitions
                .iter()
                .find(|p| p.partition as usize == partition);
            let counted = found.map_or(0, |p| p.rows + p.duplicates + p.dead);
            ensure!(
                counted == mark.high - mark.low,
                "partition {partition} has {} records in the log and {found:?} in the store",
                mark.high - mark.low
            );
        }
        let ours = self
            .stack
            .edges()
            .iter()
            .chain(self.stack.apis())
            .chain(self.stack.consumers());
        for service in ours {
            let log = std::fs::read_to_string(service.log_path()).unwrap_or_default();
            if let Some(line) = log.lines().find(|line| line.contains("panicked")) {
                bail!("{}: {line}", service.name());
            }
        }
        self.stack.stop().await;
        Ok(())
    }
}
