//! What benchmarks have in common: the programs, the machine's cores, a running Hubbub.

use crate::client::{Channels, Load, Target};
use crate::machine::Cores;
use crate::pair::{Keep, Operation, Side};
use crate::peers::{self, Peer, Settings};
use crate::process::Whose;
use crate::program::Program;
use crate::results::{Row, Verdict};
use crate::town::{Size, Town};
use anyhow::{Context, Result};
use clap::ValueEnum;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A bare program listens within this.
const FLOOR: Duration = Duration::from_secs(20);

/// How much is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// For figures that are kept.
    Full,
    /// The same with fewer rounds.
    Quick,
    /// Whether it works, with exact counts; no peers, and nothing that is timed.
    Smoke,
}

impl Mode {
    /// As in results.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Quick => "quick",
            Self::Smoke => "smoke",
        }
    }
}

/// What a benchmark works with.
#[derive(Debug)]
pub struct Bench {
    /// How much is measured.
    pub mode: Mode,
    /// Where Hubbub's programs are.
    pub servers: PathBuf,
    /// Where `load` and `floor` are.
    pub tools: PathBuf,
    /// Logs and files of this run.
    pub dir: PathBuf,
    /// Who may run where.
    pub cores: Cores,
    town: Option<Town>,
    peers: bool,
    started: usize,
}

impl Bench {
    /// Nothing runs yet. Without `peers` their rows say so.
    #[must_use]
    pub fn new(mode: Mode, servers: &Path, tools: &Path, dir: &Path, peers: bool) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            mode,
            servers: servers.to_owned(),
            tools: tools.to_owned(),
            dir: dir.to_owned(),
            cores: Cores::of(cores),
            town: None,
            peers: peers && mode != Mode::Smoke,
            started: 0,
        }
    }

    /// A number for each mode.
    #[must_use]
    pub fn pick<T>(&self, full: T, quick: T, smoke: T) -> T {
        match self.mode {
            Mode::Full => full,
            Mode::Quick => quick,
            Mode::Smoke => smoke,
        }
    }

    /// How often each side is measured.
    #[must_use]
    pub fn rounds(&self) -> usize {
        self.pick(7, 3, 1)
    }

    /// A line of progress.
    pub fn say(&self, what: &str) {
        eprintln!("    {what}");
    }

    /// The running Hubbub; started if it does not run.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn town(&mut self) -> Result<&mut Town> {
        if self.town.is_none() {
            return self.town_of(Size::USUAL).await;
        }
        Ok(self.town.as_mut().expect("it runs"))
    }

    /// A new Hubbub of another size, with nothing in it; the one that runs is ended. To be left
    /// behind by who asked for it.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn town_of(&mut self, size: Size) -> Result<&mut Town> {
        self.leave_town().await;
        self.started += 1;
        self.say("starting Hubbub");
        let dir = self.dir.join(format!("town-{}", self.started));
        let town = Box::pin(Town::start(&self.servers, &dir, size)).await?;
        Ok(self.town.insert(town))
    }

    /// The Hubbub that [`Bench::town`] started.
    ///
    /// # Panics
    /// When it does not run.
    #[must_use]
    pub fn running(&self) -> &Town {
        self.town
            .as_ref()
            .expect("a benchmark starts its town first")
    }

    /// Ends Hubbub: the next benchmark gets a new one, with nothing in it.
    pub async fn leave_town(&mut self) {
        if let Some(town) = self.town.take() {
            town.stop().await;
        }
    }

    /// Starts a bare program on the server core; `args` begin with its kind. Gives it and what it
    /// said when it listened.
    ///
    /// # Errors
    /// When it does not listen.
    pub async fn floor(&self, args: &[String]) -> Result<(Program, Value)> {
        let mut program = self.floor_on(self.cores, args)?;
        let event = program.event("listening", FLOOR).await?;
        Ok((program, event))
    }

    /// Starts a bare program that does not listen, on the core that `cores` names for a server.
    ///
    /// # Errors
    /// When it does not start.
    pub fn floor_on(&self, cores: Cores, args: &[String]) -> Result<Program> {
        let kind = args.first().context("a floor has a kind")?;
        let mut args = args.to_vec();
        if let Some(core) = cores.server {
            args.extend(["--cpu".to_owned(), core.to_string()]);
        }
        let floor = self.tools.join("floor");
        Program::start(&format!("floor-{kind}"), &floor, &args, &[], &self.dir)
    }

    /// A side of a bare program that speaks the raw dialect. `load` are options of the client.
    ///
    /// # Errors
    /// When it does not listen, or the client fails.
    pub async fn floor_side(
        &self,
        args: &[String],
        channels: usize,
        load: &[String],
        operation: Operation,
    ) -> Result<Side> {
        let kind = args.first().context("a floor has a kind")?.clone();
        let (program, event) = self.floor(args).await?;
        let target = Target::raw(&event, channels)?;
        let mut whose = Vec::new();
        for pid in event["pids"].as_array().into_iter().flatten() {
            let pid = pid.as_u64().context("a process id")?;
            whose.push(Whose::Process(u32::try_from(pid)?));
        }
        if whose.is_empty() {
            whose.push(Whose::Process(program.pid()?));
        }
        Ok(Side {
            load: self.client(&kind, &target, load).await?,
            name: kind,
            version: String::new(),
            whose,
            operation,
            keep: Keep::Floor(Box::new(program)),
            failed: None,
        })
    }

    /// A client of the suite, on the client's core.
    ///
    /// # Errors
    /// When the target refuses, or the client fails.
    pub async fn client(&self, name: &str, target: &Target, more: &[String]) -> Result<Load> {
        let name = name.replace([' ', '/'], "-");
        Load::connect(
            &name,
            &self.tools,
            &self.dir,
            self.cores.client,
            target,
            more,
        )
        .await
    }

    /// Starts a peer.
    ///
    /// # Errors
    /// How its row ends instead: it is not to be had here, or it is and does not start.
    pub async fn peer(&self, peer: Peer, settings: Settings) -> Result<Peered, Verdict> {
        if !self.peers {
            return Err(Verdict::NotMeasured(
                "other servers were left out".to_owned(),
            ));
        }
        let settings = Settings {
            dir: self.dir.join("peers"),
            cpu: self.cores.server,
            ..settings
        };
        match peers::start(peer, &settings).await {
            Ok(running) => Ok(Peered {
                name: peer.name().to_owned(),
                running,
            }),
            Err(unavailable) if unavailable.broken => Err(Verdict::Failed(unavailable.why)),
            Err(unavailable) => Err(Verdict::NotMeasured(unavailable.why)),
        }
    }

    /// Sides of those peers that are to be had, and rows for those that are not.
    ///
    /// # Errors
    /// When the client fails.
    pub async fn peer_sides(
        &self,
        all: &[Peer],
        channels: usize,
        load: &[String],
        operation: Operation,
        row: &dyn Fn() -> Row,
    ) -> Result<(Vec<Side>, Vec<Row>)> {
        let (mut sides, mut rows) = (Vec::new(), Vec::new());
        if !self.peers {
            return Ok((sides, rows));
        }
        for peer in all {
            match self.peer(*peer, Settings::default()).await {
                Ok(peered) => sides.push(peered.side(self, channels, load, operation).await?),
                Err(verdict) => rows.push(row().without(peer.name(), verdict)),
            }
        }
        Ok((sides, rows))
    }
}

/// A peer that runs.
#[derive(Debug)]
pub struct Peered {
    /// Without its version.
    pub name: String,
    /// Its processes.
    pub running: peers::Running,
}

impl Peered {
    /// Puts a client's load on it; the CPU of those of its processes counts that deliver.
    ///
    /// # Errors
    /// When the client fails.
    pub async fn side(
        self,
        bench: &Bench,
        channels: usize,
        load: &[String],
        operation: Operation,
    ) -> Result<Side> {
        let pids = self.running.receiver_pids.iter();
        let whose = pids.map(|pid| Whose::Process(*pid)).collect();
        let target = self.target(channels);
        Ok(Side {
            load: bench.client(&self.name, &target, load).await?,
            name: self.name,
            version: self.running.version.clone(),
            whose,
            operation,
            keep: Keep::Peer(Box::new(self.running)),
            failed: None,
        })
    }

    /// Where its clients connect.
    #[must_use]
    pub fn target(&self, channels: usize) -> Target {
        Target {
            dialect: self.running.dialect.to_owned(),
            url: self.running.url.clone(),
            publish_url: self.running.publish_url.clone(),
            tokens: None,
            channels: Channels::Any(channels),
        }
    }
}
