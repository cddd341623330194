//! A running Hubbub with people and channels in it.

use crate::client::{Channels, Target};
use crate::machine::Cores;
use crate::process::{Whose, pin};
use anyhow::{Context, Result, ensure};
use hubbub_log::{Appender, Rejected, Report};
use hubbub_protocol::{ChannelId, ChannelLetter, MessageId, Record, UserId, partition_of};
use hubbub_stack::{Options, Ports, Server, Service, Stack};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

/// Tokens outlive every run.
const TOKEN_S: i64 = 6 * 3_600;
/// The log acknowledges what waits within this.
const APPENDED: Duration = Duration::from_secs(30);
/// Nothing announces to us that all is stored; the question is cheap.
const LOOK: Duration = Duration::from_millis(20);
/// For tens of thousands of records.
const STORED: Duration = Duration::from_secs(120);
/// Of the standard stack; a channel's is its partition modulo this.
const SHARDS: usize = 2;
/// The user who is in every channel.
const EVERYBODY: &str = "bench";
/// What an edge asks for at its start.
const EDGE_FILES: u64 = 10_200;
/// Limits of a single person: here one stands for many. And a thread for the one core that a server
/// has: it is given it when it runs, and would have counted all of the machine's before.
const ENV: [(&str, &str); 9] = [
    ("TOKIO_WORKER_THREADS", "1"),
    ("HUBBUB_SEND_RATE", "1000000"),
    ("HUBBUB_SEND_BURST", "1000000"),
    ("HUBBUB_FRAME_RATE", "1000000"),
    ("HUBBUB_FRAME_BURST", "1000000"),
    ("HUBBUB_HISTORY_RATE", "1000000"),
    ("HUBBUB_HISTORY_BURST", "1000000"),
    ("HUBBUB_REQUEST_RATE", "1000000"),
    ("HUBBUB_MAX_SOCKETS_PER_USER", "10000"),
];

/// How many servers of each kind.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    /// Edge servers.
    pub edges: usize,
    /// API servers.
    pub apis: usize,
}

impl Size {
    /// Of most benchmarks.
    pub const USUAL: Self = Self { edges: 2, apis: 1 };
}

/// A system: edges and API servers (of the usual size two and one), a consumer, HAProxy, Redis,
/// Kafka and Postgres as they are by default, on disk and durable. Publishers use the first edge and listeners the second, so
/// that a message goes the whole way and the second edge does nothing but deliver.
#[derive(Debug)]
pub struct Town {
    /// The processes.
    pub stack: Stack,
    /// Number of the user who is in every channel.
    user: i64,
    tokens: PathBuf,
    secret: Vec<u8>,
    dir: PathBuf,
    /// Batches of channels so far: names differ.
    batches: usize,
}

impl Town {
    /// Starts everything; files go to `dir`.
    ///
    /// # Errors
    /// When something does not start.
    pub async fn start(servers: &Path, dir: &Path, size: Size) -> Result<Self> {
        hubbub_service::config::check_nofile(EDGE_FILES)?;
        std::fs::create_dir_all(dir).with_context(|| format!("create {}", dir.display()))?;
        let mut options = Options::standard(&dir.join("stack"), servers);
        options.ports = Ports::Free;
        (options.edges, options.apis) = (size.edges, size.apis);
        options.seed = false;
        let env = ENV.map(|(key, value)| (key.to_owned(), value.to_owned()));
        options.env.extend(env);
        let stack = Stack::start(options).await?;
        let secret = std::fs::read(stack.token_secret_path()).context("read the token's key")?;
        let mut town = Self {
            stack,
            user: 0,
            tokens: dir.join("tokens"),
            secret,
            dir: dir.to_owned(),
            batches: 0,
        };
        town.user = town.sql_numbers(&user_sql(EVERYBODY)).await?[0];
        let token = town.token(EVERYBODY)?;
        std::fs::write(&town.tokens, token + "\n").context("write the tokens")?;
        Ok(town)
    }

    /// The edge of those who publish.
    #[must_use]
    pub fn publishing(&self) -> &Service {
        self.stack.edge(0)
    }

    /// The edge of those who listen.
    #[must_use]
    pub fn receiving(&self) -> &Service {
        self.stack.edge(1)
    }

    /// Where clients go by default: listeners to the second edge, publishers to the first.
    #[must_use]
    pub fn target(&self, channels: Channels) -> Target {
        Target {
            dialect: "hubbub".to_owned(),
            url: ws_url(self.receiving()),
            publish_url: Some(ws_url(self.publishing())),
            tokens: Some(self.tokens.clone()),
            channels,
        }
    }

    /// The environment of one more edge, which is no part of the stack.
    #[must_use]
    pub fn edge_env(&self, pod: &str) -> Vec<(String, String)> {
        let mut env = self.stack.endpoints().env();
        let own = [
            ("HUBBUB_POD_ID", pod),
            ("HUBBUB_LISTEN", "127.0.0.1:0"),
            ("HUBBUB_OPS_ADDR", "127.0.0.1:0"),
        ];
        let all = ENV.into_iter().chain(own);
        env.extend(all.map(|(key, value)| (key.to_owned(), value.to_owned())));
        env
    }

    /// Makes channels with the one user in them, and the file with their ids.
    ///
    /// # Errors
    /// When the core database refuses.
    pub async fn channels(&mut self, count: usize) -> Result<(Vec<ChannelId>, Channels)> {
        self.batches += 1;
        let (user, batch) = (self.user, self.batches);
        let sql = format!(
            "with made as (
                 insert into channels (kind, name, created_by)
                 select 1, 'bench-{batch}-' || n, {user} from generate_series(1, {count}) n
                 returning id
             ), joined as (
                 insert into memberships (channel_id, user_id, role)
                 select id, {user}, 2 from made
             )
             select id from made order by id"
        );
        let numbers = self.sql_numbers(&sql).await?;
        ensure!(numbers.len() == count, "{count} channels were to be made");
        let ids = numbers
            .iter()
            .map(|number| ChannelId::new(ChannelLetter::Channel, *number));
        let ids: Vec<ChannelId> = ids.collect::<Option<_>>().context("ids from 1")?;
        let path = self.dir.join(format!("channels-{batch}"));
        let lines: String = ids.iter().fold(String::new(), |mut lines, id| {
            // Writing to a string cannot fail.
            writeln!(lines, "{id}").expect("a string grows");
            lines
        });
        std::fs::write(&path, lines).context("write the channels")?;
        Ok((ids, Channels::File(path, count)))
    }

    /// Makes `count` users of their own; user `i` gets into the channels
    /// `(i * joins .. (i + 1) * joins) mod channels`, as `load --joins` deals them. Gives the file
    /// with their tokens.
    ///
    /// # Errors
    /// When the core database refuses.
    pub async fn people(
        &self,
        count: usize,
        joins: usize,
        channels: &[ChannelId],
    ) -> Result<PathBuf> {
        let batch = self.batches;
        let sql = format!(
            "insert into users (subject, name)
             select 'bench-{batch}-' || n, 'bench' from generate_series(0, {count} - 1) n
             returning id"
        );
        let users = self.sql_numbers(&sql).await?;
        ensure!(users.len() == count, "{count} users were to be made");
        let (first, many) = (channels[0].number(), channels.len());
        let last = channels[many - 1].number();
        ensure!(
            last - first + 1 == i64::try_from(many)?,
            "the channels' numbers follow each other"
        );
        let sql = format!(
            "insert into memberships (channel_id, user_id, role)
             select {first} + (n * {joins} + k) % {many}, {} + n, 1
             from generate_series(0, {count} - 1) n, generate_series(0, {joins} - 1) k
             on conflict do nothing",
            users.iter().min().context("a user")?
        );
        self.stack.core().sql("hubbub", &sql).await?;
        let mut lines = String::new();
        for n in 0..count {
            lines += &self.token(&format!("bench-{batch}-{n}"))?;
            lines.push('\n');
        }
        let path = self.dir.join(format!("tokens-{batch}"));
        std::fs::write(&path, lines).context("write the tokens")?;
        Ok(path)
    }

    /// A token of the user who is in every channel.
    ///
    /// # Errors
    /// When it cannot be signed.
    pub fn everybodys_token(&self) -> Result<String> {
        self.token(EVERYBODY)
    }

    fn token(&self, subject: &str) -> Result<String> {
        let now_s = hubbub_service::wall_clock_ms() / 1_000;
        let (issuer, audience) = ("hubbub", "hubbub");
        let secret = &self.secret;
        hubbub_service::token::mint(secret, issuer, audience, subject, None, now_s, TOKEN_S)
    }

    async fn sql_numbers(&self, sql: &str) -> Result<Vec<i64>> {
        let text = self.stack.core().sql("hubbub", sql).await?;
        let lines = text.lines().map(|line| line.trim().parse());
        lines
            .collect::<Result<_, _>>()
            .with_context(|| format!("numbers from: {sql}"))
    }

    /// Gives `measured` the server core for itself; everything else of the town goes to the other.
    ///
    /// # Errors
    /// When a process does not run.
    pub fn pin(&self, cores: Cores, measured: &[&Server]) -> Result<()> {
        for server in self.stack.servers() {
            pin(pid(server)?, cores.client)?;
        }
        for server in measured {
            pin(pid(server)?, cores.server)?;
        }
        Ok(())
    }

    /// Appends `count` messages of the one user straight to the log, dealt over the channels by
    /// turns; returns when the log has acknowledged all of them.
    ///
    /// # Errors
    /// When the log refuses one, or does not answer.
    pub async fn append(&self, channels: &[ChannelId], count: usize, bytes: usize) -> Result<()> {
        let user = UserId::new(self.user).context("an id from 1")?;
        let failed = Arc::new(AtomicU64::new(0));
        let failures = Arc::clone(&failed);
        let appender = Appender::start(
            &self.log_config(&self.stack.endpoints().topic),
            &hubbub_log::Metrics::default(),
            move |(), report| {
                if !matches!(report, Report::Appended(_)) {
                    failures.fetch_add(1, Ordering::Relaxed);
                }
            },
        )?;
        appender.warm_up().await?;
        for n in 0..count {
            let channel = channels[n % channels.len()];
            let id = MessageId(Uuid::now_v7());
            let text = "x".repeat(bytes);
            let payload = Record::message(channel, user, id, text).encode();
            while let Err(((), rejected)) = appender.append(channel, payload.clone(), ()) {
                ensure!(matches!(rejected, Rejected::Full), "{rejected}");
                appender.flush(APPENDED).await?;
            }
        }
        appender.flush(APPENDED).await?;
        let failed = failed.load(Ordering::Relaxed);
        ensure!(failed == 0, "{failed} of {count} records were not appended");
        Ok(())
    }

    /// Rows that the consumer has written since its start.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn stored(&self) -> Result<f64> {
        let consumer = self.stack.consumer(0);
        self.counter(consumer, "consumer_records_total", "row")
            .await
    }

    /// Waits until the consumer has written `rows` in all.
    ///
    /// # Errors
    /// When it has written more, or does not get there in time.
    pub async fn wait_stored(&self, rows: f64) -> Result<()> {
        let begun = Instant::now();
        loop {
            let now = self.stored().await?;
            if now >= rows {
                ensure!(now == rows, "{now} rows are stored, {rows} were to be");
                return Ok(());
            }
            ensure!(
                begun.elapsed() < STORED,
                "{now} of {rows} rows after {STORED:?}"
            );
            sleep(LOOK).await;
        }
    }

    /// Statements in a shard's database.
    ///
    /// # Errors
    /// As [`hubbub_stack::Postgres::sql`].
    pub async fn shard_sql(&self, shard: usize, sql: &str) -> Result<String> {
        let database = format!("hubbub_shard_{shard}");
        self.stack.shard(shard).sql(&database, sql).await
    }

    /// The shard of a channel, from 0.
    #[must_use]
    pub fn shard_of(&self, channel: ChannelId) -> usize {
        let partition = partition_of(channel, self.stack.endpoints().partitions);
        usize::try_from(partition).unwrap_or(0) % SHARDS
    }

    fn log_config(&self, topic: &str) -> hubbub_log::Config {
        let at = self.stack.endpoints();
        hubbub_log::Config {
            brokers: at.kafka_brokers.clone(),
            topic: topic.to_owned(),
            partitions: at.partitions,
            base: 0,
            client_id: "hubbub-bench".to_owned(),
        }
    }

    /// A topic for bare programs, with as many partitions as ours has; made once.
    ///
    /// # Errors
    /// When Kafka refuses.
    pub async fn floor_topic(&self) -> Result<String> {
        const TOPIC: &str = "bench-floor";
        hubbub_log::create_topic(&self.log_config(TOPIC), 1).await?;
        Ok(TOPIC.to_owned())
    }

    /// A counter of one of our servers, over all its labels that contain `label`.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn counter(&self, server: &Service, name: &str, label: &str) -> Result<f64> {
        let page = crate::http::get(server.ops_addr(), "/metrics", "").await?;
        let samples = page.lines().filter_map(|line| line.rsplit_once(' '));
        let wanted = samples.filter(|(series, _)| {
            let (family, labels) = series.split_once('{').unwrap_or((series, ""));
            family == name && labels.contains(label)
        });
        let values = wanted.map(|(_, value)| value.parse::<f64>());
        values.sum::<Result<f64, _>>().context("read the metrics")
    }

    /// Ends everything in order.
    pub async fn stop(self) {
        self.stack.stop().await;
    }
}

fn user_sql(subject: &str) -> String {
    format!(
        "insert into users (subject, name) values ('{subject}', '{subject}')
         on conflict (subject) do update set name = excluded.name returning id"
    )
}

/// Where an edge takes WebSockets.
#[must_use]
pub fn ws_url(edge: &Service) -> String {
    format!("ws://{}/ws", edge.addr())
}

/// The process of a server.
///
/// # Errors
/// When it does not run.
pub fn pid(server: &Server) -> Result<u32> {
    let name = server.name();
    server.pid().with_context(|| format!("{name} runs"))
}

/// A server's process as one whose CPU counts.
///
/// # Errors
/// When it does not run.
pub fn process(server: &Server) -> Result<Whose> {
    Ok(Whose::Process(pid(server)?))
}
