//! The whole system as local processes.

mod endpoints;
mod start;

use crate::haproxy::Haproxy;
use crate::kafka::Kafka;
use crate::options::Options;
use crate::postgres::Postgres;
use crate::reaper::ProcessDir;
use crate::redis::Redis;
use crate::server::Server;
use crate::service::{Role, Service};
use anyhow::Result;
use futures_util::future::join_all;
use std::path::{Path, PathBuf};
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
    haproxy: Haproxy,
    edges: Vec<Service>,
    apis: Vec<Service>,
    consumers: Vec<Service>,
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

    /// The front door.
    #[must_use]
    pub fn haproxy(&self) -> &Haproxy {
        &self.haproxy
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

    /// Where everything is.
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

    /// Every server that was started, in order of start.
    #[must_use]
    pub fn servers(&self) -> Vec<&Server> {
        let mut all: Vec<&Server> = Vec::new();
        all.extend(self.redis.iter().map(|redis| -> &Server { redis }));
        all.extend(self.kafka.iter().map(|kafka| -> &Server { kafka }));
        all.extend(self.postgres.iter().map(|cluster| -> &Server { cluster }));
        let services = self.edges.iter().chain(&self.apis).chain(&self.consumers);
        all.extend(services.map(|service| -> &Server { service }));
        all.push(&self.haproxy);
        all
    }

    /// Starts one more consumer of the same group, with `env` added to its environment.
    ///
    /// # Errors
    /// When it does not start: the error has the end of its log.
    pub async fn add_consumer(&mut self, env: &[(&str, &str)]) -> Result<&Service> {
        let n = self.consumers.len() + 1;
        let (consumer, _) =
            start::service(&self.options, &self.endpoints, &self.dir, Role::Consumer, n)?;
        for (key, value) in env {
            consumer.set_env(key, value);
        }
        consumer.start().await?;
        self.consumers.push(consumer);
        Ok(&self.consumers[n - 1])
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
        join_all(others.map(|service| service.stop())).await;
        self.haproxy.stop().await;
        report("Redis, Kafka, Postgres");
        let mut servers: Vec<&Server> = Vec::new();
        servers.extend(self.redis.iter().map(|redis| -> &Server { redis }));
        servers.extend(self.kafka.iter().map(|kafka| -> &Server { kafka }));
        servers.extend(self.postgres.iter().map(|cluster| -> &Server { cluster }));
        join_all(servers.iter().map(|server| server.stop())).await;
    }
}
