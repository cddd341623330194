//! One run of one system.

use std::{
    fs::File,
    io::{BufWriter, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use hubbub_checker::{Entry, Event, Verdict, history::Phase};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};

use crate::{
    System,
    faults::{self, Ground},
    figures::{self, Figures},
    hubbub::{self, Hubbub},
    plan::Plan,
    recorder::Recorder,
    settings,
    socketio::{Adapter, Installed, Socketio},
};

/// Where the programs are.
#[derive(Debug)]
pub(crate) struct Programs {
    /// Ours.
    pub(crate) bin_dir: PathBuf,
    /// socket.io, if it can be had.
    pub(crate) socketio: Option<Installed>,
}

/// What came of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Run {
    /// Of what.
    pub system: System,
    /// Of which plan.
    pub seed: u64,
    /// For all devices.
    pub figures: Figures,
    /// For some of them, by what they have in common.
    pub parts: Vec<(String, Figures)>,
    /// The checker's words about all of them.
    pub verdict: Verdict,
}

/// A system that runs, with its clients.
enum Running {
    Hubbub(Box<Hubbub>),
    #[cfg(feature = "seed-flow")]
    SeedFlow(Box<crate::seed_flow::SeedFlow>),
    Socketio(Box<Socketio>),
}

impl Running {
    async fn start(
        system: System,
        programs: &Programs,
        dir: &Path,
        plan: &Plan,
        recorder: &Recorder,
    ) -> Result<Self> {
        let adapter = match system {
            System::Hubbub => {
                let it = Hubbub::start(&programs.bin_dir, plan, recorder).await?;
                return Ok(Self::Hubbub(Box::new(it)));
            }
            #[cfg(feature = "seed-flow")]
            System::SeedFlow => {
                let bin_dir = &programs.bin_dir;
                let it = crate::seed_flow::SeedFlow::start(bin_dir, dir, plan, recorder).await?;
                return Ok(Self::SeedFlow(Box::new(it)));
            }
            #[cfg(not(feature = "seed-flow"))]
            System::SeedFlow => anyhow::bail!("built without the feature seed-flow"),
            System::SocketioRedis => Adapter::PubSub,
            System::SocketioStreams => Adapter::Streams,
        };
        let installed = programs.socketio.as_ref().context("socket.io is absent")?;
        let it = Socketio::start(installed, adapter, dir, plan, recorder).await?;
        Ok(Self::Socketio(Box::new(it)))
    }

    fn ground(&self) -> Ground<'_> {
        match self {
            Self::Hubbub(it) => it.ground(),
            #[cfg(feature = "seed-flow")]
            Self::SeedFlow(it) => it.ground(),
            Self::Socketio(it) => it.ground(),
        }
    }

    async fn play(&self, plan: &Plan, begun: Instant) -> Result<()> {
        match self {
            Self::Hubbub(it) => it.play(plan, begun).await,
            #[cfg(feature = "seed-flow")]
            Self::SeedFlow(it) => it.play(plan, begun).await,
            Self::Socketio(it) => it.play(plan, begun).await,
        }
    }

    /// The final reads, and the end. Returns what other processes have written down.
    async fn close(self) -> Result<Vec<Entry>> {
        match self {
            Self::Hubbub(it) => {
                it.read_history().await.context("read history")?;
                it.close().await;
                Ok(Vec::new())
            }
            #[cfg(feature = "seed-flow")]
            Self::SeedFlow(it) => {
                it.read_log().await.context("read the log")?;
                it.close().await;
                Ok(Vec::new())
            }
            Self::Socketio(it) => it.close().await,
        }
    }
}

/// Starts a system, lets people talk while things go wrong, and judges what they saw. Its files
/// are in `dir`.
///
/// # Errors
/// When it does not start, or a fault could not be made or healed: nothing is known then.
pub(crate) async fn run(
    system: System,
    programs: &Programs,
    plan: &Plan,
    dir: &Path,
) -> Result<Run> {
    std::fs::create_dir_all(dir).with_context(|| format!("create {}", dir.display()))?;
    let dir = dir.canonicalize().context("resolve the directory")?;
    let recorder = Recorder::start();
    let running = Running::start(system, programs, &dir, plan, &recorder);
    let running = running.await.with_context(|| format!("start {system}"))?;
    recorder.record(Event::Phase(Phase::Calm));
    recorder.record(Event::Phase(Phase::Faults));
    let begun = Instant::now();
    let ground = running.ground();
    tokio::try_join!(
        running.play(plan, begun),
        faults::inject(&plan.faults, &ground, begun, &recorder),
    )?;
    drop(ground);
    recorder.record(Event::Phase(Phase::Healed));
    recorder.record(Event::Phase(Phase::Quiet));
    sleep(settings::QUIET).await;
    recorder.record(Event::Phase(Phase::Final));
    let entries = recorder.take(running.close().await?);
    let complete = figures::complete(&entries, plan.faults.len());
    ensure!(complete, "not all faults came to pass");
    write_history(&dir.join("history.jsonl"), &entries)?;
    let (figures, verdict) = figures::read(&entries, |_| true);
    let parts = match system {
        System::Hubbub => ["plain joins", "ordered joins"]
            .into_iter()
            .zip([false, true])
            .map(|(name, ordered)| {
                let wanted = |device: &str| hubbub::is_ordered(device) == ordered;
                (name.to_owned(), figures::read(&entries, wanted).0)
            })
            .collect(),
        _ => Vec::new(),
    };
    Ok(Run {
        system,
        seed: plan.seed,
        figures,
        parts,
        verdict,
    })
}

fn write_history(path: &Path, entries: &[Entry]) -> Result<()> {
    let file = File::create(path).with_context(|| format!("create {}", path.display()))?;
    let mut file = BufWriter::new(file);
    for entry in entries {
        writeln!(file, "{}", entry.to_line()).context("write the history")?;
    }
    file.flush().context("write the history")
}
