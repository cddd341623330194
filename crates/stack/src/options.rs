//! What a stack consists of.

use crate::environment::var;
use crate::port::Port;
use crate::postgres::Durability;
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};

/// Partitions of the log: fixed for ever when the topic is made.
const PARTITIONS: u32 = 32;

/// Servers that are there already: they are used, and none of that kind is started.
#[derive(Debug, Clone, Default)]
pub struct External {
    /// `redis://…`
    pub redis_url: Option<String>,
    /// `host:port,…`
    pub kafka_brokers: Option<String>,
    /// `postgres://…` of the core database.
    pub core_url: Option<String>,
    /// `postgres://…` of every shard.
    pub shard_urls: Option<Vec<String>>,
}

impl External {
    /// Those that the environment names: REDIS_URL, KAFKA_BROKERS, CORE_DATABASE_URL,
    /// SHARD_DATABASE_URLS.
    ///
    /// # Errors
    /// When one of the two kinds of database is named without the other.
    pub fn from_env() -> Result<Self> {
        let shards = var("SHARD_DATABASE_URLS");
        let found = Self {
            redis_url: var("REDIS_URL"),
            kafka_brokers: var("KAFKA_BROKERS"),
            core_url: var("CORE_DATABASE_URL"),
            shard_urls: shards.map(|list| list.split(',').map(str::to_owned).collect()),
        };
        anyhow::ensure!(
            found.core_url.is_some() == found.shard_urls.is_some(),
            "set both CORE_DATABASE_URL and SHARD_DATABASE_URLS, or neither"
        );
        Ok(found)
    }
}

/// How ports are chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ports {
    /// Any free ones.
    Free,
    /// The well-known ones (8080 in front, 6379 for Redis, …), free ones where those are taken.
    Standard,
}

/// What to start. [`Options::for_test`] and [`Options::standard`] are the two starting points.
#[derive(Debug, Clone)]
pub struct Options {
    /// Data, logs and configuration; a temporary directory if absent.
    pub dir: Option<PathBuf>,
    /// Where our own programs are.
    pub bin_dir: PathBuf,
    /// Edge servers.
    pub edges: usize,
    /// API servers.
    pub apis: usize,
    /// Consumers, one group.
    pub consumers: usize,
    /// More of them, described but not running: a test starts and stops them at will.
    pub spare_consumers: usize,
    /// HAProxies, each with all backends.
    pub haproxies: usize,
    /// Postgres clusters beside the core's.
    pub shards: usize,
    /// Whether Postgres syncs its files.
    pub durability: Durability,
    /// Servers to use instead of our own.
    pub external: External,
    /// How ports are chosen.
    pub ports: Ports,
    /// Kafka topic of the records.
    pub topic: String,
    /// Consumer group.
    pub group: String,
    /// Partitions of the topic when it is made.
    pub partitions: u32,
    /// Create the ten users and the channels `general` and `Maths`.
    pub seed: bool,
    /// For all our own programs, beside what they need.
    pub env: Vec<(String, String)>,
    /// Every process reaches every other through a [`crate::Proxy`] of its own.
    pub links: bool,
}

impl Options {
    /// `./dev up`: 2 edges, 2 API servers, 1 consumer, durable, kept in `dir`.
    #[must_use]
    pub fn standard(dir: &Path, bin_dir: &Path) -> Self {
        Self {
            dir: Some(dir.to_owned()),
            bin_dir: bin_dir.to_owned(),
            edges: 2,
            apis: 2,
            consumers: 1,
            spare_consumers: 0,
            haproxies: 1,
            shards: 2,
            durability: Durability::Durable,
            external: External::default(),
            ports: Ports::Standard,
            topic: "messages".to_owned(),
            group: "hubbub-consumer".to_owned(),
            partitions: PARTITIONS,
            seed: true,
            env: Vec::new(),
            links: false,
        }
    }

    /// The same system for one test: free ports, seeded, gone with the [`crate::Stack`].
    ///
    /// # Errors
    /// When the running test is not where Cargo puts it.
    pub fn for_test() -> Result<Self> {
        let mut options = Self::standard(Path::new(""), &test_bin_dir()?);
        options.dir = None;
        options.durability = Durability::ThrowAway;
        options.ports = Ports::Free;
        Ok(options)
    }

    /// Uses the Kafka that all tests share, with a topic and group of this stack alone. Saves its
    /// start; not for tests that stop Kafka.
    ///
    /// # Errors
    /// When the shared servers cannot be started.
    pub async fn with_shared_kafka(mut self) -> Result<Self> {
        let shared = crate::test_env::shared_servers().await?;
        let unique = uuid::Uuid::new_v4().simple().to_string();
        self.external.kafka_brokers = Some(shared.kafka_brokers.clone());
        self.topic = format!("messages-{}", &unique[..8]);
        self.group = format!("group-{}", &unique[..8]);
        Ok(self)
    }

    /// A port, and a sentence if it is not the standard one.
    pub(crate) fn port(&self, standard: u16, what: &str) -> Result<(Port, Option<String>)> {
        if self.ports == Ports::Free {
            return Ok((Port::free()?, None));
        }
        let port = Port::prefer(standard)?;
        let number = port.number();
        let note = (number != standard)
            .then(|| format!("port {standard} is taken: {what} listens on {number}"));
        Ok((port, note))
    }
}

/// Where Cargo puts the programs of the profile that the running test was built in.
///
/// # Errors
/// When the running program is not below such a directory.
pub fn test_bin_dir() -> Result<PathBuf> {
    let exe = std::env::current_exe().context("find the running test")?;
    let deps = exe
        .parent()
        .context("find the directory of the running test")?;
    let dir = if deps.ends_with("deps") {
        deps.parent()
    } else {
        Some(deps)
    };
    Ok(dir
        .context("find the directory of the programs")?
        .to_owned())
}
