//! Three servers of one kind behind a HAProxy, with their Redis and a link for every client: what
//! the systems that are not ours run in. HAProxy has the configuration that it has for Hubbub.

use std::{net::SocketAddr, path::Path};

use anyhow::Result;
use futures_util::future::try_join_all;
use hubbub_protocol::{ChannelId, ChannelLetter, UserId};
use hubbub_stack::{Backend, FrontPorts, Haproxy, Port, Proxy, Ready, Server, Spec};

use crate::{
    bus::Bus,
    faults::Ground,
    plan::{LISTENERS, Plan, WRITERS},
};

/// A server to start.
#[derive(Debug)]
pub(crate) struct Program {
    /// What to run.
    pub(crate) argv: Vec<String>,
    /// Its environment.
    pub(crate) env: Vec<(String, String)>,
    /// Where clients are served.
    pub(crate) listen: Port,
    /// Where `/readyz` is; that port, too, if absent.
    pub(crate) ops: Option<Port>,
}

/// The processes of one system and the links of its clients.
#[derive(Debug)]
pub(crate) struct Site {
    // Dropped in this order.
    links: Vec<(String, Proxy)>,
    writers_links: Vec<Proxy>,
    haproxy: Haproxy,
    servers: Vec<Server>,
    _ports: Vec<Port>,
    bus: Bus,
    subscriptions: &'static str,
}

impl Site {
    /// Starts the servers, then HAProxy, then a link for everybody.
    pub(crate) async fn start(
        dir: &Path,
        bus: Bus,
        subscriptions: &'static str,
        programs: Vec<Program>,
    ) -> Result<Self> {
        let (mut servers, mut backends, mut ports) = (Vec::new(), Vec::new(), Vec::new());
        for (n, program) in (1..).zip(programs) {
            let name = format!("server-{n}");
            let ops = program.ops.as_ref().unwrap_or(&program.listen).addr();
            backends.push(Backend {
                name: name.clone(),
                addr: program.listen.addr(),
                ops,
            });
            let spec = Spec {
                argv: program.argv,
                env: program.env,
                log: dir.join(format!("{name}.log")),
                name,
                run_as: None,
                stop_signal: nix::sys::signal::Signal::SIGTERM,
                stop_grace: std::time::Duration::from_secs(2),
            };
            let ready = Ready::Http(ops, "/readyz".to_owned());
            servers.push(Server::new(spec, ready, std::time::Duration::from_secs(30)));
            ports.push(program.listen);
            ports.extend(program.ops);
        }
        try_join_all(servers.iter().map(Server::start)).await?;
        let front = FrontPorts {
            front: Port::free()?,
            stats: Port::free()?,
        };
        let haproxy = Haproxy::launch(&dir.join("haproxy"), front, &backends, &[], &[]).await?;
        let mut links = Vec::new();
        for n in 0..LISTENERS {
            links.push((Plan::listener(n), Proxy::start(haproxy.front())?));
        }
        let mut writers_links = Vec::new();
        for _ in 0..WRITERS {
            writers_links.push(Proxy::start(haproxy.front())?);
        }
        Ok(Self {
            links,
            writers_links,
            haproxy,
            servers,
            _ports: ports,
            bus,
            subscriptions,
        })
    }

    /// What faults are made on.
    pub(crate) fn ground(&self) -> Ground<'_> {
        Ground {
            servers: self.servers.iter().collect(),
            redis: self.bus.server(),
            redis_addr: self.bus.addr(),
            subscriptions: self.subscriptions,
            links: &self.links,
        }
    }

    /// Where a listener connects.
    pub(crate) fn listener(&self, n: usize) -> SocketAddr {
        self.links[n].1.addr()
    }

    /// Where a writer connects.
    pub(crate) fn writer(&self, n: usize) -> SocketAddr {
        self.writers_links[n].addr()
    }

    /// Ends the processes. The clients are gone by now; connections that were silenced are not.
    pub(crate) async fn stop(self) {
        for (_, link) in &self.links {
            link.cut();
        }
        self.haproxy.stop().await;
        for server in &self.servers {
            server.stop().await;
        }
        self.bus.server().stop().await;
    }
}

/// The channels, which need not be made where nobody keeps them.
pub(crate) fn channel(n: usize) -> ChannelId {
    ChannelId::new(ChannelLetter::Channel, number(n)).expect("numbers from 1")
}

/// The writers' users.
pub(crate) fn writer_user(n: usize) -> UserId {
    UserId::new(number(n)).expect("numbers from 1")
}

/// The listeners' users.
pub(crate) fn listener_user(n: usize) -> UserId {
    UserId::new(number(WRITERS + n)).expect("numbers from 1")
}

fn number(n: usize) -> i64 {
    i64::try_from(n + 1).expect("a few dozen")
}
