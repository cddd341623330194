//! A process that is a server: it has a way to tell that it is ready.

use crate::probe;
use crate::process::{Process, Spec};
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::ops::Deref;
use std::path::PathBuf;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

/// Pause between two looks at a server that is not ready yet.
const POLL: Duration = Duration::from_millis(20);
/// One probe may take this long.
const PROBE: Duration = Duration::from_secs(1);

/// How to tell that a server is ready: always by its own protocol, never by an open port alone.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ready {
    /// `PING` answers `+PONG`.
    Redis(SocketAddr),
    /// The log says that it started, and a metadata request is answered with a broker.
    Kafka(SocketAddr),
    /// A session is opened and `select 1` answers.
    Postgres(SocketAddr),
    /// `GET` of this path answers 200.
    Http(SocketAddr, String),
}

impl Ready {
    /// Where the question is asked.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        match self {
            Self::Redis(addr) | Self::Kafka(addr) | Self::Postgres(addr) => *addr,
            Self::Http(addr, _) => *addr,
        }
    }

    /// Asks once, for a second at most.
    pub async fn answers(&self) -> bool {
        let probe = async {
            match self {
                Self::Redis(addr) => probe::redis_ping(*addr).await,
                Self::Kafka(addr) => probe::kafka_metadata(*addr).await,
                Self::Postgres(addr) => probe::postgres(*addr).await,
                Self::Http(addr, path) => probe::http_ok(*addr, path).await,
            }
        };
        timeout(PROBE, probe).await.unwrap_or(false)
    }

    /// A broker answers before it is done with its start, hence the look into its log.
    async fn says_started(&self, process: &Process) -> bool {
        let logged = match self {
            Self::Kafka(_) => process.log_since_start().contains("Kafka Server started"),
            _ => true,
        };
        logged && self.answers().await
    }
}

/// A child process and its readiness check. Everything that can be done to the process
/// ([`Process`]) can be done to the server.
#[derive(Debug)]
pub struct Server {
    process: Process,
    ready: Ready,
    start_limit: Duration,
    /// Removed before a start, because a kill -9 leaves it behind.
    stale_file: Option<PathBuf>,
}

impl Server {
    /// Describes a server; nothing runs yet. `start_limit` bounds the wait for readiness.
    #[must_use]
    pub fn new(spec: Spec, ready: Ready, start_limit: Duration) -> Self {
        Self {
            process: Process::new(spec),
            ready,
            start_limit,
            stale_file: None,
        }
    }

    /// Names a file that is removed before each start.
    pub(crate) fn with_stale_file(mut self, path: PathBuf) -> Self {
        self.stale_file = Some(path);
        self
    }

    /// Starts the server and waits until it is ready. A server that runs is left alone.
    ///
    /// # Errors
    /// When it ends or is not ready in time: the error has the end of its log.
    pub async fn start(&self) -> Result<()> {
        let remove_stale = || match &self.stale_file {
            Some(stale) if stale.exists() => {
                std::fs::remove_file(stale).context("remove a stale file")
            }
            _ => Ok(()),
        };
        self.process.spawn_after(remove_stale).await?;
        self.wait_ready().await
    }

    /// Waits until the running server is ready.
    ///
    /// # Errors
    /// When it ends or is not ready in time: the error has the end of its log.
    pub async fn wait_ready(&self) -> Result<()> {
        let deadline = Instant::now() + self.start_limit;
        while !self.ready.says_started(&self.process).await {
            if !self.process.is_running() {
                return Err(self.process.failure("ended while it started"));
            }
            if Instant::now() >= deadline {
                let what = format!("is not ready after {:?}", self.start_limit);
                return Err(self.process.failure(&what));
            }
            sleep(POLL).await;
        }
        Ok(())
    }

    /// How to ask it whether it is ready.
    #[must_use]
    pub fn ready(&self) -> &Ready {
        &self.ready
    }

    /// Whether the server answers now.
    pub async fn is_ready(&self) -> bool {
        self.process.is_running() && self.ready.answers().await
    }

    /// An orderly stop and a start on the same port.
    ///
    /// # Errors
    /// As [`Server::start`].
    pub async fn restart(&self) -> Result<()> {
        self.process.stop().await;
        self.start().await
    }
}

/// A server is a process with more to say.
impl Deref for Server {
    type Target = Process;
    fn deref(&self) -> &Process {
        &self.process
    }
}
