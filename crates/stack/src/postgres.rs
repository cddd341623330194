//! A Postgres cluster of one's own.

mod psql;
mod template;
pub(crate) mod wire;

pub(crate) use psql::sql;

use crate::port::Port;
use crate::process::{RunAs, Spec};
use crate::server::{Ready, Server};
use anyhow::{Context, Result};
use nix::sys::signal::Signal;
use std::net::SocketAddr;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

/// Statements of this crate (creating and dropping databases) must answer within this.
const STATEMENT: Duration = Duration::from_secs(30);
/// What sessions of [`Postgres::sql`] are called in `pg_stat_activity`.
const SQL_APPLICATION: &str = "hubbub-stack";
/// An immediate stop writes nothing, so it is a matter of milliseconds.
const STOP_NOW: Duration = Duration::from_secs(5);

/// Whether an acknowledged commit survives a crash of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// `fsync` and everything around it on.
    Durable,
    /// No `fsync`: for throw-away test servers only. A killed *cluster* still loses nothing.
    ThrowAway,
}

/// A Postgres cluster on loopback; user `postgres`, no password.
#[derive(Debug)]
pub struct Postgres {
    server: Server,
    port: Port,
    data: PathBuf,
}

impl Postgres {
    /// Starts the cluster `name` with its data in `dir/data` (made if missing) on `port`.
    ///
    /// # Errors
    /// When Postgres is not installed, or does not start: the error has the end of its log.
    pub async fn launch(
        name: &str,
        dir: &Path,
        port: Port,
        durability: Durability,
    ) -> Result<Self> {
        let bin = bin_dir()?;
        let run_as = unprivileged()?;
        let (home, at) = (dir.to_owned(), bin.clone());
        let data = tokio::task::spawn_blocking(move || template::prepare(&at, run_as, &home))
            .await
            .context("prepare the data directory")??;
        let mut settings = vec![
            "listen_addresses=127.0.0.1",
            // Not used; a socket's path has to stay under 107 bytes, which a checkout's may not.
            "unix_socket_directories=",
            "max_connections=300",
            "idle_in_transaction_session_timeout=10s",
            "log_min_duration_statement=1s",
            "shared_buffers=64MB",
        ];
        if durability == Durability::ThrowAway {
            // Commits are still written before they are acknowledged: without that a kill of all
            // the processes would lose the newest.
            settings.extend(["fsync=off", "full_page_writes=off"]);
        }
        let mut argv = vec![bin.join("postgres").display().to_string()];
        argv.extend(["-D".to_owned(), data.display().to_string()]);
        argv.extend(["-p".to_owned(), port.number().to_string()]);
        for setting in settings {
            argv.extend(["-c".to_owned(), setting.to_owned()]);
        }
        let spec = Spec {
            name: name.to_owned(),
            argv,
            env: Vec::new(),
            log: dir.join(format!("{name}.log")),
            run_as,
            stop_signal: Signal::SIGINT, // "fast": ends sessions, writes a checkpoint
            stop_grace: Duration::from_secs(15),
        };
        let ready = Ready::Postgres(port.addr());
        let server = Server::new(spec, ready, Duration::from_secs(60));
        // Left by a kill -9. The pid in it may be a stranger's by now, and then Postgres would not
        // start; the directory is ours alone, so the file guards nothing.
        let server = server.with_stale_file(data.join("postmaster.pid"));
        server.start().await?;
        Ok(Self { server, port, data })
    }

    /// Removes the data of a cluster that is not running, wherever it was put for `dir`.
    ///
    /// # Errors
    /// When something cannot be removed.
    pub fn remove(dir: &Path) -> Result<()> {
        template::remove(dir)
    }

    /// Host and port.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.port.addr()
    }

    /// The URL of one of the cluster's databases.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        format!("postgres://postgres@{}/{database}", self.addr())
    }

    /// Runs one or more statements, as one transaction, in a database and returns what they say: a line a row, columns
    /// separated by `|`. Dropping the future ends the statement, and what it locks is free, within
    /// a fraction of a second. Its session has the application name `hubbub-stack`.
    ///
    /// # Errors
    /// The server's own message; or there is no answer within a minute.
    pub async fn sql(&self, database: &str, statement: &str) -> Result<String> {
        psql::sql(self.addr(), database, statement).await
    }

    /// An immediate stop: every session is cut and no checkpoint is written, so that the next
    /// start recovers from the log. Says how the postmaster ended.
    pub async fn stop_immediately(&self) -> Option<ExitStatus> {
        self.stop_by(Signal::SIGQUIT, STOP_NOW).await
    }

    /// Where the data is.
    #[must_use]
    pub fn data_dir(&self) -> &Path {
        &self.data
    }
}

/// All that can be done to a server.
impl Deref for Postgres {
    type Target = Server;
    fn deref(&self) -> &Server {
        &self.server
    }
}

/// Runs statements in database `postgres` of a local cluster that trusts us.
///
/// # Errors
/// The server's own message.
pub(crate) fn run_sql(addr: SocketAddr, statements: &[String]) -> Result<()> {
    let mut session =
        wire::Session::open(addr, "postgres", STATEMENT).context("connect to Postgres")?;
    for sql in statements {
        session.run(sql).with_context(|| format!("run `{sql}`"))?;
    }
    Ok(())
}

/// Where `initdb` and `postgres` are: Debian keeps them out of PATH, one directory a version.
///
/// # Errors
/// When they are not installed.
pub(crate) fn bin_dir() -> Result<PathBuf> {
    let mut versions: Vec<(u32, PathBuf)> = Vec::new();
    let entries = std::fs::read_dir("/usr/lib/postgresql").into_iter();
    for entry in entries.flatten().flatten() {
        let bin = entry.path().join("bin");
        let version = entry.file_name().to_str().and_then(|v| v.parse().ok());
        if let (Some(version), true) = (version, bin.join("initdb").exists()) {
            versions.push((version, bin));
        }
    }
    if let Some((_, bin)) = versions.into_iter().max() {
        return Ok(bin);
    }
    let found = crate::environment::find_program("initdb");
    let bin = found.and_then(|program| program.parent().map(Path::to_owned));
    bin.context("Postgres is not installed: apt-get install --no-install-recommends postgresql")
}

/// Whom to run as: nobody else, unless this is root, whom Postgres refuses.
pub(crate) fn unprivileged() -> Result<Option<RunAs>> {
    if !nix::unistd::geteuid().is_root() {
        return Ok(None);
    }
    for name in ["postgres", "nobody"] {
        if let Some(user) = nix::unistd::User::from_name(name).context("read the user table")? {
            return Ok(Some(RunAs {
                uid: user.uid.as_raw(),
                gid: user.gid.as_raw(),
            }));
        }
    }
    anyhow::bail!(
        "Postgres does not run as root, and there is neither a user `postgres` nor `nobody`"
    )
}

/// Gives a path to the server's user.
fn own(path: &Path, run_as: Option<RunAs>) -> Result<()> {
    if let Some(RunAs { uid, gid }) = run_as {
        std::os::unix::fs::chown(path, Some(uid), Some(gid))
            .with_context(|| format!("give {} to the server's user", path.display()))?;
    }
    Ok(())
}
