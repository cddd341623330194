//! The load client as seen by the driver.

use crate::program::Program;
use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// To connect and join everybody.
const READY: Duration = Duration::from_secs(120);
/// A round is far shorter; a client that hangs gives up by itself before.
const ROUND: Duration = Duration::from_secs(240);

/// Percentiles in nanoseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Percentiles {
    /// Half are not above this.
    pub p50: u64,
    /// 90 %.
    pub p90: u64,
    /// 99 %.
    pub p99: u64,
    /// 99.9 %.
    pub p999: u64,
    /// The slowest.
    pub max: u64,
}

/// What the client counted in one round.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Figures {
    /// Sockets that listen.
    pub sockets: u64,
    /// Messages sent.
    pub sent: u64,
    /// Messages whose acknowledgement came.
    pub acked: u64,
    /// Messages that came, over all sockets.
    pub delivered: u64,
    /// What should have come.
    pub expected: u64,
    /// What did not.
    pub lost: u64,
    /// What came twice.
    pub duplicated: u64,
    /// What came before an earlier one.
    pub misordered: u64,
    /// Acknowledgements that did not come.
    pub acks_lost: u64,
    /// Repeats that a `replay` frame announced.
    pub repeated: u64,
    /// How long the round took.
    pub wall_ns: u64,
    /// The client's own.
    pub user_ns: u64,
    /// The client's own.
    pub system_ns: u64,
    /// From the intended moment of sending to the arrival.
    pub latency_ns: Percentiles,
    /// From the intended moment of sending to the acknowledgement.
    pub ack_latency_ns: Percentiles,
    /// From the begin of a connect to the last join's answer.
    pub connect_ns: Percentiles,
    /// Bytes that the client read.
    pub bytes_read: u64,
    /// In so many reads.
    pub reads: u64,
    /// Of the sockets that read slowly; the counts above are the others'.
    pub slow: Option<Box<Figures>>,
}

impl Figures {
    /// Everything that was owed came, once and in order.
    ///
    /// # Errors
    /// Names the counts when it did not.
    pub fn check(&self) -> Result<()> {
        let wrong = self.lost + self.duplicated + self.misordered + self.acks_lost;
        ensure!(
            wrong == 0 && self.delivered == self.expected,
            "delivered {} of {}: {} lost, {} duplicated, {} out of order, {} unacknowledged",
            self.delivered,
            self.expected,
            self.lost,
            self.duplicated,
            self.misordered,
            self.acks_lost
        );
        Ok(())
    }
}

/// Whom the client talks to, and how.
#[derive(Debug, Clone)]
pub struct Target {
    /// A value of `load --dialect`.
    pub dialect: String,
    /// Where sockets that listen connect.
    pub url: String,
    /// Where the publisher does, if elsewhere.
    pub publish_url: Option<String>,
    /// A token a line.
    pub tokens: Option<PathBuf>,
    /// Channel ids, one a line, or their number.
    pub channels: Channels,
}

impl Target {
    /// A bare program, by what it said when it listened.
    ///
    /// # Errors
    /// When it did not say where.
    pub fn raw(event: &Value, channels: usize) -> Result<Self> {
        let url = |key: &str| {
            let addr = event[key].as_str()?;
            Some(format!("ws://{addr}/"))
        };
        Ok(Self {
            dialect: "raw".to_owned(),
            url: url("addr").context("a bare program says where it listens")?,
            publish_url: url("publish_addr"),
            tokens: None,
            channels: Channels::Any(channels),
        })
    }
}

/// Names of channels.
#[derive(Debug, Clone)]
pub enum Channels {
    /// Any; so many.
    Any(usize),
    /// From a file, so many.
    File(PathBuf, usize),
}

/// A connected client.
#[derive(Debug)]
pub struct Load {
    program: Program,
    /// What it said when all sockets were there.
    pub ready: Figures,
}

impl Load {
    /// Starts a client and waits until all its sockets are connected and joined. `more` are
    /// options of `load` beside the target.
    ///
    /// # Errors
    /// When the target refuses, or the client fails.
    pub async fn connect(
        name: &str,
        tools: &Path,
        dir: &Path,
        core: Option<usize>,
        target: &Target,
        more: &[String],
    ) -> Result<Self> {
        let mut args = words(&["--dialect", &target.dialect, "--url", &target.url]);
        if let Some(url) = &target.publish_url {
            args.extend(words(&["--publish-url", url]));
        }
        if let Some(tokens) = &target.tokens {
            args.extend(["--tokens".to_owned(), tokens.display().to_string()]);
        }
        match &target.channels {
            Channels::Any(count) => args.extend(words(&["--channels", &count.to_string()])),
            Channels::File(path, count) => args.extend(words(&[
                "--channels",
                &count.to_string(),
                "--channel-file",
                &path.display().to_string(),
            ])),
        }
        if let Some(core) = core {
            args.extend(words(&["--cpu", &core.to_string()]));
        }
        args.extend_from_slice(more);
        let name = format!("load-{name}");
        let mut program = Program::start(&name, &tools.join("load"), &args, &[], dir)?;
        let ready = program.event("ready", READY).await?;
        Ok(Self {
            program,
            ready: figures(ready)?,
        })
    }

    /// One round, checked: everything came, once and in order. `how` overrides options for this
    /// round: `messages=100 burst=16`.
    ///
    /// # Errors
    /// When something was lost, doubled or out of order, or the client fails.
    pub async fn round(&mut self, how: &str) -> Result<Figures> {
        let figures = self.unchecked_round(how).await?;
        figures.check()?;
        Ok(figures)
    }

    /// [`Load::round`] that leaves the judgement to the caller.
    ///
    /// # Errors
    /// When the client fails.
    pub async fn unchecked_round(&mut self, how: &str) -> Result<Figures> {
        self.program.say(format!("go {how}").trim_end()).await?;
        let done = self.program.event("done", ROUND).await?;
        figures(done)
    }

    /// Slow sockets read as fast as they can until they have everything; gives what they got since
    /// the round began, checked.
    ///
    /// # Errors
    /// When something was lost, doubled, out of order or cut, or the client fails.
    pub async fn drain(&mut self) -> Result<Figures> {
        self.program.say("drain").await?;
        let drained = self.program.event("drained", ROUND).await?;
        let figures = figures(drained)?;
        let slow = figures.slow.context("there are slow sockets")?;
        slow.check()?;
        Ok(*slow)
    }

    /// The client's process.
    ///
    /// # Errors
    /// When it has ended.
    pub fn pid(&self) -> Result<u32> {
        self.program.pid()
    }

    /// Closes all sockets.
    ///
    /// # Errors
    /// When the client had ended by itself: what was measured meanwhile had no sockets.
    pub async fn end(self) -> Result<()> {
        self.program.end().await
    }
}

fn figures(event: Value) -> Result<Figures> {
    let text = event.to_string();
    serde_json::from_value(event).with_context(|| format!("understand {text}"))
}

/// Arguments of a command line.
#[must_use]
pub fn words(all: &[&str]) -> Vec<String> {
    all.iter().map(|&word| word.to_owned()).collect()
}
