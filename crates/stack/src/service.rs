//! Our own programs as child processes.

use crate::haproxy::Backend;
use crate::port::Port;
use crate::process::Spec;
use crate::server::{Ready, Server};
use nix::sys::signal::Signal;
use std::net::SocketAddr;
use std::ops::Deref;
use std::path::Path;
use std::time::Duration;

/// An edge that drains takes up to its own grace of 35 s; past this it is killed.
const STOP_GRACE: Duration = Duration::from_secs(40);
const START_LIMIT: Duration = Duration::from_secs(30);

/// Which of our programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// `hubbub-edge-server`
    Edge,
    /// `hubbub-api-server`
    Api,
    /// `hubbub-consumer`
    Consumer,
}

impl Role {
    /// Stands in names: `edge-1`.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Edge => "edge",
            Self::Api => "api",
            Self::Consumer => "consumer",
        }
    }

    fn program(self) -> &'static str {
        match self {
            Self::Edge => "hubbub-edge-server",
            Self::Api => "hubbub-api-server",
            Self::Consumer => "hubbub-consumer",
        }
    }

    /// The port before that of the first one, for clients and for operators.
    pub(crate) fn standard_ports(self) -> (Option<u16>, u16) {
        match self {
            Self::Edge => (Some(8100), 9100),
            Self::Api => (Some(8200), 9200),
            Self::Consumer => (None, 9300),
        }
    }
}

/// An edge server, API server or consumer of the stack.
#[derive(Debug)]
pub struct Service {
    server: Server,
    role: Role,
    /// A consumer has none.
    listen: Option<Port>,
    ops: Port,
}

impl Service {
    /// Describes number `n` (from 1) of its role; nothing runs yet.
    pub(crate) fn new(
        role: Role,
        n: usize,
        (listen, ops): (Option<Port>, Port),
        mut env: Vec<(String, String)>,
        bin_dir: &Path,
        log_dir: &Path,
    ) -> Self {
        let name = format!("{}-{n}", role.word());
        let mut set = |key: &str, value: String| env.push((key.to_owned(), value));
        set("HUBBUB_POD_ID", name.clone());
        set("HUBBUB_OPS_ADDR", ops.addr().to_string());
        if let Some(listen) = &listen {
            set("HUBBUB_LISTEN", listen.addr().to_string());
        }
        let spec = Spec {
            argv: vec![bin_dir.join(role.program()).display().to_string()],
            env,
            log: log_dir.join(format!("{name}.log")),
            name,
            run_as: None,
            stop_signal: Signal::SIGTERM,
            stop_grace: STOP_GRACE,
        };
        let ready = Ready::Http(ops.addr(), "/readyz".to_owned());
        Self {
            server: Server::new(spec, ready, START_LIMIT),
            role,
            listen,
            ops,
        }
    }

    /// Where clients connect.
    ///
    /// # Panics
    /// A consumer has no such port.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        let listen = self.listen.as_ref();
        listen
            .expect("only edges and API servers have clients")
            .addr()
    }

    /// `/livez`, `/readyz`, `/metrics`, `/debug/state`.
    #[must_use]
    pub fn ops_addr(&self) -> SocketAddr {
        self.ops.addr()
    }

    /// Which program it is.
    #[must_use]
    pub fn role(&self) -> Role {
        self.role
    }

    pub(crate) fn backend(&self) -> Backend {
        Backend {
            name: self.server.name(),
            addr: self.addr(),
            ops: self.ops_addr(),
        }
    }
}

/// All that can be done to a server.
impl Deref for Service {
    type Target = Server;
    fn deref(&self) -> &Server {
        &self.server
    }
}
