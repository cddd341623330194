//! A Redis server of one's own. It keeps nothing on disk: the bus forgets.

mod resp;

use crate::port::Port;
use crate::process::Spec;
use crate::server::{Ready, Server};
use anyhow::Result;
use nix::sys::signal::Signal;
use std::net::SocketAddr;
use std::ops::Deref;
use std::path::Path;
use std::time::Duration;

/// A Redis process on loopback.
#[derive(Debug)]
pub struct Redis {
    server: Server,
    port: Port,
}

impl Redis {
    /// Starts Redis on `port` with its log and working directory in `dir`.
    ///
    /// # Errors
    /// When it does not start: the error has the end of its log.
    pub async fn launch(dir: &Path, port: Port) -> Result<Self> {
        std::fs::create_dir_all(dir)?;
        let number = port.number().to_string();
        let dir_arg = dir.display().to_string();
        let mut argv = vec!["redis-server", "--bind", "127.0.0.1", "--port", &number];
        argv.extend(["--dir", &dir_arg, "--save", "", "--appendonly", "no"]);
        argv.extend(["--maxmemory-policy", "noeviction", "--timeout", "0"]);
        argv.extend(["--tcp-keepalive", "15", "--daemonize", "no"]);
        argv.extend(["--client-output-buffer-limit", "pubsub 64mb 16mb 30"]);
        let spec = Spec {
            name: "redis".to_owned(),
            argv: argv.into_iter().map(str::to_owned).collect(),
            env: Vec::new(),
            log: dir.join("redis.log"),
            run_as: None,
            stop_signal: Signal::SIGTERM,
            stop_grace: Duration::from_secs(3),
        };
        let ready = Ready::Redis(port.addr());
        let server = Server::new(spec, ready, Duration::from_secs(15));
        server.start().await?;
        Ok(Self { server, port })
    }

    /// Host and port.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.port.addr()
    }

    /// Runs one command, say `["CLIENT", "KILL", "TYPE", "pubsub"]`, on a connection of its own
    /// and returns its answer as text: an array has one element a line, nil is empty.
    ///
    /// # Errors
    /// Redis' own message; or there is no answer within five seconds.
    pub async fn command(&self, words: &[&str]) -> Result<String> {
        resp::command(self.addr(), words).await
    }

    /// `redis://127.0.0.1:<port>`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://{}", self.port.addr())
    }
}

/// All that can be done to a server.
impl Deref for Redis {
    type Target = Server;
    fn deref(&self) -> &Server {
        &self.server
    }
}
