//! Other servers, each set up as its own documentation says for production, with versions pinned.
//!
//! A peer is started as child processes on free loopback ports and is ready when [`start`] returns;
//! it ends with [`Running::stop`] or when it is dropped, by process id. What cannot be had on a
//! machine is [`Unavailable`], which is a row of the table and no error.
//!
//! uWebSockets.js is not among them: its authors do not publish it in the npm registry.

pub mod debian;

mod centrifugo;
mod nats;
mod nchan;
mod node;
mod npm;
mod programs;

use std::{fmt, path::PathBuf};

use anyhow::Context;
use hubbub_stack::{Port, Redis, Server};

/// Which server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// `ws`, the WebSocket library of Node.js, with the smallest chat server on it.
    Ws,
    /// socket.io on one server.
    SocketIo,
    /// Two socket.io servers with the Redis adapter between them.
    SocketIoRedis,
    /// nginx with Nchan.
    Nchan,
    /// The NATS server, over WebSocket.
    Nats,
    /// Centrifugo with its memory engine, where `CENTRIFUGO` names its program.
    Centrifugo,
    /// Express answering `GET /page/<bytes>` with so many bytes, made once.
    ExpressHello,
    /// Express and pg answering `GET /channels/<id>/messages?before=&limit=50` out of a shard.
    ExpressPg,
}

impl Peer {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Ws,
        Self::SocketIo,
        Self::SocketIoRedis,
        Self::Nchan,
        Self::Nats,
        Self::Centrifugo,
        Self::ExpressHello,
        Self::ExpressPg,
    ];

    /// As tables call it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Ws => "ws",
            Self::SocketIo => "socket.io",
            Self::SocketIoRedis => "socket.io + Redis",
            Self::Nchan => "Nchan",
            Self::Nats => "NATS",
            Self::Centrifugo => "Centrifugo",
            Self::ExpressHello => "Express",
            Self::ExpressPg => "Express + pg",
        }
    }

    /// Whether it is one of Debian's packages, which [`debian::install`] fetches.
    #[must_use]
    pub fn is_packaged_by_debian(self) -> bool {
        matches!(self, Self::Nchan | Self::Nats)
    }
}

/// How a peer is to be started.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// Its files and logs; made if missing.
    pub dir: PathBuf,
    /// The core for all its processes, if it is to have one.
    pub cpu: Option<usize>,
    /// The Redis between two servers; without it they get one of their own.
    pub redis_url: Option<String>,
    /// The shard's database for [`Peer::ExpressPg`], which needs one.
    pub postgres_url: Option<String>,
}

/// Why there is no peer to be measured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unavailable {
    /// In words, for the table.
    pub why: String,
    /// It is there and does not work, which is somebody's mistake. Otherwise this machine just
    /// does not have it.
    pub broken: bool,
}

impl Unavailable {
    fn absent(why: impl Into<String>) -> Self {
        Self {
            why: why.into(),
            broken: false,
        }
    }
}

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
}

impl std::error::Error for Unavailable {}

impl From<anyhow::Error> for Unavailable {
    fn from(error: anyhow::Error) -> Self {
        Self {
            why: format!("{error:#}"),
            broken: true,
        }
    }
}

/// A peer that serves. Dropping it kills it.
#[derive(Debug)]
pub struct Running {
    /// What the load client calls its language; `http` for the ones that answer requests.
    pub dialect: &'static str,
    /// Where receivers connect; the load client puts a channel's name in place of `{channel}`.
    pub url: String,
    /// Where publishers connect, if it is not there: for two servers the other one.
    pub publish_url: Option<String>,
    /// Every process of the peer's servers, workers included; not Redis.
    pub pids: Vec<u32>,
    /// Of those, the ones of the server that receivers are connected to.
    pub receiver_pids: Vec<u32>,
    /// Of a Redis of its own.
    pub redis_pid: Option<u32>,
    /// Names and versions of what runs.
    pub version: String,
    servers: Vec<Server>,
    redis: Option<Redis>,
    /// Reserved as long as it runs.
    ports: Vec<Port>,
}

impl Running {
    /// Asks every process to end, and kills those that do not within two seconds.
    pub async fn stop(self) {
        for server in &self.servers {
            server.stop().await;
        }
        if let Some(redis) = &self.redis {
            redis.stop().await;
        }
        drop(self.ports);
    }
}

/// Starts a peer, and waits until it serves. What Node.js needs is installed on first use; Debian's
/// packages are not: see [`debian::install`].
///
/// # Errors
/// When it is not to be had here, or does not start: then with the end of its log.
pub async fn start(peer: Peer, settings: &Settings) -> Result<Running, Unavailable> {
    let place = programs::Place::new(&settings.dir, settings.cpu)?;
    match peer {
        Peer::Ws => node::ws(&place).await,
        Peer::SocketIo => node::socketio(&place).await,
        Peer::SocketIoRedis => node::socketio_redis(&place, settings.redis_url.as_deref()).await,
        Peer::Nchan => nchan::start(&place).await,
        Peer::Nats => nats::start(&place).await,
        Peer::Centrifugo => centrifugo::start(&place).await,
        Peer::ExpressHello => node::express_hello(&place).await,
        Peer::ExpressPg => {
            let url = settings.postgres_url.as_deref();
            node::express_pg(&place, url.context("Express has no database to read")?).await
        }
    }
}
