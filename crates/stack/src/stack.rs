//! The whole system as local processes.

mod endpoints;
mod links;
mod start;

use crate::haproxy::Haproxy;
use crate::kafka::Kafka;
use crate::link::Link;
use crate::options::Options;
use crate::postgres::Postgres;
use crate::proxy::Proxy;
use crate::reaper::ProcessDir;
use crate::redis::Redis;
use crate::server::Server;
use crate::service::{Role, Service};
use anyhow::Result;
use futures_util::future::join_all;
use links::{CLIENT_SIDE_BUFFER_BYTES, Links};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

pub use endpoints::Endpoints;

/// What [`Stack::start_with`] tells while it works.
#[derive(Debug, Clone)]
pub enum Event {
    /// Something is ready.
    Ready {
        /// What: `kafka`, `edge-1`, `admin init`.
        name: String,
        /// Where, or what was done.
        detail: String,
        /// How long it took.
        took: Duration,
    },
    /// Something worth knowing: a standard port is taken, a server of the user's is used.
    Note(String),
}

/// A running system. Dropping it kills everything; [`Stack::stop`] ends it in order.
#[derive(Debug)]
pub struct Stack {
    // Fields are dropped in this order: clients before the servers that they use.
    haproxies: Vec<Haproxy>,
    edges: Vec<Service>,
    apis: Vec<Service>,
    consumers: Vec<Service>,
    spare_consumers: Vec<Service>,
    links: Links,
    /// How many [`Stack::client_link`]s there were.
    clients: AtomicUsize,
    /// Where browsers may come from.
    origins: Vec<String>,
    redis: Option<Redis>,
    kafka: Option<Kafka>,
    /// The core, then the shards; empty if they are the user's.
    postgres: Vec<Postgres>,
    endpoints: Endpoints,
    options: Options,
    dir: PathBuf,
    _own_dir: Option<ProcessDir>,
}

impl Stack {
    /// Starts everything and returns when all of it is ready.
    ///
    /// # Errors
    /// When something is not installed or does not start: the error names it and has the end of
    /// its log. What was started by then is killed.
    pub async fn start(options: Options) -> Result<Self> {
        Self::start_with(options, &|_| {}).await
    }

    /// [`Stack::start`] that tells what happens.
    ///
    /// # Errors
    /// As [`Stack::start`].
    pub async fn start_with(options: Options, report: &(dyn Fn(Event) + Sync)) -> Result<Self> {
        start::start(options, report).await
    }

    /// Edge server `i`, from 0.
    ///
    /// # Panics
    /// When there are not so many; likewise for the other kinds.
    #[must_use]
    pub fn edge(&self, i: usize) -> &Service {
        &self.edges[i]
    }

    /// API server `i`, from 0.
    #[must_use]
    pub fn api(&self, i: usize) -> &Service {
        &self.apis[i]
    }

    /// Consumer `i`, from 0.
    #[must_use]
    pub fn consumer(&self, i: usize) -> &Service {
        &self.consumers[i]
    }

    /// The cluster of the core database.
    #[must_use]
    pub fn core(&self) -> &Postgres {
        &self.postgres[0]
    }

    /// The cluster of shard `i`, from 0.
    #[must_use]
    pub fn shard(&self, i: usize) -> &Postgres {
        &self.postgres[i + 1]
    }

    /// Redis.
    ///
    /// # Panics
    /// When the stack uses the user's; likewise [`Stack::kafka`].
    #[must_use]
    pub fn redis(&self) -> &Redis {
        self.redis
            .as_ref()
            .expect("this stack has a Redis of its own")
    }

    /// Kafka.
    #[must_use]
    pub fn kafka(&self) -> &Kafka {
        self.kafka
            .as_ref()
            .expect("this stack has a Kafka of its own")
    }

    /// The front door; the first one if there are several.
    ///
    /// # Panics
    /// When the stack was started with none.
    #[must_use]
    pub fn haproxy(&self) -> &Haproxy {
        &self.haproxies[0]
    }

    /// All front doors.
    #[must_use]
    pub fn haproxies(&self) -> &[Haproxy] {
        &self.haproxies
    }

    /// Every way between two parts: from each of our processes to each server, and from each
    /// HAProxy to each edge and API server. Empty without [`Options::links`].
    #[must_use]
    pub fn links(&self) -> &[Link] {
        &self.links.used
    }

    /// The way from one part to another, by name: `("edge-1", "redis")`, `("haproxy-2", "edge-3")`.
    #[must_use]
    pub fn link(&self, from: &str, to: &str) -> Option<&Link> {
        self.links().iter().find(|l| l.from == from && l.to == to)
    }

    /// A new proxy for one client: it leads to one of the HAProxies, by turns, and to the next
    /// when that one is not there, as a virtual address would.
    ///
    /// # Errors
    /// When no socket can be bound.
    pub fn client_link(&self) -> io::Result<Proxy> {
        let turn = self.clients.fetch_add(1, Ordering::Relaxed);
        let mut fronts: Vec<_> = self.haproxies.iter().map(Haproxy::front).collect();
        let first = turn % fronts.len();
        fronts.rotate_left(first);
        Proxy::with_buffers(fronts, CLIENT_SIDE_BUFFER_BYTES)
    }

    /// All edges.
    #[must_use]
    pub fn edges(&self) -> &[Service] {
        &self.edges
    }

    /// All API servers.
    #[must_use]
    pub fn apis(&self) -> &[Service] {
        &self.apis
    }

    /// All consumers.
    #[must_use]
    pub fn consumers(&self) -> &[Service] {
        &self.consumers
    }

    /// The consumers of [`Options::spare_consumers`]: each runs when a test starts it and leaves
    /// the group when a test stops it.
    #[must_use]
    pub fn spare_consumers(&self) -> &[Service] {
        &self.spare_consumers
    }

    /// Where everything is, without any link.
    #[must_use]
    pub fn endpoints(&self) -> &Endpoints {
        &self.endpoints
    }

    /// `http://127.0.0.1:<port>` of HAProxy.
    #[must_use]
    pub fn front_url(&self) -> String {
        self.endpoints.front_url.clone()
    }

    /// `ws://127.0.0.1:<port>/ws` of HAProxy.
    #[must_use]
    pub fn ws_url(&self) -> String {
        self.endpoints.ws_url.clone()
    }

    /// The key with which tokens are signed and checked.
    #[must_use]
    pub fn token_secret_path(&self) -> &Path {
        &self.endpoints.token_secret_file
    }

    /// Data, logs and configuration.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where our own programs are.
    #[must_use]
    pub fn bin_dir(&self) -> &Path {
        &self.options.bin_dir
    }

    /// Every server that was started with the stack, in order of start.
    #[must_use]
    pub fn servers(&self) -> Vec<&Server> {
        let mut all: Vec<&Server> = Vec::new();
        all.extend(self.redis.iter().map(|redis| -> &Server { redis }));
        all.extend(self.kafka.iter().map(|kafka| -> &Server { kafka }));
        all.extend(self.postgres.iter().map(|cluster| -> &Server { cluster }));
        let services = self.edges.iter().chain(&self.apis).chain(&self.consumers);
        all.extend(services.map(|service| -> &Server { service }));
        all.extend(self.haproxies.iter().map(|haproxy| -> &Server { haproxy }));
        all
    }

    /// Starts one more consumer of the same group, with `env` added to its environment.
    ///
    /// # Errors
    /// When it does not start: the error has the end of its log. With [`Options::links`] there is
    /// room for two; what is to come and go more often is a spare consumer.
    pub async fn add_consumer(&mut self, env: &[(&str, &str)]) -> Result<&Service> {
        let n = self.consumers.len() + self.spare_consumers.len() + 1;
        let name = format!("{}-{n}", Role::Consumer.word());
        if self.options.links {
            self.links.add(&name)?;
        }
        let seen = self.links.seen_by(&name, &self.endpoints);
        let which = (Role::Consumer, n);
        let (consumer, _) = start::service(&self.options, &seen, &self.origins, &self.dir, which)?;
        for (key, value) in env {
            consumer.set_env(key, value);
        }
        consumer.start().await?;
        self.consumers.push(consumer);
        Ok(&self.consumers[self.consumers.len() - 1])
    }

    /// Ends everything in order: edges say goodbye to their sockets, then the other programs of
    /// ours, then HAProxy, then the servers that they used.
    pub async fn stop(self) {
        self.stop_with(&|_| {}).await;
    }

    /// [`Stack::stop`] that names each group before it is ended.
    pub async fn stop_with(self, report: &(dyn Fn(&str) + Sync)) {
        report("edges (their sockets are told to come back)");
        join_all(self.edges.iter().map(|edge| edge.stop())).await;
        report("API servers, consumers, HAProxy");
        let others = self.apis.iter().chain(&self.consumers);
        let others = others.chain(&self.spare_consumers);
        join_all(others.map(|service| service.stop())).await;
        join_all(self.haproxies.iter().map(|haproxy| haproxy.stop())).await;
        report("Redis, Kafka, Postgres");
        let mut servers: Vec<&Server> = Vec::new();
        servers.extend(self.redis.iter().map(|redis| -> &Server { redis }));
        servers.extend(self.kafka.iter().map(|kafka| -> &Server { kafka }));
        servers.extend(self.postgres.iter().map(|cluster| -> &Server { cluster }));
        join_all(servers.iter().map(|server| server.stop())).await;
    }
}
