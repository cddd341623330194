//! A proxy between any two processes of a stack.

use super::Endpoints;
use crate::haproxy::Backend;
use crate::kafka::Listener;
use crate::link::Link;
use crate::options::Options;
use crate::port::Port;
use crate::postgres::Postgres;
use crate::proxy::Proxy;
use crate::redis::Redis;
use crate::service::Role;
use anyhow::{Context, Result, ensure};
use std::net::SocketAddr;

/// Consumers beyond those of the options for whom Kafka has a listener.
const LATE_CONSUMERS: usize = 2;
/// Of every socket on the way from an edge to a client, so that not megabytes of kernel buffers
/// but the edge itself feels a slow client.
pub(crate) const CLIENT_SIDE_BUFFER_BYTES: u32 = 32 * 1024;

/// The links of a stack.
#[derive(Debug, Default)]
pub(super) struct Links {
    /// Those of processes that are described.
    pub(super) used: Vec<Link>,
    /// Kafka's, for consumers that may be added.
    late: Vec<Link>,
    /// The servers behind the links, by name; empty without links.
    servers: Vec<(String, SocketAddr)>,
}

impl Links {
    /// Makes the links to Kafka, and the listeners that Kafka needs for them: a client is told by
    /// Kafka where to connect, so every process is told another address.
    pub(super) fn to_kafka(options: &Options) -> Result<(Self, Vec<Listener>)> {
        let (mut links, mut listeners) = (Self::default(), Vec::new());
        if !options.links {
            return Ok((links, listeners));
        }
        let external = &options.external;
        let own = external.redis_url.is_none()
            && external.kafka_brokers.is_none()
            && external.core_url.is_none();
        ensure!(own, "links lead to servers of the stack's own only");
        let consumers = options.consumers + options.spare_consumers;
        let described = names(Role::Edge, 1..=options.edges)
            .chain(names(Role::Api, 1..=options.apis))
            .chain(names(Role::Consumer, 1..=consumers));
        for name in described {
            links.used.push(kafka_link(&name, &mut listeners)?);
        }
        for name in names(Role::Consumer, consumers + 1..=consumers + LATE_CONSUMERS) {
            links.late.push(kafka_link(&name, &mut listeners)?);
        }
        Ok((links, listeners))
    }

    /// Makes the other links of every process that has one to Kafka.
    pub(super) fn add_servers(
        &mut self,
        redis: Option<&Redis>,
        postgres: &[Postgres],
    ) -> Result<()> {
        let redis = redis.map(|redis| ("redis".to_owned(), redis.addr()));
        let postgres = postgres.iter().map(|it| (it.name(), it.addr()));
        self.servers = redis.into_iter().chain(postgres).collect();
        let names: Vec<String> = self.used.iter().map(|link| link.from.clone()).collect();
        for name in names {
            self.connect(&name)?;
        }
        Ok(())
    }

    /// Makes the links of a consumer that is added.
    pub(super) fn add(&mut self, name: &str) -> Result<()> {
        let at = self.late.iter().position(|link| link.from == name);
        let at = at.with_context(|| {
            format!("Kafka has no listener for {name}: at most {LATE_CONSUMERS} can be added")
        })?;
        self.connect(name)?;
        let kafka = self.late.remove(at);
        self.used.push(kafka);
        Ok(())
    }

    fn connect(&mut self, name: &str) -> Result<()> {
        for (to, addr) in &self.servers {
            let proxy = Proxy::start(*addr).context("start a proxy")?;
            self.used.push(Link::new(name, to, proxy));
        }
        Ok(())
    }

    /// The backends as HAProxy `name` reaches them. Its health checks go to them directly: they
    /// are to judge the process, not the link.
    pub(super) fn add_backends(&mut self, name: &str, direct: &[Backend]) -> Result<Vec<Backend>> {
        let mut linked = Vec::new();
        for backend in direct {
            let proxy = Proxy::with_buffers(vec![backend.addr], CLIENT_SIDE_BUFFER_BYTES);
            let link = Link::new(name, &backend.name, proxy.context("start a proxy")?);
            linked.push(Backend {
                addr: link.addr(),
                ..backend.clone()
            });
            self.used.push(link);
        }
        Ok(linked)
    }

    /// The system as process `name` sees it.
    pub(super) fn seen_by(&self, name: &str, direct: &Endpoints) -> Endpoints {
        let mut seen = direct.clone();
        for link in self.used.iter().filter(|link| link.from == name) {
            let Some(upstream) = link.upstreams().first() else {
                continue;
            };
            let (upstream, proxy) = (upstream.to_string(), link.addr().to_string());
            match link.to.as_str() {
                "redis" => seen.redis_url = seen.redis_url.replace(&upstream, &proxy),
                // Its upstream is the listener of this process alone.
                "kafka" => seen.kafka_brokers = proxy,
                "core" => seen.core_url = seen.core_url.replace(&upstream, &proxy),
                _ => {
                    for url in &mut seen.shard_urls {
                        *url = url.replace(&upstream, &proxy);
                    }
                }
            }
        }
        seen
    }
}

fn names(role: Role, numbers: impl Iterator<Item = usize>) -> impl Iterator<Item = String> {
    numbers.map(move |n| format!("{}-{n}", role.word()))
}

fn kafka_link(name: &str, listeners: &mut Vec<Listener>) -> Result<Link> {
    let port = Port::free()?;
    let proxy = Proxy::start(port.addr()).context("start a proxy")?;
    let link = Link::new(name, "kafka", proxy);
    listeners.push(Listener {
        name: name.to_uppercase().replace('-', "_"),
        port,
        advertised: link.addr(),
    });
    Ok(link)
}
