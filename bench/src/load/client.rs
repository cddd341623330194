use std::{
    collections::VecDeque,
    io,
    net::{SocketAddr, ToSocketAddrs as _},
    os::fd::AsFd as _,
    time::Duration,
};

use anyhow::{Context, bail};
use hdrhistogram::Histogram;
use nix::sys::{
    time::TimeSpec,
    timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags},
};
use serde::Serialize;

use super::{
    args::{Args, Mode},
    figures::{Baseline, Finish, Traffic},
    ledger::{Counts, Layout, Ledger},
    pace::{Due, Pace},
    socket::Socket,
};
use crate::wire::{
    clock::{now_ns, pin, raise_file_limit},
    handshake::Url,
    lines::{Commands, Input, print},
    payload::Payload,
    poll::Poll,
};

/// Serves every socket in turn.
const BUFFER: usize = 256 * 1024;
/// How often a run that waits looks at the clock, and slow sockets are served in groups.
pub(super) const TICK: Duration = Duration::from_millis(100);
const INPUT: u64 = u64::MAX;
const TIMER: u64 = u64::MAX - 1;

/// Where one kind of sockets connects.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) address: SocketAddr,
    pub(super) url: Url,
    pub(super) tokens: Vec<String>,
}

impl Target {
    fn new(url: &str, tokens: Vec<String>) -> anyhow::Result<Self> {
        let url = Url::parse(url)?;
        let mut addresses = url
            .authority
            .to_socket_addrs()
            .context("resolve the address")?;
        Ok(Self {
            address: addresses
                .next()
                .context("the address resolves to nothing")?,
            url,
            tokens,
        })
    }
}

/// The client: its sockets, what they have, and what steers it.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) args: Args,
    pub(super) names: Vec<String>,
    pub(super) tag: u32,
    pub(super) layout: Layout,
    pub(super) listen: Target,
    pub(super) publish: Target,
    pub(super) poll: Poll,
    timer: TimerFd,
    timer_at: Option<u64>,
    commands: Commands,
    lines: VecDeque<String>,
    ended: bool,
    /// Receivers first, then publishers.
    pub(super) sockets: Vec<Socket>,
    /// How many of both there are to be.
    pub(super) total: usize,
    pub(super) ready: usize,
    pub(super) connects: Histogram<u64>,
    pub(super) ledger: Ledger,
    /// Per socket and channel of it: whether its join has been `synced`.
    pub(super) synced: Vec<bool>,
    pub(super) buffer: Vec<u8>,
    pub(super) scratch: Vec<u8>,
    pub(super) body: Vec<u8>,
    /// Per publisher: what a burst writes to it.
    pub(super) bursts: Vec<Vec<u8>>,
    pub(super) dirty: Vec<usize>,
    pub(super) traffic: Traffic,
    /// Whether slow sockets read as fast as the others, to get what they still miss.
    pub(super) draining: bool,
    /// What the slow sockets had when the last run began.
    slow_then: Counts,
    pub(super) slow_group: usize,
    pub(super) slow_at_ns: u64,
}

#[derive(Serialize)]
struct Failed {
    event: &'static str,
    why: String,
}

/// Runs the client until its input ends. What goes wrong is printed as the line `failed`, too.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let result = Client::new(args).and_then(|mut client| client.serve());
    if let Err(error) = &result {
        print(&Failed {
            event: "failed",
            why: format!("{error:#}"),
        })?;
    }
    result
}

impl Client {
    fn new(args: &Args) -> anyhow::Result<Self> {
        args.check()?;
        if let Some(cpu) = args.cpu {
            pin(cpu)?;
        }
        raise_file_limit()?;
        let echo = args.mode == Mode::Echo;
        let (tokens, publish_tokens) = args.token_lists()?;
        let publish_url = args.publish_url.as_ref().unwrap_or(&args.url);
        // In an echo every socket is the one listener of a channel of its own.
        let layout = Layout {
            sockets: args.sockets,
            slow: args.slow_sockets,
            channels: if echo { args.sockets } else { args.channels },
            joins: if echo { 1 } else { args.joins },
        };
        let publishers = if args.mode == Mode::Fanout {
            args.publishers
        } else {
            0
        };
        let tag = now_ns() as u32 ^ std::process::id().rotate_left(16);
        let acks = args.mode == Mode::Fanout && (args.acks || args.dialect.always_acks());
        // What an echo's answer is may be shorter than the request.
        let timed = echo;
        let poll = Poll::new()?;
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_CLOEXEC)
            .context("create a timer")?;
        poll.add(&timer, TIMER, false).context("watch the timer")?;
        if !args.once {
            poll.add(io::stdin().as_fd(), INPUT, false)
                .context("watch the input, which must be a pipe (or give --once)")?;
        }
        Ok(Self {
            names: if echo {
                Vec::new()
            } else {
                args.channel_names()?
            },
            tag,
            layout,
            listen: Target::new(&args.url, tokens)?,
            publish: Target::new(publish_url, publish_tokens)?,
            poll,
            timer,
            timer_at: None,
            commands: Commands::default(),
            lines: VecDeque::new(),
            ended: false,
            sockets: Vec::with_capacity(args.sockets + publishers),
            total: args.sockets + publishers,
            ready: 0,
            connects: Histogram::new_with_bounds(1, 600_000_000_000, 3)
                .context("create a histogram")?,
            ledger: Ledger::new(layout, Payload::new(tag, args.payload)?, acks, timed),
            synced: vec![false; args.sockets * layout.joins],
            buffer: vec![0; BUFFER],
            scratch: Vec::new(),
            body: Vec::new(),
            bursts: vec![Vec::new(); if echo { args.sockets } else { publishers }],
            dirty: Vec::new(),
            traffic: Traffic::default(),
            draining: false,
            slow_then: Counts::default(),
            slow_group: 0,
            slow_at_ns: 0,
            args: args.clone(),
        })
    }

    fn serve(&mut self) -> anyhow::Result<()> {
        let baseline = Baseline::take(&mut self.ledger, self.traffic);
        if self.args.mode != Mode::Connect {
            self.connect_all()?;
        }
        self.report("ready", &baseline, Finish::now(true))?;
        if self.args.once {
            return self.go("");
        }
        while !self.ended {
            let timeout = (self.args.slow_sockets > 0).then_some(TICK);
            self.turn(timeout)?;
            while let Some(line) = self.lines.pop_front() {
                match line.split_once(' ').unwrap_or((&line, "")) {
                    ("go", changes) => self.go(changes)?,
                    ("drain", "") => self.drain()?,
                    ("", "") => {}
                    _ => bail!("unknown command {line:?}"),
                }
            }
        }
        Ok(())
    }

    fn go(&mut self, changes: &str) -> anyhow::Result<()> {
        let args = self.args.changed(changes)?;
        let baseline = Baseline::take(&mut self.ledger, self.traffic);
        self.slow_then = baseline.slow;
        let finish = if args.mode == Mode::Connect {
            self.connect_all()?;
            Finish::now(true)
        } else {
            let pace = Pace::new(args.total(), args.burst, args.rate, baseline.started_ns);
            self.play(pace)?
        };
        self.report("done", &baseline, finish)?;
        if args.mode == Mode::Connect {
            self.close_all()?;
        }
        Ok(())
    }

    /// Sends what the pace says until everybody has everything, or nothing comes any more.
    fn play(&mut self, mut pace: Pace) -> anyhow::Result<Finish> {
        let patience = self.args.patience().as_nanos() as u64;
        let mut progress = (self.ledger.brisk.delivered, self.ledger.acked, now_ns());
        let finish = loop {
            let now = now_ns();
            let got = (self.ledger.brisk.delivered, self.ledger.acked);
            if got != (progress.0, progress.1) {
                progress = (got.0, got.1, now);
            }
            let wait = match pace.due(now, self.ledger.complete()) {
                Due::Send { count, intended_ns } => {
                    self.send(count, intended_ns)?;
                    Duration::ZERO
                }
                Due::At(at) => {
                    self.arm(at)?;
                    TICK
                }
                Due::WhenComplete => TICK,
                Due::Over => break Finish::now(true),
            };
            if now - progress.2 > patience && !self.ledger.complete() {
                break Finish::now(false);
            }
            if self.ended {
                bail!("the input ended in the middle of a run");
            }
            match self.args.look_every_us {
                Some(us) if !wait.is_zero() => self.look_after(Duration::from_micros(us))?,
                _ => self.turn(Some(wait))?,
            }
        };
        let settled = now_ns() + self.args.settle_ms * 1_000_000;
        while let Some(left) = settled.checked_sub(now_ns()).filter(|left| *left > 0) {
            self.turn(Some(Duration::from_nanos(left).min(TICK)))?;
        }
        Ok(finish)
    }

    /// Lets the slow sockets read until they have everything; their figures are of the whole run.
    fn drain(&mut self) -> anyhow::Result<()> {
        let mut baseline = Baseline::take(&mut self.ledger, self.traffic);
        baseline.slow = self.slow_then;
        self.read_slow_fast(true)?;
        let patience = self.args.patience().as_nanos() as u64;
        let mut progress = (self.traffic.bytes_read, now_ns());
        let missing = |client: &Self| client.ledger.slow.expected > client.ledger.slow.delivered;
        while missing(self) && now_ns() - progress.1 < patience {
            self.turn(Some(TICK))?;
            if self.traffic.bytes_read != progress.0 {
                progress = (self.traffic.bytes_read, now_ns());
            }
        }
        let finish = Finish::now(!missing(self));
        self.read_slow_fast(false)?;
        self.report("drained", &baseline, finish)
    }

    fn report(
        &mut self,
        event: &'static str,
        baseline: &Baseline,
        finish: Finish,
    ) -> anyhow::Result<()> {
        self.ledger.check()?;
        let sockets = (self.layout.sockets, self.layout.slow);
        let done = baseline.done(
            event,
            &self.ledger,
            self.traffic,
            finish,
            sockets,
            &self.connects,
        );
        print(&done)
    }

    /// Sleeps so long, whatever comes, or until a message is to be sent; then handles what has come.
    #[expect(
        clippy::disallowed_methods,
        reason = "the client is one thread without a runtime, and is to sleep"
    )]
    fn look_after(&mut self, nap: Duration) -> anyhow::Result<()> {
        let until_due = self.timer_at.map(|at| at.saturating_sub(now_ns()));
        std::thread::sleep(until_due.map_or(nap, |left| nap.min(Duration::from_nanos(left))));
        self.turn(Some(Duration::ZERO))
    }

    /// Waits once for anything, and handles it.
    pub(super) fn turn(&mut self, timeout: Option<Duration>) -> anyhow::Result<()> {
        let ready = self.poll.wait(timeout)?;
        for at in 0..ready {
            let ready = self.poll.ready(at);
            match ready.token {
                INPUT => match self.commands.read()? {
                    Input::Lines(lines) => self.lines.extend(lines),
                    Input::Ended => self.ended = true,
                },
                TIMER => {
                    self.timer.wait().context("read the timer")?;
                    self.timer_at = None;
                }
                socket => {
                    let socket = usize::try_from(socket).context("a token")?;
                    if ready.writable {
                        self.writable(socket)?;
                    }
                    if ready.readable {
                        self.receive(socket)?;
                    }
                }
            }
        }
        if self.args.slow_sockets > 0 && !self.draining {
            self.serve_slow()?;
        }
        Ok(())
    }

    /// Makes a turn end at that time.
    pub(super) fn arm(&mut self, at_ns: u64) -> anyhow::Result<()> {
        if self.timer_at == Some(at_ns) {
            return Ok(());
        }
        // A time of zero would switch the timer off.
        let at = TimeSpec::from_duration(Duration::from_nanos(at_ns.max(1)));
        self.timer
            .set(
                Expiration::OneShot(at),
                TimerSetTimeFlags::TFD_TIMER_ABSTIME,
            )
            .context("set the timer")?;
        self.timer_at = Some(at_ns);
        Ok(())
    }

    /// Fails when the driver is gone.
    pub(super) fn ensure_wanted(&self) -> anyhow::Result<()> {
        anyhow::ensure!(!self.ended, "the input ended");
        Ok(())
    }
}
