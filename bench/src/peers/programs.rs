//! How a peer's programs are run: on one core, supervised, ready by their own protocol.

use std::{
    fs::File,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use hubbub_stack::{Port, Ready, Redis, Server, Spec};
use nix::sys::signal::Signal;
use tokio::{process::Command, time::timeout};

const START: Duration = Duration::from_secs(20);
const STOP: Duration = Duration::from_secs(2);
const QUESTION: Duration = Duration::from_secs(10);

/// Where a peer lives.
#[derive(Debug)]
pub(super) struct Place {
    /// Its files and logs.
    pub(super) dir: PathBuf,
    cpu: Option<usize>,
}

impl Place {
    pub(super) fn new(dir: &Path, cpu: Option<usize>) -> Result<Self> {
        std::fs::create_dir_all(dir).with_context(|| format!("create {}", dir.display()))?;
        let dir = dir.canonicalize().context("resolve the directory")?;
        Ok(Self { dir, cpu })
    }

    /// Writes one of the peer's files.
    pub(super) fn write(&self, name: &str, text: &str) -> Result<String> {
        let path = self.dir.join(name);
        std::fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
        Ok(path.display().to_string())
    }

    /// Runs a program until `path` on `ready` answers 200.
    pub(super) async fn run(
        &self,
        name: &str,
        program: Vec<String>,
        env: Vec<(String, String)>,
        ready: (&Port, &str),
    ) -> Result<Server> {
        let mut argv = Vec::new();
        if let Some(cpu) = self.cpu {
            // It becomes the program, so the process id is the program's.
            argv.extend(["taskset".to_owned(), "--cpu-list".to_owned()]);
            argv.push(cpu.to_string());
        }
        argv.extend(program);
        let spec = Spec {
            name: name.to_owned(),
            argv,
            env,
            log: self.dir.join(format!("{name}.log")),
            run_as: None,
            stop_signal: Signal::SIGTERM,
            stop_grace: STOP,
        };
        let (port, path) = ready;
        let ready = Ready::Http(port.addr(), path.to_owned());
        let server = Server::new(spec, ready, START);
        server.start().await?;
        Ok(server)
    }

    /// A Redis on the same core as the rest.
    pub(super) async fn redis(&self) -> Result<Redis> {
        let redis = Redis::launch(&self.dir.join("redis"), Port::free()?).await?;
        if let (Some(cpu), Some(pid)) = (self.cpu, redis.pid()) {
            let (cpu, pid) = (cpu.to_string(), pid.to_string());
            let mut taskset = Command::new("taskset");
            taskset.args(["--all-tasks", "--pid", "--cpu-list", &cpu, &pid]);
            let output = timeout(QUESTION, taskset.kill_on_drop(true).output()).await;
            let output = output.context("pin Redis in time")?.context("pin Redis")?;
            ensure!(output.status.success(), "taskset does not pin Redis");
        }
        Ok(redis)
    }
}

/// What a program says about itself, standard output and error together; why it does not.
pub(super) async fn says(program: &Path, args: &[&str]) -> Result<String, String> {
    let mut command = Command::new(program);
    let output = command.args(args).kill_on_drop(true).output();
    let output = match timeout(QUESTION, output).await {
        Ok(Ok(output)) => output,
        Ok(Err(error)) => return Err(error.to_string()),
        Err(_) => return Err(format!("no answer within {QUESTION:?}")),
    };
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).trim().to_owned();
    if output.status.success() {
        Ok(said)
    } else {
        Err(said.lines().last().unwrap_or("it said nothing").to_owned())
    }
}

/// Waits until nobody else holds the lock of this file; it is held until the file is closed.
pub(super) async fn lock(path: &Path) -> Result<File> {
    let file = lock_file(path)?;
    let locked = tokio::task::spawn_blocking(move || file.lock().map(|()| file));
    locked
        .await
        .context("wait for an installation")?
        .with_context(|| format!("lock {}", path.display()))
}

/// A file to be locked.
pub(super) fn lock_file(path: &Path) -> Result<File> {
    let mut options = File::options();
    options.create(true).truncate(false).write(true);
    let file = options.open(path);
    file.with_context(|| format!("open {}", path.display()))
}

/// A server's process and all below it.
pub(super) fn family(server: &Server) -> Vec<u32> {
    let mut family: Vec<u32> = server.pid().into_iter().collect();
    let mut next = 0;
    while let Some(&pid) = family.get(next) {
        next += 1;
        // A process that has just ended has no children.
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
        let children = children.unwrap_or_default();
        family.extend(
            children
                .split_whitespace()
                .filter_map(|pid| pid.parse::<u32>().ok()),
        );
    }
    family
}

/// How many files a process may have open, by the hard limit.
pub(super) fn open_files() -> Result<u64> {
    let (_, hard) = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE)
        .context("read the limit of open files")?;
    Ok(hard)
}
