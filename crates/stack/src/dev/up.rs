//! `./dev up`

use super::lock::Lock;
use super::screen::{Screen, say};
use super::state::State;
use super::status;
use super::supervise::supervise;
use anyhow::{Context, Result, bail};
use clap::Args;
use hubbub_stack::{External, Options, Postgres, Stack};
use std::fs::File;
use std::io::{IsTerminal, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, sleep};

/// What a stack leaves in its directory, beside the Postgres clusters and the lock.
const LEFTOVERS: [&str; 6] = [
    "redis",
    "kafka",
    "haproxy",
    "log",
    "state.json",
    "jwt.secret",
];
const POLL: Duration = Duration::from_millis(50);

#[derive(Debug, Clone, Args)]
pub(crate) struct UpArgs {
    /// Return when everything is ready; stop it with `./dev down`.
    #[arg(long)]
    detach: bool,
    /// Edge servers.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=64))]
    edges: u8,
    /// API servers.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=16))]
    apis: u8,
    /// Consumers.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(0..=32))]
    consumers: u8,
    /// Remove all data first.
    #[arg(long)]
    fresh: bool,
    /// Leave a process that died as it is.
    #[arg(long)]
    no_restart: bool,
    /// Install missing packages without asking (done by the script before this program).
    #[arg(long)]
    yes: bool,
}

pub(crate) async fn run(dir: &Path, args: UpArgs) -> Result<ExitCode> {
    let screen = Screen::new();
    std::fs::create_dir_all(dir).with_context(|| format!("create {}", dir.display()))?;
    let dir = dir.canonicalize().context("resolve the data directory")?;
    let Some(lock) = Lock::take(&dir)? else {
        return already_up(&dir, screen).await;
    };
    if args.detach {
        drop(lock);
        return detach(&dir, &args).await;
    }
    lock.sign()?;
    if args.fresh {
        remove_data(&dir)?;
    }
    run_foreground(&dir, &args, screen).await
}

async fn already_up(dir: &Path, screen: Screen) -> Result<ExitCode> {
    let Some(state) = State::read(dir) else {
        bail!(
            "another `./dev up` is starting or stopping in {}",
            dir.display()
        );
    };
    screen.heading("Hubbub is up already; `./dev down` stops it.");
    status::print(&state, screen).await;
    Ok(ExitCode::SUCCESS)
}

async fn run_foreground(dir: &Path, args: &UpArgs, screen: Screen) -> Result<ExitCode> {
    let mut stops = Stops::listen()?;
    let mut options = Options::standard(dir, &bin_dir()?);
    options.edges = args.edges.into();
    options.apis = args.apis.into();
    options.consumers = args.consumers.into();
    options.external = External::from_env()?;
    // For the page: everything here is on loopback, and for development.
    let sign_in = ("HUBBUB_DEV_SIGN_IN".to_owned(), "true".to_owned());
    options.env.push(sign_in);

    let begin = Instant::now();
    screen.heading("Starting Hubbub");
    let report = move |event| screen.event(&event);
    // Waits for: the system to be ready; Ctrl-C, which drops and so kills what was started.
    let stack = tokio::select! {
        stack = Stack::start_with(options, &report) => stack?,
        () = stops.next() => bail!("stopped before everything was ready"),
    };
    State::of(&stack).write(dir)?;
    welcome(&stack, screen, begin.elapsed());
    // Waits for: Ctrl-C or SIGTERM. The supervision never ends by itself.
    tokio::select! {
        () = stops.next() => {}
        () = supervise(&stack, dir, !args.no_restart, screen) => {}
    }

    say("");
    screen.heading("Stopping (again Ctrl-C kills)");
    let begin = Instant::now();
    let stopping = stack.stop_with(&|what| say(format_args!("  {what}")));
    // Waits for: the orderly end; a second Ctrl-C.
    tokio::select! {
        () = stopping => say(format_args!("Stopped in {:.1} s.", begin.elapsed().as_secs_f64())),
        () = stops.next() => say("Killed."),
    }
    State::forget(dir);
    Ok(ExitCode::SUCCESS)
}

/// The same program without a terminal, whose lines are shown until it is ready.
async fn detach(dir: &Path, args: &UpArgs) -> Result<ExitCode> {
    let log_path = dir.join("up.log");
    let log = File::create(&log_path).context("create up.log")?;
    let mut command = Command::new("setsid");
    command.arg(std::env::current_exe().context("find this program")?);
    command.arg("--dir").arg(dir).arg("up");
    command.args(["--edges", &args.edges.to_string()]);
    command.args(["--apis", &args.apis.to_string()]);
    command.args(["--consumers", &args.consumers.to_string()]);
    command.args(args.fresh.then_some("--fresh"));
    command.args(args.no_restart.then_some("--no-restart"));
    command.stdin(Stdio::null());
    command.stdout(log.try_clone().context("duplicate up.log")?);
    command.stderr(log);
    let mut child = command.spawn().context("start in the background")?;

    let mut shown = 0;
    loop {
        let ended = child.try_wait().context("look at the background process")?;
        let ready = State::read(dir).is_some_and(|state| state.supervisor == child.id());
        shown = show_from(&log_path, shown)?;
        if let Some(status) = ended {
            bail!(
                "did not come up ({}); its log is {}",
                status,
                log_path.display()
            );
        }
        if ready {
            // Its last lines may have been written between the two looks.
            sleep(POLL).await;
            show_from(&log_path, shown)?;
            return Ok(ExitCode::SUCCESS);
        }
        sleep(POLL).await;
    }
}

fn show_from(path: &Path, offset: u64) -> Result<u64> {
    let mut file = File::open(path).context("open up.log")?;
    file.seek(SeekFrom::Start(offset))
        .context("seek in up.log")?;
    let mut text = Vec::new();
    let n = file.read_to_end(&mut text).context("read up.log")?;
    // What nobody reads any more is in the file all the same.
    std::io::stdout().write_all(&text).ok();
    Ok(offset + n as u64)
}

fn welcome(stack: &Stack, screen: Screen, took: Duration) {
    let at = stack.endpoints();
    say("");
    screen.heading(&format!("Hubbub is up after {:.1} s.", took.as_secs_f64()));
    say(format_args!(
        "  chat, API   {}   (WebSocket {})",
        at.front_url, at.ws_url
    ));
    say(format_args!(
        "  page        {}/ui/Maths?id_user=1   (development sign-in is on: anybody here may be anybody)",
        at.front_url
    ));
    say(format_args!(
        "  dashboard   {}/ui/dashboard?id_user=1",
        at.front_url
    ));
    say(format_args!("  stats       {}", at.stats_url));
    say(format_args!(
        "  logs        {}",
        stack.dir().join("log").display()
    ));
    say("");
    screen.heading("Try, in another terminal:");
    say("  ./dev hubbub chat Maths --as Mary");
    say("  ./dev hubbub history Maths --as John");
    say("  ./dev hubbub pubsub channels");
    say("");
    if std::io::stdin().is_terminal() {
        say("Stop with Ctrl-C here, or with ./dev down.");
    } else {
        say("Stop with ./dev down.");
    }
}

/// Removes what a stack leaves behind, and nothing else: the directory may be anybody's.
fn remove_data(dir: &Path) -> Result<()> {
    for entry in std::fs::read_dir(dir).context("list the data directory")? {
        let entry = entry.context("list the data directory")?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name == "core" || name.starts_with("shard-") {
            Postgres::remove(&entry.path())?;
        } else if LEFTOVERS.contains(&name.as_ref()) {
            let path = entry.path();
            let removed = if path.is_dir() {
                std::fs::remove_dir_all(&path)
            } else {
                std::fs::remove_file(&path)
            };
            removed.with_context(|| format!("remove {}", path.display()))?;
        }
    }
    Ok(())
}

fn bin_dir() -> Result<PathBuf> {
    let exe = std::env::current_exe().context("find this program")?;
    Ok(exe
        .parent()
        .context("find this program's directory")?
        .to_owned())
}

/// The signals that ask for an end.
struct Stops {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Stops {
    fn listen() -> Result<Self> {
        let on = |kind| signal(kind).context("listen for signals");
        Ok(Self {
            interrupt: on(SignalKind::interrupt())?,
            terminate: on(SignalKind::terminate())?,
            hangup: on(SignalKind::hangup())?,
        })
    }

    /// Cancel-safe.
    async fn next(&mut self) {
        // Waits for: Ctrl-C; `./dev down`; a terminal that was closed.
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hangup.recv() => {}
        }
    }
}
