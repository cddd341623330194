//! HAProxy in front of edges and API servers.

use crate::environment::find_program;
use crate::port::Port;
use crate::process::Spec;
use crate::server::{Ready, Server};
use anyhow::{Context, Result};
use nix::sys::signal::Signal;
use std::fmt::Write;
use std::net::SocketAddr;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::{Instant, sleep, timeout};

/// The configuration that compose.yaml uses too, without the backends.
const COMMON: &str = include_str!("../../../haproxy/haproxy.cfg");
/// A notch under what an edge takes, so that its own refusal is not needed.
const EDGE_MAXCONN: u32 = 9_500;
const API_MAXCONN: u32 = 2_000;
/// Path lengths of Unix sockets end here.
const SOCKET_PATH_MAX: usize = 100;
/// For an answer on the runtime socket.
const ANSWER: Duration = Duration::from_secs(5);
/// The whole of a reload.
const RELOAD_LIMIT: Duration = Duration::from_secs(15);
/// A master that has just started executes itself anew and loses a signal that comes then.
const RELOAD_AGAIN: Duration = Duration::from_secs(2);
const POLL: Duration = Duration::from_millis(10);
/// All local clients have one address, so the limits per address must not bite.
const LOCAL_LIMIT: &str = "1000000";

/// A server behind HAProxy.
#[derive(Debug, Clone)]
pub struct Backend {
    /// Its name on the stats page.
    pub name: String,
    /// Where clients are sent.
    pub addr: SocketAddr,
    /// Where `/readyz` is.
    pub ops: SocketAddr,
}

/// What one of several HAProxies serves.
#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) name: String,
    pub(crate) edges: Vec<Backend>,
    pub(crate) apis: Vec<Backend>,
    /// Those that browsers may come from.
    pub(crate) origins: Vec<String>,
    /// Size of the kernel's buffers on the way from a server to a client; its own choice
    /// (megabytes) if absent.
    pub(crate) buffer_bytes: Option<u32>,
}

/// The ports that HAProxy listens on.
#[derive(Debug)]
pub struct FrontPorts {
    /// For everybody.
    pub front: Port,
    /// The stats page.
    pub stats: Port,
}

/// A HAProxy process on loopback.
#[derive(Debug)]
pub struct Haproxy {
    server: Server,
    ports: FrontPorts,
    socket: PathBuf,
    /// Where the socket is if `dir` was too long for it.
    _socket_dir: Option<tempfile::TempDir>,
}

impl Haproxy {
    /// Starts HAProxy with its configuration in `dir`. `origins` are those that browsers may
    /// come from.
    ///
    /// # Errors
    /// When it is not installed, or does not start: the error has the end of its log.
    pub async fn launch(
        dir: &Path,
        ports: FrontPorts,
        edges: &[Backend],
        apis: &[Backend],
        origins: &[String],
    ) -> Result<Self> {
        let site = Site {
            name: "haproxy".to_owned(),
            edges: edges.to_vec(),
            apis: apis.to_vec(),
            origins: origins.to_vec(),
            buffer_bytes: None,
        };
        Self::launch_site(dir, ports, &site).await
    }

    pub(crate) async fn launch_site(dir: &Path, ports: FrontPorts, site: &Site) -> Result<Self> {
        std::fs::create_dir_all(dir).with_context(|| format!("create {}", dir.display()))?;
        let program = find_program("haproxy")
            .context("HAProxy is not installed: apt-get install --no-install-recommends haproxy")?;
        let write = |name: &str, text: &str| -> Result<String> {
            let path = dir.join(name);
            std::fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
            Ok(path.display().to_string())
        };
        let common = write("haproxy.cfg", COMMON)?;
        let backends = write("backends.cfg", &backends(site))?;
        let origins = write("origins.lst", &(site.origins.join("\n") + "\n"))?;
        let (socket, socket_dir) = socket(dir)?;
        let env = [
            ("HUBBUB_FRONT", ports.front.addr().to_string()),
            ("HUBBUB_STATS", ports.stats.addr().to_string()),
            ("HUBBUB_HAPROXY_SOCKET", socket.display().to_string()),
            ("HUBBUB_ORIGINS", origins),
            ("HUBBUB_SOURCE_CONNS", LOCAL_LIMIT.to_owned()),
            ("HUBBUB_SOURCE_REQUESTS", LOCAL_LIMIT.to_owned()),
        ];
        let program = program.display().to_string();
        let spec = Spec {
            name: site.name.clone(),
            argv: [&program, "-W", "-f", &common, "-f", &backends]
                .map(str::to_owned)
                .to_vec(),
            env: env.map(|(key, value)| (key.to_owned(), value)).to_vec(),
            log: dir.join("haproxy.log"),
            run_as: None,
            stop_signal: Signal::SIGTERM,
            stop_grace: Duration::from_secs(3),
        };
        let ready = Ready::Http(ports.stats.addr(), "/".to_owned());
        let server = Server::new(spec, ready, Duration::from_secs(10));
        server.start().await?;
        Ok(Self {
            server,
            ports,
            socket,
            _socket_dir: socket_dir,
        })
    }

    /// The front port.
    #[must_use]
    pub fn front(&self) -> SocketAddr {
        self.ports.front.addr()
    }

    /// The stats page.
    #[must_use]
    pub fn stats(&self) -> SocketAddr {
        self.ports.stats.addr()
    }

    /// The runtime socket.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Runs one command, say `show stat`, on the runtime socket. HAProxy's complaints are answers,
    /// too.
    ///
    /// # Errors
    /// When it does not answer within five seconds.
    pub async fn command(&self, command: &str) -> Result<String> {
        let exchange = async {
            let mut stream = UnixStream::connect(&self.socket).await?;
            stream.write_all(format!("{command}\n").as_bytes()).await?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await?;
            std::io::Result::Ok(answer)
        };
        let answer = timeout(ANSWER, exchange).await;
        let answer = answer.with_context(|| format!("HAProxy does not answer in {ANSWER:?}"))?;
        answer.with_context(|| format!("run `{command}` on HAProxy"))
    }

    /// The process that takes new connections: another one after a reload.
    ///
    /// # Errors
    /// As [`Haproxy::command`].
    pub async fn worker(&self) -> Result<u32> {
        let info = self.command("show info").await?;
        let pid = info.lines().find_map(|line| line.strip_prefix("Pid: "));
        let pid = pid.context("find the worker in `show info`")?;
        pid.trim().parse().context("parse the worker's number")
    }

    /// Reloads and waits until the new worker takes connections; says which it is.
    ///
    /// # Errors
    /// When that is not so after a while.
    pub async fn reloaded(&self) -> Result<u32> {
        let before = self.worker().await?;
        let deadline = Instant::now() + RELOAD_LIMIT;
        while Instant::now() < deadline {
            self.reload();
            let again = Instant::now() + RELOAD_AGAIN;
            while Instant::now() < again {
                // Between the two workers nobody may answer.
                match self.worker().await {
                    Ok(now) if now != before => return Ok(now),
                    _ => sleep(POLL).await,
                }
            }
        }
        Err(self.server.failure("has no new worker after a reload"))
    }

    /// Reads the configuration again in a new worker; the old one keeps its connections. Returns
    /// before that is done; soon after a start it may be ignored.
    pub fn reload(&self) {
        self.server.signal(Signal::SIGUSR2);
    }
}

/// All that can be done to a server.
impl Deref for Haproxy {
    type Target = Server;
    fn deref(&self) -> &Server {
        &self.server
    }
}

fn socket(dir: &Path) -> Result<(PathBuf, Option<tempfile::TempDir>)> {
    let near = dir.join("haproxy.sock");
    if near.as_os_str().len() <= SOCKET_PATH_MAX {
        return Ok((near, None));
    }
    let short = tempfile::Builder::new().prefix("hubbub-").tempdir()?;
    Ok((short.path().join("haproxy.sock"), Some(short)))
}

fn backends(site: &Site) -> String {
    let mut text = "# Written by hubbub-stack: the servers of this run.\n".to_owned();
    if let Some(bytes) = site.buffer_bytes {
        writeln!(
            text,
            "global\n    tune.rcvbuf.server {bytes}\n    tune.sndbuf.client {bytes}\n"
        )
        .expect("writing to a string cannot fail");
    }
    text.push_str("backend edges from backends\n    balance roundrobin\n");
    servers(&mut text, &site.edges, EDGE_MAXCONN);
    text.push_str("\nbackend apis from backends\n    balance roundrobin\n");
    text.push_str("    # A read may be tried on the other server; a send never is.\n");
    text.push_str("    retry-on conn-failure empty-response\n");
    text.push_str("    http-request disable-l7-retry unless METH_GET\n");
    servers(&mut text, &site.apis, API_MAXCONN);
    text
}

fn servers(text: &mut String, servers: &[Backend], maxconn: u32) {
    for Backend { name, addr, ops } in servers {
        writeln!(
            text,
            "    server {name} {addr} check addr {} port {} maxconn {maxconn}",
            ops.ip(),
            ops.port()
        )
        .expect("writing to a string cannot fail");
    }
}
