//! A supervised child process: started, watched, signalled, never left behind.

mod family;

use crate::spawner;
use anyhow::{Context, Result, bail};
use family::Member;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;
use parking_lot::Mutex;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::{Semaphore, watch};

/// How much of the end of a log is searched for its last lines.
const LOG_TAIL_BYTES: u64 = 64 * 1024;

/// A user to run a child as: Postgres refuses to run as root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RunAs {
    /// Numeric user id.
    pub uid: u32,
    /// Numeric group id.
    pub gid: u32,
}

/// What to run.
#[derive(Debug, Clone)]
pub struct Spec {
    /// Short name for messages: `redis`, `edge-1`.
    pub name: String,
    /// Program and arguments.
    pub argv: Vec<String>,
    /// Added to the inherited environment.
    pub env: Vec<(String, String)>,
    /// Standard output and error are appended here.
    pub log: PathBuf,
    /// Another user, if it must not run as this one.
    pub run_as: Option<RunAs>,
    /// The signal that asks for an orderly end.
    pub stop_signal: Signal,
    /// How long the orderly end may take before SIGKILL.
    pub stop_grace: Duration,
}

/// A child process that can be started again after it ended. It dies with this process.
///
/// Everything may be called at any time from anywhere: what ends a process means the incarnation
/// that ran when it was called, and of two that start it one does.
#[derive(Debug)]
pub struct Process {
    /// Behind a lock, because a test may change the environment between two starts.
    spec: Mutex<Spec>,
    /// The newest incarnation, alive or dead; `None` before the first start.
    run: Mutex<Option<Run>>,
    /// Held by whoever starts it.
    turn: Semaphore,
    /// Of the newest incarnation: joined when dropped, so that a directory can be removed then.
    waiter: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug, Clone)]
struct Run {
    pid: Pid,
    /// True once the pid was given back to the kernel. Signals are sent under this lock and only
    /// while it is false, so that they can never reach a stranger with the same number.
    reaped: Arc<Mutex<bool>>,
    exit: watch::Receiver<Option<ExitStatus>>,
    /// Those that were killed with it. They may be there for a moment longer than it.
    killed: Arc<Mutex<Vec<Member>>>,
    /// Length of the log when this incarnation started.
    log_mark: u64,
}

impl Process {
    /// Describes a process; nothing runs yet.
    #[must_use]
    pub fn new(spec: Spec) -> Self {
        Self {
            spec: Mutex::new(spec),
            run: Mutex::new(None),
            turn: Semaphore::new(1),
            waiter: Mutex::new(None),
        }
    }

    /// The short name.
    #[must_use]
    pub fn name(&self) -> String {
        self.spec.lock().name.clone()
    }

    /// Where standard output and error go.
    #[must_use]
    pub fn log_path(&self) -> PathBuf {
        self.spec.lock().log.clone()
    }

    /// Sets an environment variable for the next start.
    pub fn set_env(&self, key: &str, value: &str) {
        let mut spec = self.spec.lock();
        spec.env.retain(|(k, _)| k != key);
        spec.env.push((key.to_owned(), value.to_owned()));
    }

    /// Removes an environment variable from the next start.
    pub fn unset_env(&self, key: &str) {
        self.spec.lock().env.retain(|(k, _)| k != key);
    }

    /// Starts the process if it does not run; returns when it was started, not when it is ready.
    ///
    /// # Errors
    /// When the program or its log file cannot be opened.
    pub async fn spawn(&self) -> Result<()> {
        self.spawn_after(|| Ok(())).await
    }

    /// [`Process::spawn`] that does something first, if it does start the process.
    pub(crate) async fn spawn_after(&self, prepare: impl FnOnce() -> Result<()>) -> Result<()> {
        // Whoever has the turn gives it back as soon as the process is started.
        let turn = self.turn.acquire().await;
        let _turn = turn.expect("the semaphore is never closed");
        if self.is_running() {
            return Ok(());
        }
        let killed = self
            .newest()
            .map_or(Vec::new(), |run| run.killed.lock().clone());
        family::until_gone(&killed).await;
        prepare()?;
        let spec = self.spec.lock().clone();
        let log = open_log(&spec.log)?;
        let log_mark = log.metadata().context("read the log's length")?.len();
        let child = spawner::spawn(command(&spec, &log)?)
            .await
            .with_context(|| format!("start {}: {}", spec.name, spec.argv[0]))?;
        let (run, waiter) = watch_child(child, log_mark);
        *self.run.lock() = Some(run);
        *self.waiter.lock() = Some(waiter);
        Ok(())
    }

    /// The process id while it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        let run = self.run.lock();
        let run = run.as_ref()?;
        run.exit
            .borrow()
            .is_none()
            .then(|| run.pid.as_raw().unsigned_abs())
    }

    /// Whether it runs (a paused process runs).
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.pid().is_some()
    }

    /// Waits until the process has ended and says how; at once if it never ran. Cancel-safe.
    pub async fn exited(&self) -> Option<ExitStatus> {
        self.newest()?.exited().await
    }

    /// Sends a signal to the process itself. Does nothing if it does not run.
    pub fn signal(&self, signal: Signal) {
        if let Some(run) = self.newest() {
            run.send(signal);
        }
    }

    /// SIGKILL to the process and all its descendants, and waits until they are gone.
    pub async fn kill(&self) {
        if let Some(run) = self.newest() {
            run.kill().await;
        }
    }

    /// SIGSTOP to the process and all its descendants, and returns when all have stopped: they
    /// hold their sockets and answer nothing.
    pub fn pause(&self) {
        if let Some(run) = self.newest() {
            run.pause();
        }
    }

    /// SIGCONT to the process and all its descendants.
    pub fn resume(&self) {
        if let Some(run) = self.newest() {
            run.resume();
        }
    }

    /// Asks the process to end, waits for the grace of its [`Spec`], then kills it. Says how it
    /// ended; `None` if it never ran.
    pub async fn stop(&self) -> Option<ExitStatus> {
        let (signal, grace) = {
            let spec = self.spec.lock();
            (spec.stop_signal, spec.stop_grace)
        };
        self.stop_by(signal, grace).await
    }

    /// [`Process::stop`] by another signal and with another grace.
    pub async fn stop_by(&self, signal: Signal, grace: Duration) -> Option<ExitStatus> {
        let run = self.newest()?;
        run.send(signal);
        // A paused process takes its signal only after this one.
        run.resume();
        match tokio::time::timeout(grace, run.exited()).await {
            Ok(status) => status,
            Err(_) => run.kill().await,
        }
    }

    /// The last `n` lines of the log.
    #[must_use]
    pub fn last_log_lines(&self, n: usize) -> Vec<String> {
        tail(&self.log_path(), n)
    }

    /// What the newest incarnation wrote to the log so far.
    #[must_use]
    pub fn log_since_start(&self) -> String {
        let mark = self.run.lock().as_ref().map_or(0, |run| run.log_mark);
        read_from(&self.log_path(), mark).unwrap_or_default()
    }

    /// An error that names how the process ended and the last lines of its log.
    pub(crate) fn failure(&self, what: &str) -> anyhow::Error {
        let end = self.run.lock().as_ref().and_then(|r| *r.exit.borrow());
        let end = end.map_or(String::new(), |status| format!(" ({})", describe(status)));
        let log = self.log_path();
        let text = self.log_since_start();
        let lines: Vec<&str> = text.lines().collect();
        let lines = lines[lines.len().saturating_sub(15)..].join("\n    ");
        anyhow::anyhow!(
            "{} {what}{end}; the end of {}:\n    {lines}",
            self.name(),
            log.display()
        )
    }

    fn newest(&self) -> Option<Run> {
        self.run.lock().clone()
    }
}

impl Run {
    /// Cancel-safe.
    async fn exited(&self) -> Option<ExitStatus> {
        let mut exit = self.exit.clone();
        let status = exit.wait_for(Option::is_some).await;
        status.ok().and_then(|status| *status)
    }

    /// Does something while the pid is ours; nothing once it is not.
    fn while_ours(&self, act: impl FnOnce(Pid)) {
        let reaped = self.reaped.lock();
        if !*reaped {
            act(self.pid);
        }
    }

    fn send(&self, signal: Signal) {
        // A process that has ended and was not reaped takes any signal.
        self.while_ours(|pid| kill(pid, signal).unwrap_or_default());
    }

    fn pause(&self) {
        self.while_ours(|pid| drop(family::freeze(pid)));
    }

    fn resume(&self) {
        self.while_ours(family::thaw);
    }

    /// First stops everybody: a parent cannot fork behind our back then.
    fn send_kill(&self) {
        self.while_ours(|pid| {
            let family = family::freeze(pid);
            self.killed.lock().clone_from(&family);
            family::kill_all(&family);
        });
    }

    async fn kill(&self) -> Option<ExitStatus> {
        self.send_kill();
        let status = self.exited().await;
        let killed = self.killed.lock().clone();
        family::until_gone(&killed).await;
        status
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(run) = self.newest() {
            run.send_kill();
        }
        if let Some(waiter) = self.waiter.lock().take() {
            // A killed process is gone within milliseconds.
            waiter.join().ok();
        }
    }
}

/// How a process ended, in words.
#[must_use]
pub fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => match Signal::try_from(signal) {
            Ok(signal) => format!("killed by {signal}"),
            Err(_) => format!("killed by signal {signal}"),
        },
        (None, None) => "ended".to_owned(),
    }
}

/// The last `n` lines of a file; empty if it cannot be read.
#[must_use]
pub fn tail(path: &Path, n: usize) -> Vec<String> {
    let len = path.metadata().map_or(0, |m| m.len());
    let text = read_from(path, len.saturating_sub(LOG_TAIL_BYTES)).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let skip = lines.len().saturating_sub(n);
    lines[skip..].iter().map(|&l| l.to_owned()).collect()
}

fn read_from(path: &Path, offset: u64) -> std::io::Result<String> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(offset))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn open_log(path: &Path) -> Result<File> {
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir).with_context(|| format!("create {}", dir.display()))?;
    }
    let mut options = OpenOptions::new();
    options.create(true).append(true);
    options
        .open(path)
        .with_context(|| format!("open the log {}", path.display()))
}

/// Wraps the program so that it dies with us, in a process group of its own: Ctrl-C in the
/// terminal then reaches the supervisor alone, which stops everything in order.
fn command(spec: &Spec, log: &File) -> Result<Command> {
    let Some(program) = spec.argv.first() else {
        bail!("{} has no program", spec.name);
    };
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL"]);
    if let Some(RunAs { uid, gid }) = spec.run_as {
        command.args([format!("--reuid={uid}"), format!("--regid={gid}")]);
        command.arg("--clear-groups");
    }
    command.arg("--").arg(program).args(&spec.argv[1..]);
    command.envs(spec.env.iter().map(|(k, v)| (k, v)));
    command.stdin(Stdio::null());
    command.stdout(log.try_clone().context("duplicate the log's descriptor")?);
    command.stderr(log.try_clone().context("duplicate the log's descriptor")?);
    command.process_group(0);
    Ok(command)
}

/// A thread per child waits for its end. It looks first without reaping, so that the pid stays
/// ours until the lock under which signals are sent is held.
fn watch_child(mut child: Child, log_mark: u64) -> (Run, JoinHandle<()>) {
    let pid = Pid::from_raw(child.id().cast_signed());
    let reaped = Arc::new(Mutex::new(false));
    let (done, exit) = watch::channel(None);
    let run = Run {
        pid,
        reaped: Arc::clone(&reaped),
        exit,
        killed: Arc::default(),
        log_mark,
    };
    let waiter = std::thread::spawn(move || {
        let look = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT;
        while let Err(nix::errno::Errno::EINTR) = waitid(Id::Pid(pid), look) {}
        let mut reaped = reaped.lock();
        let status = child.wait().unwrap_or_default();
        *reaped = true;
        drop(reaped);
        done.send_replace(Some(status));
    });
    (run, waiter)
}
