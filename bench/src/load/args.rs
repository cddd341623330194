use std::{path::PathBuf, time::Duration};

use anyhow::{Context, ensure};
use clap::{Parser, ValueEnum};

use crate::wire::payload::{HEADER_BYTES, PAYLOAD_MAX};

/// How a server is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Dialect {
    /// docs/PROTOCOL.md.
    Hubbub,
    /// Text frames: `join <channel>`, `pub <channel> <payload>`, `echo <payload>`.
    Raw,
    /// Engine.IO 4 and Socket.IO 5 over a WebSocket.
    Socketio,
    /// The NATS protocol in binary frames.
    Nats,
    /// Nchan's subscriber and publisher locations.
    Nchan,
}

/// What the sockets do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// Publishers send, the others listen.
    Fanout,
    /// Every socket sends and gets its own answer.
    Echo,
    /// Sockets are connected, joined and closed again.
    Connect,
}

/// Drives one server with one kind of load and counts every message. Prints lines of JSON; reads
/// `go` (with changes, as in `go messages=1000 burst=16`), `drain` and the end of its input.
#[derive(Debug, Clone, Parser)]
#[command(name = "load")]
pub struct Args {
    /// How the server is spoken to.
    #[arg(long, value_enum)]
    pub dialect: Dialect,
    /// What the sockets do.
    #[arg(long, value_enum, default_value = "fanout")]
    pub mode: Mode,
    /// Where the sockets connect, `ws://host:port/path`; `{channel}` in it stands for the channel.
    #[arg(long)]
    pub url: String,
    /// Where publishers connect, if elsewhere.
    #[arg(long)]
    pub publish_url: Option<String>,
    /// JWTs, one a line, dealt round robin: to the sockets, then to the publishers.
    #[arg(long)]
    pub tokens: Option<PathBuf>,
    /// JWTs of the publishers, if others.
    #[arg(long)]
    pub publish_tokens: Option<PathBuf>,
    /// Sockets that listen (or echo).
    #[arg(long)]
    pub sockets: usize,
    /// Sockets that publish; channel `c` is published by publisher `c mod P`.
    #[arg(long, default_value_t = 1)]
    pub publishers: usize,
    /// How many channels there are.
    #[arg(long, default_value_t = 1)]
    pub channels: usize,
    /// Their ids, one a line; without it they are `c0`, `c1`, ….
    #[arg(long)]
    pub channel_file: Option<PathBuf>,
    /// How many channels each socket joins: socket `s` joins `s·K … s·K+K-1`, modulo M.
    #[arg(long, default_value_t = 1)]
    pub joins: usize,
    /// New connections a second; without it as fast as `--connecting` allows.
    #[arg(long)]
    pub connect_rate: Option<f64>,
    /// Connections that are being opened at once, at most.
    #[arg(long, default_value_t = 64)]
    pub connecting: usize,
    /// Messages of a run.
    #[arg(long, default_value_t = 1000)]
    pub messages: u64,
    /// Messages that are written at once.
    #[arg(long, default_value_t = 1)]
    pub burst: u64,
    /// Messages a second, open loop (in bursts of `--burst`); without it the next burst follows
    /// when everybody has the last one.
    #[arg(long)]
    pub rate: Option<f64>,
    /// With `--rate`: so many seconds of messages instead of `--messages`.
    #[arg(long)]
    pub seconds: Option<f64>,
    /// Bytes of text of a message.
    #[arg(long, default_value_t = 128)]
    pub payload: usize,
    /// Ask for an acknowledgement of each message and count it; Hubbub always gives one.
    #[arg(long)]
    pub acks: bool,
    /// The first so many sockets read slowly.
    #[arg(long, default_value_t = 0)]
    pub slow_sockets: usize,
    /// What a slow socket reads a second, in bytes.
    #[arg(long, default_value_t = 1024)]
    pub read_rate: usize,
    /// The receive buffer of a slow socket, in bytes (the kernel doubles it).
    #[arg(long, default_value_t = 8192)]
    pub slow_receive_buffer: usize,
    /// The core to run on.
    #[arg(long)]
    pub cpu: Option<usize>,
    /// A run (or a connection) that sees nothing for so many seconds ends as it stands.
    #[arg(long, default_value_t = 10.0)]
    pub patience: f64,
    /// After a run, milliseconds in which what comes twice is still noticed.
    #[arg(long, default_value_t = 50)]
    pub settle_ms: u64,
    /// In a run, look at the sockets so often, in microseconds, and be woken by none of them; without
    /// it the client sleeps until something comes. A server that sends while its client sleeps
    /// pays for waking it, and whether it sleeps is a matter of who is quicker.
    #[arg(long)]
    pub look_every_us: Option<u64>,
    /// Run once without waiting for `go`, and end.
    #[arg(long)]
    pub once: bool,
}

impl Args {
    /// Says everything that is wrong.
    pub fn check(&self) -> anyhow::Result<()> {
        let rate = |rate: Option<f64>| rate.is_none_or(|rate| rate.is_finite() && rate > 0.0);
        let publishes = self.mode == Mode::Fanout;
        let rules = [
            (self.channels > 0, "--channels must be at least 1"),
            (
                !publishes || self.publishers > 0,
                "--publishers must be at least 1",
            ),
            (
                self.publishers <= self.channels,
                "--publishers are at most --channels",
            ),
            (self.joins <= self.channels, "--joins is at most --channels"),
            (
                self.burst > 0 && self.messages > 0,
                "--burst and --messages are at least 1",
            ),
            (self.connecting > 0, "--connecting must be at least 1"),
            (
                self.slow_sockets <= self.sockets,
                "--slow-sockets are among --sockets",
            ),
            (self.read_rate > 0, "--read-rate must be at least 1"),
            (rate(self.rate), "--rate must be above 0"),
            (rate(self.connect_rate), "--connect-rate must be above 0"),
            (rate(self.seconds), "--seconds must be above 0"),
            (rate(Some(self.patience)), "--patience must be above 0"),
            (
                self.seconds.is_none() || self.rate.is_some(),
                "--seconds needs --rate",
            ),
            (
                publishes || self.sockets > 0,
                "--sockets must be at least 1",
            ),
            (
                self.dialect != Dialect::Nchan || self.joins == 1,
                "nchan: one channel per connection, so --joins 1",
            ),
            (
                self.dialect != Dialect::Nchan || self.publishers == self.channels,
                "nchan: one publisher per channel",
            ),
            (
                self.mode != Mode::Echo || matches!(self.dialect, Dialect::Hubbub | Dialect::Raw),
                "--mode echo is of hubbub and raw",
            ),
            (
                (HEADER_BYTES..=PAYLOAD_MAX).contains(&self.payload),
                "--payload is from 38 to 16384",
            ),
        ];
        let wrong: Vec<&str> = rules
            .iter()
            .filter(|(right, _)| !right)
            .map(|(_, why)| *why)
            .collect();
        ensure!(wrong.is_empty(), "{}", wrong.join("; "));
        Ok(())
    }

    /// These, with the changes of a line such as `go messages=1000 burst=16`.
    pub fn changed(&self, words: &str) -> anyhow::Result<Self> {
        let mut changed = self.clone();
        for word in words.split_whitespace() {
            let (name, value) = word.split_once('=').context("a change is name=value")?;
            let wrong = || format!("the change {word}");
            match name {
                "messages" => {
                    changed.messages = value.parse().with_context(wrong)?;
                    changed.seconds = None;
                }
                "burst" => changed.burst = value.parse().with_context(wrong)?,
                "rate" if value == "none" => (changed.rate, changed.seconds) = (None, None),
                "rate" => changed.rate = Some(value.parse().with_context(wrong)?),
                "seconds" => changed.seconds = Some(value.parse().with_context(wrong)?),
                _ => anyhow::bail!("{name} cannot be changed between runs"),
            }
        }
        changed.check()?;
        Ok(changed)
    }

    /// How many messages a run sends.
    pub fn total(&self) -> u64 {
        match (self.rate, self.seconds) {
            (Some(rate), Some(seconds)) => ((rate * seconds) as u64).max(1),
            _ => self.messages,
        }
    }

    /// See `--patience`.
    pub fn patience(&self) -> Duration {
        Duration::from_secs_f64(self.patience)
    }

    /// The names of the channels.
    pub fn channel_names(&self) -> anyhow::Result<Vec<String>> {
        let Some(path) = &self.channel_file else {
            return Ok((0..self.channels)
                .map(|channel| format!("c{channel}"))
                .collect());
        };
        let mut names = lines(path)?;
        ensure!(
            names.len() >= self.channels,
            "{} has too few channels",
            path.display()
        );
        names.truncate(self.channels);
        Ok(names)
    }

    /// The tokens of the sockets, and those of the publishers.
    pub fn token_lists(&self) -> anyhow::Result<(Vec<String>, Vec<String>)> {
        let read = |path: &Option<PathBuf>| path.as_ref().map(|path| lines(path)).transpose();
        let tokens = read(&self.tokens)?.unwrap_or_default();
        let publishers = read(&self.publish_tokens)?.unwrap_or_else(|| tokens.clone());
        Ok((tokens, publishers))
    }
}

fn lines(path: &std::path::Path) -> anyhow::Result<Vec<String>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    let lines: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
    ensure!(!lines.is_empty(), "{} is empty", path.display());
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(more: &[&str]) -> Args {
        let base = [
            "load",
            "--dialect",
            "raw",
            "--url",
            "ws://h:1/",
            "--sockets",
            "3",
        ];
        Args::try_parse_from(base.iter().chain(more)).unwrap()
    }

    #[test]
    fn go_changes_a_run() {
        let args = args(&["--messages", "7"]);
        let changed = args.changed("messages=9 burst=4").unwrap();
        assert_eq!((changed.total(), changed.burst, changed.rate), (9, 4, None));
        let paced = changed.changed("rate=500 seconds=2").unwrap();
        assert_eq!(paced.total(), 1000);
        assert_eq!(paced.changed("rate=none").unwrap().total(), 9);
        for wrong in ["burst", "burst=x", "burst=0", "sockets=3"] {
            args.changed(wrong).unwrap_err();
        }
    }

    #[test]
    fn every_mistake_is_named() {
        let wrong = args(&["--channels", "0", "--payload", "3"])
            .check()
            .unwrap_err();
        let text = wrong.to_string();
        assert!(
            text.contains("--channels") && text.contains("--payload"),
            "{text}"
        );
        args(&[]).check().unwrap();
    }
}
