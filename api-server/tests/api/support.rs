use std::{collections::BTreeMap, sync::Arc, time::Duration};

use anyhow::Context;
use clap::Parser;
use hubbub_api_server::{Api, Config, StartError};
use hubbub_bus::{Event, Inbox, Publisher, Subscriber};
use hubbub_log::LogRecord;
use hubbub_protocol::{
    BusChannel, ChannelId, ErrorBody, ErrorReply, MarkRecord, MessageId, PodId, Record, Seq,
    UserId,
    http::{Channel, ChannelKind, Role, User},
    partition_of,
};
use hubbub_service::{Lifecycle, token, wall_clock_ms};
use hubbub_stack::{Proxy, TestEnv};
use hubbub_store::{Incoming, LogIdentity, NewRow, Store};
use reqwest::{Method, Response};
use serde_json::Value;
use tokio::{
    task::JoinSet,
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

const PARTITIONS: u32 = 8;
const SECRET: &[u8] = b"a secret of the tests with more than 32 bytes";
pub(crate) const ORIGIN: &str = "https://chat.example.com";
/// Longer than anything a test waits for.
pub(crate) const LONG: Duration = Duration::from_secs(20);

/// Fresh servers, `hubbub admin init` done, and one API server in this process.
pub(crate) struct World {
    pub(crate) env: TestEnv,
    pub(crate) log: hubbub_log::Config,
    /// The databases directly, without proxies.
    pub(crate) store: Store,
    pub(crate) core: Proxy,
    pub(crate) shards: Vec<Proxy>,
    pub(crate) lifecycle: Lifecycle,
    pub(crate) api: String,
    pub(crate) ops: String,
    pub(crate) running: JoinSet<Result<(), StartError>>,
    http: reqwest::Client,
    document: Arc<Value>,
}

/// One caller.
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

pub(crate) fn token_of(subject: &str, ttl_s: i64) -> String {
    let now_s = wall_clock_ms() / 1_000;
    token::mint(SECRET, "hubbub", "hubbub", subject, None, now_s, ttl_s).expect("a token")
}

/// A process of this test on the bus.
pub(crate) struct OnBus {
    pub(crate) publisher: Publisher,
    /// What is subscribed stays so as long as this is here.
    pub(crate) subscriber: Subscriber,
    pub(crate) inbox: Inbox,
    pub(crate) stop: CancellationToken,
    /// They serve the connections.
    pub(crate) tasks: JoinSet<()>,
}

impl OnBus {
    /// Hears what is sent to `wanted` from here on.
    pub(crate) async fn start(
        world: &World,
        me: PodId,
        mut wanted: Vec<BusChannel>,
    ) -> anyhow::Result<Self> {
        let config = hubbub_bus::Config::new(&world.env.redis_url, me);
        let metrics = hubbub_bus::Metrics::default();
        let (publisher, publishing) = Publisher::new(&config, &metrics);
        let (subscriber, mut inbox, subscribing) = Subscriber::new(&config, &metrics);
        let (stop, mut tasks) = (CancellationToken::new(), JoinSet::new());
        let (one, two) = (stop.clone(), stop.clone());
        tasks.spawn(async move { publishing.run(one).await.expect("publishes") });
        tasks.spawn(async move { subscribing.run(two).await.expect("subscribes") });
        for name in &wanted {
            subscriber.subscribe(name.clone());
        }
        let mut events = Vec::new();
        while !wanted.is_empty() {
            timeout(LONG, inbox.recv_all(&mut events)).await?;
            wanted.retain(|name| !events.contains(&Event::Subscribed(name.clone())));
        }
        Ok(Self {
            publisher,
            subscriber,
            inbox,
            stop,
            tasks,
        })
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
        Self::with(name, &[]).await
    }

    /// With more flags for the server.
    pub(crate) async fn with(name: &str, flags: &[&str]) -> anyhow::Result<Self> {
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
            core_connections: 4,
            shard_connections: 2,
        };
        hubbub_store::init(&databases, &identity).await?;
        let store = Store::open(&databases, &hubbub_store::Metrics::default()).await?;

        let core = Proxy::start(env.postgres_addr())?;
        let (mut shards, mut shard_urls) = (Vec::new(), Vec::new());
        for url in &env.shard_urls {
            let proxy = Proxy::start(env.postgres_addr())?;
            shard_urls.push(through(url, &env, &proxy));
            shards.push(proxy);
        }
        let secret = env.dir().join("secret");
        std::fs::write(&secret, SECRET)?;
        let secret = secret.to_str().context("a path of the test is UTF-8")?;
        let (core_url, shard_urls) = (through(&env.core_url, &env, &core), shard_urls.join(","));
        let base = [
            "hubbub-api-server",
            "--listen=127.0.0.1:0",
            "--ops-addr=127.0.0.1:0",
            "--redis-url",
            &env.redis_url,
            "--kafka-brokers",
            &env.kafka_brokers,
            "--topic",
            &env.topic,
            "--core-database-url",
            &core_url,
            "--shard-database-urls",
            &shard_urls,
            "--jwt-secret-file",
            secret,
            "--allowed-origins",
            ORIGIN,
            "--history-rate=100000",
            "--history-burst=100000",
            "--request-rate=100000",
            "--request-burst=100000",
            "--drain-delay-ms=50",
        ];
        // A test's own flags take the place of these.
        let taken = |flag: &str| {
            let name = flag.split('=').next();
            flag.contains('=') && flags.iter().any(|own| own.split('=').next() == name)
        };
        let base = base.into_iter().filter(|flag| !taken(flag));
        let config = Config::try_parse_from(base.chain(flags.iter().copied()))?;
        let bound = Api::bind(config, Ok(())).await?;
        let (api, ops) = (
            format!("http://{}", bound.addr()),
            format!("http://{}", bound.ops_addr()),
        );
        let readiness = bound.readiness();
        let lifecycle = Lifecycle::new();
        let mut running = JoinSet::new();
        running.spawn(bound.run(lifecycle.clone()));
        let ready = readiness.clone();
        // Waits for the server to be ready, or to fail.
        tokio::select! {
            ended = running.join_next() => anyhow::bail!("the server ended: {ended:?}"),
            ready = eventually("ready", || async { ready.is_ready().then_some(()) }) => ready?,
        }
        let http = reqwest::Client::builder().timeout(LONG).build()?;
        let document = http.get(format!("{api}/openapi.json")).send().await?;
        let document = Arc::new(document.json().await?);
        Ok(Self {
            env,
            log,
            store,
            core,
            shards,
            lifecycle,
            api,
            ops,
            running,
            http,
            document,
        })
    }

    /// A user with a token.
    pub(crate) async fn caller(&self, name: &str) -> anyhow::Result<Caller> {
        let user = self.store.provision_user(name, name).await?;
        let token = token_of(name, 3_600);
        Ok(Caller { user, token })
    }

    /// A channel that `owner` is the admin of, with members, made in the database alone.
    pub(crate) async fn channel(
        &self,
        kind: ChannelKind,
        owner: &Caller,
        members: &[&Caller],
    ) -> anyhow::Result<Channel> {
        let name = Uuid::from_u128(rand::random()).to_string();
        let channel = self.store.create_channel(&name, kind, owner.id()).await?;
        for member in members {
            self.store
                .add_member(channel.id, member.id(), Role::Member)
                .await?;
        }
        Ok(channel)
    }

    /// A request that is yet to be sent.
    pub(crate) fn request(
        &self,
        method: Method,
        path: &str,
        caller: Option<&Caller>,
    ) -> reqwest::RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.api));
        match caller {
            Some(caller) => request.bearer_auth(&caller.token),
            None => request,
        }
    }

    /// Sends, checks that the answer is one that the document names, and gives status and body.
    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        caller: Option<&Caller>,
        body: Option<&Value>,
    ) -> anyhow::Result<(u16, Value)> {
        let mut request = self.request(method.clone(), path, caller);
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request.send().await?;
        let status = response.status().as_u16();
        assert_eq!(response.headers()["x-content-type-options"], "nosniff");
        assert_eq!(response.headers()["content-type"], "application/json");
        let body: Value = response.json().await?;
        self.assert_documented(&method, path, status, &body);
        Ok((status, body))
    }

    pub(crate) async fn get(&self, path: &str, caller: &Caller) -> anyhow::Result<(u16, Value)> {
        self.send(Method::GET, path, Some(caller), None).await
    }

    fn assert_documented(&self, method: &Method, path: &str, status: u16, body: &Value) {
        let path = path.split('?').next().unwrap_or_default();
        let paths = self.document["paths"].as_object().expect("paths");
        // `/users/me` comes before `/users/{user}`.
        let exact = paths.get(path);
        let item = exact.or_else(|| {
            let fits = |template: &str| {
                let (template, path) = (template.split('/'), path.split('/'));
                template.clone().count() == path.clone().count()
                    && template
                        .zip(path)
                        .all(|(t, p)| t == p || t.starts_with('{'))
            };
            paths.iter().find(|(t, _)| fits(t)).map(|(_, item)| item)
        });
        let Some(operation) = item.and_then(|item| item.get(method.as_str().to_lowercase())) else {
            assert!(status == 404 || status == 405, "{method} {path}: {status}");
            return;
        };
        let documented = &operation["responses"][status.to_string()];
        assert!(documented.is_object(), "{method} {path}: {status} {body}");
        if status >= 400 {
            let schema = &documented["content"]["application/json"]["schema"];
            let codes = schema["properties"]["error"]["properties"]["code"]["enum"]
                .as_array()
                .expect("codes");
            assert!(
                codes.contains(&body["error"]["code"]),
                "{method} {path}: {body} is none of {codes:?}"
            );
        }
    }

    /// Stores what the log has of records and marks and the store has not, as a consumer does.
    pub(crate) async fn consume(&self) -> anyhow::Result<()> {
        let mut by_partition: BTreeMap<i32, Vec<LogRecord>> = BTreeMap::new();
        for (partition, logged) in hubbub_log::read_all(&self.log).await? {
            by_partition.entry(partition).or_default().push(logged);
        }
        for (partition, records) in by_partition {
            let position = self.store.positions(&[partition]).await?[0].1;
            let new: Vec<_> = records
                .iter()
                .filter(|logged| logged.next_offset > position)
                .collect();
            let Some(last) = new.last() else { continue };
            let row = |logged: &&LogRecord| -> anyhow::Result<Incoming> {
                let payload = logged.payload.as_deref().context("a payload")?;
                let record = Record::decode(payload)?;
                Ok(Incoming::Row(NewRow::read(
                    logged.seq,
                    logged.ts_ms,
                    record,
                )))
            };
            let batch: Vec<_> = new.iter().map(row).collect::<anyhow::Result<_>>()?;
            self.store
                .write_batch(partition, position, last.next_offset, &batch, || {})
                .await?;
        }
        for (partition, logged) in hubbub_log::read_all(&self.log.marks()).await? {
            let payload = logged.payload.as_deref().context("a payload")?;
            let MarkRecord(mark) = MarkRecord::decode(payload)?;
            self.store
                .write_marks(partition, logged.next_offset, &[mark])
                .await?;
        }
        Ok(())
    }

    /// Says something through the API and stores it; its seq.
    pub(crate) async fn say(
        &self,
        channel: ChannelId,
        who: &Caller,
        body: &Value,
    ) -> anyhow::Result<u64> {
        let path = format!("/channels/{channel}/messages");
        let (status, reply) = self
            .send(Method::POST, &path, Some(who), Some(body))
            .await?;
        anyhow::ensure!(status == 201, "{reply}");
        self.consume().await?;
        reply["seq"].as_u64().context("a seq")
    }

    /// Stores `count` messages in a channel, as the consumer does, and gives their seqs. Every
    /// third record of the partition is of another channel, so the seqs have holes.
    pub(crate) async fn store_messages(
        &self,
        channel: ChannelId,
        sender: &Caller,
        count: u64,
    ) -> anyhow::Result<Vec<Seq>> {
        let partition = partition_of(channel, PARTITIONS);
        let position = self.store.positions(&[partition]).await?[0].1;
        let first = u64::try_from(position)? + 1;
        let mut seqs = Vec::new();
        let mut batch = Vec::new();
        let mut seq = first;
        while (seqs.len() as u64) < count {
            if seq % 3 == 0 {
                batch.push(Incoming::Dead {
                    seq: Seq(seq),
                    channel: None,
                    payload: None,
                    key: None,
                    ts_ms: 0,
                    error: "a record of no channel".to_owned(),
                });
            } else {
                seqs.push(Seq(seq));
                batch.push(Incoming::Row(row(Seq(seq), channel, sender.id())));
            }
            seq += 1;
        }
        let next = Seq(seq - 1).to_db();
        self.store
            .write_batch(partition, position, next, &batch, || {})
            .await?;
        Ok(seqs)
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.lifecycle.stop_now();
    }
}

/// The URL of a database through a proxy.
pub(crate) fn through(url: &str, env: &TestEnv, proxy: &Proxy) -> String {
    url.replace(&env.postgres_addr().to_string(), &proxy.addr().to_string())
}

fn row(seq: Seq, channel: ChannelId, user: UserId) -> NewRow {
    let id = MessageId(Uuid::from_u128(rand::random()));
    let record = Record::message(channel, user, id, format!("number {seq} \u{1F600} \"q\""));
    NewRow::read(seq, 1_700_000_000_000 + seq.to_db(), record)
}

/// The error object of a body.
pub(crate) fn error(body: &Value) -> ErrorBody {
    serde_json::from_value::<ErrorReply>(body.clone())
        .unwrap_or_else(|_| panic!("no error: {body}"))
        .error
}

pub(crate) async fn text(response: Response) -> String {
    response.text().await.expect("a body")
}
