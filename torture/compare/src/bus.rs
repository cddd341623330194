//! The Redis of one system.

use std::{net::SocketAddr, path::Path, time::Duration};

use anyhow::{Context, Result, ensure};
use hubbub_stack::{Port, Ready, Redis, Server, Spec};
use nix::sys::signal::Signal;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

const ANSWER: Duration = Duration::from_secs(5);
const START_LIMIT: Duration = Duration::from_secs(15);

/// A Redis, with or without a memory of its own.
#[derive(Debug)]
pub(crate) enum Bus {
    /// As Hubbub runs it: it keeps nothing.
    Forgets(Redis),
    /// It keeps what it is told in an append-only file, written out every second.
    Keeps(Server, Port),
}

impl Bus {
    /// As Hubbub runs it.
    pub(crate) async fn forgetting(dir: &Path) -> Result<Self> {
        Ok(Self::Forgets(Redis::launch(dir, Port::free()?).await?))
    }

    /// With an append-only file in `dir`: for those who keep a stream in it.
    pub(crate) async fn keeping(dir: &Path) -> Result<Self> {
        std::fs::create_dir_all(dir).with_context(|| format!("create {}", dir.display()))?;
        let port = Port::free()?;
        let number = port.number().to_string();
        let at = dir.display().to_string();
        let argv = [
            ["redis-server", "--bind", "127.0.0.1", "--port"].as_slice(),
            &[&number, "--dir", &at, "--save", ""],
            &["--appendonly", "yes", "--appendfsync", "everysec"],
        ];
        let spec = Spec {
            name: "redis".to_owned(),
            argv: argv.concat().into_iter().map(str::to_owned).collect(),
            env: Vec::new(),
            log: dir.join("redis.log"),
            run_as: None,
            stop_signal: Signal::SIGTERM,
            stop_grace: Duration::from_secs(3),
        };
        let server = Server::new(spec, Ready::Redis(port.addr()), START_LIMIT);
        server.start().await?;
        Ok(Self::Keeps(server, port))
    }

    /// The process.
    pub(crate) fn server(&self) -> &Server {
        match self {
            Self::Forgets(redis) => redis,
            Self::Keeps(server, _) => server,
        }
    }

    /// Where it listens.
    pub(crate) fn addr(&self) -> SocketAddr {
        match self {
            Self::Forgets(redis) => redis.addr(),
            Self::Keeps(_, port) => port.addr(),
        }
    }
}

/// Has Redis kill its connections of a type (`pubsub`, `normal`). Returns how many there were.
pub(crate) async fn kill_connections(redis: SocketAddr, kind: &str) -> Result<u64> {
    let exchange = async {
        let mut stream = TcpStream::connect(redis).await?;
        let command = format!("CLIENT KILL TYPE {kind}\r\nQUIT\r\n");
        stream.write_all(command.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        std::io::Result::Ok(answer)
    };
    let answer = timeout(ANSWER, exchange).await;
    let answer = answer.context("Redis does not answer")??;
    let count = answer.lines().next().and_then(|l| l.strip_prefix(':'));
    ensure!(count.is_some(), "Redis answered {answer:?}");
    count.unwrap_or_default().parse().context("read the count")
}
