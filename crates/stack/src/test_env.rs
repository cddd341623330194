//! Fresh, isolated servers for one test.

use crate::environment::var;
use crate::kafka::{Kafka, Purpose};
use crate::port::Port;
use crate::postgres::{Durability, Postgres, run_sql};
use crate::reaper::ProcessDir;
use crate::redis::Redis;
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::path::Path;
use tokio::sync::OnceCell;

/// Names the JSON file of servers that several test binaries share.
pub const TEST_SERVERS: &str = "HUBBUB_TEST_SERVERS";
/// Database names are at most 63 bytes; this much of a test's name goes into them.
const NAME_IN_DATABASE: usize = 30;
const SHARDS: usize = 2;

/// Where the shared throw-away servers are; the content of the [`TEST_SERVERS`] file.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TestServers {
    /// `host:port` of Kafka.
    pub kafka_brokers: String,
    /// Address of a Postgres cluster that trusts user `postgres`.
    pub postgres: SocketAddr,
}

/// Fresh servers for one test: a Redis process of its own, a topic and group name of its own in
/// a shared Kafka, and empty databases of its own (core and two shards) in a shared Postgres.
/// Nothing has been created in Kafka, and no migration has run. The databases are dropped with it.
#[derive(Debug)]
pub struct TestEnv {
    /// URL of this test's Redis.
    pub redis_url: String,
    /// `host:port` of the shared Kafka.
    pub kafka_brokers: String,
    /// A topic name that nobody else uses.
    pub topic: String,
    /// A consumer group name that nobody else uses.
    pub group: String,
    /// URL of an empty database for the core.
    pub core_url: String,
    /// URLs of two empty databases for the shards.
    pub shard_urls: Vec<String>,
    redis: Redis,
    databases: Databases,
    dir: tempfile::TempDir,
}

impl TestEnv {
    /// Starts what the test needs. `test_name` shows up in the names of topics and databases.
    ///
    /// # Errors
    /// When a server is not installed or does not start: the error has the end of its log.
    pub async fn new(test_name: &str) -> Result<Self> {
        let shared = shared_servers().await?;
        let dir = tempfile::Builder::new().prefix("hubbub-env-").tempdir()?;
        let name = unique(test_name);
        let (redis, databases) =
            tokio::try_join!(redis(dir.path()), Databases::create(shared.postgres, &name))?;
        let mut urls = databases.urls();
        let core_url = urls.remove(0);
        Ok(Self {
            redis_url: redis.url(),
            kafka_brokers: shared.kafka_brokers.clone(),
            topic: format!("messages-{name}"),
            group: format!("group-{name}"),
            core_url,
            shard_urls: urls,
            redis,
            databases,
            dir,
        })
    }

    /// This test's Redis, to kill, pause and start again.
    #[must_use]
    pub fn redis(&self) -> &Redis {
        &self.redis
    }

    /// The shard databases as the servers' flags take them: separated by commas.
    #[must_use]
    pub fn shard_list(&self) -> String {
        self.shard_urls.join(",")
    }

    /// An empty directory of this test, removed with it.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Runs a statement on the database behind one of this test's addresses, for what no part of
    /// the system does; gives what it printed.
    ///
    /// # Errors
    /// The server's own message; or there is no answer within a minute.
    pub async fn sql(&self, url: &str, statement: &str) -> Result<String> {
        let (_, database) = url.rsplit_once('/').context("an address of a database")?;
        crate::postgres::sql(self.databases.server, database, statement).await
    }

    /// Address of the shared Postgres, for a [`crate::Proxy`] in front of it.
    #[must_use]
    pub fn postgres_addr(&self) -> SocketAddr {
        self.databases.server
    }
}

/// A port may be taken by a stranger between the look and the start, so it is tried thrice.
async fn redis(dir: &Path) -> Result<Redis> {
    let mut failure = None;
    for _ in 0..3 {
        match Redis::launch(dir, Port::free()?).await {
            Ok(redis) => return Ok(redis),
            Err(error) => failure = Some(error),
        }
    }
    Err(failure.expect("three attempts leave an error"))
}

/// Databases of one test, dropped with it.
#[derive(Debug)]
struct Databases {
    server: SocketAddr,
    names: Vec<String>,
}

impl Databases {
    async fn create(server: SocketAddr, name: &str) -> Result<Self> {
        let mut names = vec![format!("{name}_core")];
        names.extend((0..SHARDS).map(|i| format!("{name}_shard{i}")));
        let create: Vec<String> = names
            .iter()
            .map(|name| format!("create database \"{name}\""))
            .collect();
        tokio::task::spawn_blocking(move || run_sql(server, &create))
            .await
            .context("create a test's databases")??;
        Ok(Self { server, names })
    }

    fn urls(&self) -> Vec<String> {
        let server = self.server;
        let url = |name: &String| format!("postgres://postgres@{server}/{name}");
        self.names.iter().map(url).collect()
    }
}

impl Drop for Databases {
    fn drop(&mut self) {
        let drop = |name: &String| format!("drop database if exists \"{name}\" with (force)");
        let statements: Vec<String> = self.names.iter().map(drop).collect();
        // The shared cluster is thrown away as a whole; this only keeps it small meanwhile.
        run_sql(self.server, &statements).ok();
    }
}

/// Letters, digits and underscores of the test's name, and a random part.
fn unique(test_name: &str) -> String {
    let word = |c: char| {
        if c.is_ascii_alphanumeric() {
            c.to_ascii_lowercase()
        } else {
            '_'
        }
    };
    let name: String = test_name.chars().map(word).take(NAME_IN_DATABASE).collect();
    let random = uuid::Uuid::new_v4().simple().to_string();
    format!("{name}_{}", &random[..8])
}

/// The shared servers: those named by the environment, or this test binary's own, started by the
/// first test that asks.
///
/// # Errors
/// When the file cannot be read, or a server does not start.
pub async fn shared_servers() -> Result<&'static TestServers> {
    static SHARED: OnceCell<(TestServers, Option<SharedServers>)> = OnceCell::const_new();
    let found = SHARED.get_or_try_init(|| async {
        if let Some(path) = var(TEST_SERVERS) {
            let json = std::fs::read(&path)
                .with_context(|| format!("read {path}, named by {TEST_SERVERS}"))?;
            let servers = serde_json::from_slice(&json).with_context(|| format!("parse {path}"))?;
            return anyhow::Ok((servers, None));
        }
        let own = SharedServers::launch().await?;
        Ok((own.addresses(), Some(own)))
    });
    found.await.map(|(servers, _)| servers)
}

/// Kafka and Postgres for any number of tests; they die with this process.
#[derive(Debug)]
pub struct SharedServers {
    kafka: Kafka,
    postgres: Postgres,
    _dir: ProcessDir,
}

impl SharedServers {
    /// Starts both at once.
    ///
    /// # Errors
    /// When one is not installed or does not start.
    pub async fn launch() -> Result<Self> {
        let dir = ProcessDir::create("hubbub-shared-")?;
        let (kafka_dir, postgres_dir) = (dir.path().join("kafka"), dir.path().join("postgres"));
        let (broker, controller, port) = (Port::free()?, Port::free()?, Port::free()?);
        let durability = Durability::ThrowAway;
        let (kafka, postgres) = tokio::try_join!(
            Kafka::launch(&kafka_dir, broker, controller, Purpose::ThrowAway),
            Postgres::launch("postgres", &postgres_dir, port, durability)
        )?;
        Ok(Self {
            kafka,
            postgres,
            _dir: dir,
        })
    }

    /// What other processes need to use them.
    #[must_use]
    pub fn addresses(&self) -> TestServers {
        TestServers {
            kafka_brokers: self.kafka.brokers(),
            postgres: self.postgres.addr(),
        }
    }
}
