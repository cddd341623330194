//! The servers of a run, and the people who use them.

use std::{path::PathBuf, sync::Arc};

use anyhow::{Context, Result};
use hubbub_client::{Http, TokenSource};
use hubbub_stack::{Event, Options, Proxy, Stack};
use hubbub_store::{LogIdentity, Store};

use crate::device::Identity;

/// Tokens are issued so long ago and are valid for so long: some processes run with a clock that
/// is an hour off.
const ISSUED_AGO_S: i64 = 2 * 3_600;
const VALID_S: i64 = 8 * 3_600;
/// The limits of one person would be met by a writer that says what sixteen say.
const LIFTED: &str = "100000";

/// What is started.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Where our own programs are.
    pub bin_dir: PathBuf,
    /// The planted bug that they run with.
    pub mutant: Option<String>,
}

/// A running system with links through fault proxies.
#[derive(Debug)]
pub struct System {
    stack: Arc<Stack>,
    identity: LogIdentity,
    secret: Vec<u8>,
}

impl System {
    /// Starts everything: 2 HAProxy, 3 edges, 2 API servers, 3 consumers, Redis, Kafka, the core
    /// and 2 shards, all of this run alone.
    ///
    /// # Errors
    /// When something does not start: the error has the end of its log.
    pub async fn start(plan: &Plan, report: &(dyn Fn(Event) + Sync)) -> Result<Self> {
        let mut options = Options::for_test()?;
        options.bin_dir = plan.bin_dir.clone();
        options.links = true;
        options.haproxies = 2;
        options.edges = 3;
        options.apis = 2;
        options.consumers = 3;
        // One runs only while a fault adds it.
        options.spare_consumers = 1;
        options.shards = 2;
        options.seed = false;
        for (key, value) in settings() {
            options.env.push((key.to_owned(), value.to_owned()));
        }
        if let Some(mutant) = &plan.mutant {
            let value = mutant.clone();
            options.env.push(("HUBBUB_MUTANT".to_owned(), value));
        }
        let stack = Stack::start_with(options, report).await?;
        let at = stack.endpoints();
        let config = hubbub_store::Config {
            core_url: at.core_url.clone(),
            shard_urls: at.shard_urls.clone(),
            core_connections: 1,
            shard_connections: 1,
        };
        let store = Store::open(&config, &hubbub_store::Metrics::default()).await;
        let identity = store.context("open the store")?.log_identity().clone();
        let secret = hubbub_service::token::read_secret(stack.token_secret_path())
            .context("read the token secret")?;
        Ok(Self {
            stack: Arc::new(stack),
            identity,
            secret,
        })
    }

    /// The servers.
    #[must_use]
    pub fn stack(&self) -> &Arc<Stack> {
        &self.stack
    }

    /// Base and partitions of the log.
    #[must_use]
    pub fn identity(&self) -> &LogIdentity {
        &self.identity
    }

    /// The log, read past every link.
    #[must_use]
    pub fn log(&self) -> hubbub_log::Config {
        hubbub_log::Config {
            brokers: self.stack.endpoints().kafka_brokers.clone(),
            topic: self.identity.topic.clone(),
            partitions: self.identity.partitions,
            base: self.identity.base,
            client_id: "hubbub-torture".to_owned(),
        }
    }

    /// A token that outlasts the run.
    ///
    /// # Errors
    /// When the secret cannot sign.
    pub fn token(&self, user: &str) -> Result<String> {
        let issued_s = hubbub_service::wall_clock_ms() / 1_000 - ISSUED_AGO_S;
        hubbub_service::token::mint(
            &self.secret,
            "hubbub",
            "hubbub",
            user,
            None,
            issued_s,
            VALID_S,
        )
    }

    /// The API of one server, past HAProxy and every link.
    ///
    /// # Errors
    /// When no token can be made.
    pub fn http_at(&self, user: &str, api: usize) -> Result<Http> {
        let base = format!("http://{}", self.stack.api(api).addr());
        Ok(Http::new(&base, TokenSource::Fixed(self.token(user)?))?)
    }

    /// The API through a link of one's own.
    ///
    /// # Errors
    /// When no token can be made.
    pub fn http_through(&self, user: &str, link: &Proxy) -> Result<Http> {
        let base = format!("http://{}", link.addr());
        Ok(Http::new(&base, TokenSource::Fixed(self.token(user)?))?)
    }

    /// A link through both HAProxies, as a virtual IP would be.
    ///
    /// # Errors
    /// When no socket can be bound.
    pub fn link(&self) -> Result<Arc<Proxy>> {
        let link = self.stack.client_link().context("start a client's link")?;
        Ok(Arc::new(link))
    }

    /// Who a user is; the first look makes them.
    ///
    /// # Errors
    /// When the API does not answer.
    pub async fn user(&self, name: &str) -> Result<Identity> {
        let me = self.http_at(name, 0)?.me().await;
        let me = me.with_context(|| format!("make user {name}"))?;
        Ok(Identity {
            name: name.to_owned(),
            user: me.id,
            token: self.token(name)?,
        })
    }

    /// Names and logs of all processes of ours.
    #[must_use]
    pub fn logs(&self) -> Vec<(String, PathBuf)> {
        let servers = self.stack.servers();
        servers.iter().map(|s| (s.name(), s.log_path())).collect()
    }
}

/// The environment of our programs in every run, also for the report.
#[must_use]
pub fn settings() -> Vec<(&'static str, &'static str)> {
    vec![
        ("HUBBUB_SEND_RATE", LIFTED),
        ("HUBBUB_SEND_BURST", LIFTED),
        ("HUBBUB_FRAME_RATE", LIFTED),
        ("HUBBUB_FRAME_BURST", LIFTED),
        ("HUBBUB_HISTORY_RATE", LIFTED),
        ("HUBBUB_HISTORY_BURST", LIFTED),
        ("HUBBUB_REQUEST_RATE", LIFTED),
        ("HUBBUB_REQUEST_BURST", LIFTED),
        // A device that vanished leaves its socket behind for a while.
        ("HUBBUB_MAX_SOCKETS_PER_USER", "1000"),
        ("HUBBUB_PROVISION_USERS", "true"),
        // How soon a dead consumer's partitions go on. The shortest that a stock broker takes is
        // longer; ours is told to take it.
        ("HUBBUB_SESSION_TIMEOUT_MS", "1500"),
        ("HUBBUB_HEARTBEAT_MS", "500"),
        ("HUBBUB_SOCKET_HEARTBEAT_MS", "2000"),
        ("HUBBUB_DRAIN_DELAY_MS", "700"),
    ]
}
