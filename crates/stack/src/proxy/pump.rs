//! One way of a connection.
//!
//! On a plain link a chunk goes from one socket to the other by one read and one write, without a
//! timer, a queue or memory of its own: hundreds of idle links cost nothing but their sockets.

use super::Conditions;
use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

/// One read's size.
const CHUNK: usize = 16 * 1024;
/// What is on its way through a delay; past it nothing more is read.
const QUEUE_BYTES: usize = 256 * 1024;
/// A bandwidth limit is kept by writing this often.
const SLICES_PER_SECOND: u64 = 20;
/// The way on which connections are torn.
const TO_CLIENT: usize = 1;

/// Why a way ended before its end.
#[derive(Debug)]
pub(super) enum Failure {
    /// A side went away.
    Broken,
    /// As many bytes have passed as were allowed.
    Torn,
}

impl From<io::Error> for Failure {
    fn from(_: io::Error) -> Self {
        Self::Broken
    }
}

#[derive(Debug)]
pub(super) struct Pump<'a> {
    way: usize,
    made: Conditions,
    conditions: watch::Receiver<Conditions>,
    forwarded: &'a AtomicU64,
    /// The newest tear that was looked at, and what it leaves.
    tears: u64,
    budget: Option<u64>,
    /// What could not be written at once, with the time when it was read.
    queue: VecDeque<(Instant, Vec<u8>)>,
    queued: usize,
    /// Nothing more will be read.
    ended: bool,
}

impl<'a> Pump<'a> {
    /// `made` are the conditions when the connection was made.
    pub(super) fn new(
        way: usize,
        made: Conditions,
        conditions: watch::Receiver<Conditions>,
        forwarded: &'a AtomicU64,
    ) -> Self {
        Self {
            way,
            made,
            conditions,
            forwarded,
            tears: made.tears,
            budget: None,
            queue: VecDeque::new(),
            queued: 0,
            ended: false,
        }
    }

    /// Carries everything up to the end of `from`.
    pub(super) async fn run(
        mut self,
        from: ReadHalf<'_>,
        mut to: WriteHalf<'_>,
    ) -> Result<(), Failure> {
        loop {
            let now = self.look();
            if self.holds(&now) {
                self.changed().await?;
            } else if let Some((read, _)) = self.queue.front() {
                let due = *read + now.delay;
                if now.delay.is_zero() || due <= Instant::now() {
                    self.write_first(&to).await?;
                    continue;
                }
                let room = !self.ended && self.queued < QUEUE_BYTES;
                // Waits for: the time of delivery; something to read; other conditions.
                // All three are cancel-safe.
                tokio::select! {
                    () = sleep_until(due) => {}
                    ready = from.readable(), if room => {
                        ready?;
                        self.read(&from, &to)?;
                    }
                    changed = self.changed() => changed?,
                }
            } else if self.ended {
                return Ok(to.shutdown().await?);
            } else {
                from.readable().await?;
                // A link that began to hold meanwhile must not let this through.
                match self.conditions.has_changed() {
                    Ok(false) => self.read(&from, &to)?,
                    Ok(true) => {}
                    // The proxy is gone.
                    Err(_) => return Err(Failure::Broken),
                }
            }
        }
    }

    fn look(&mut self) -> Conditions {
        let now = *self.conditions.borrow_and_update();
        if self.way == TO_CLIENT && now.tears != self.tears {
            self.tears = now.tears;
            self.budget = now.tear_after;
        }
        now
    }

    /// Whether nothing may pass now: the way is held, or the connection is cut or silenced, and
    /// whoever waits for that command ends this way.
    fn holds(&self, now: &Conditions) -> bool {
        now.holding[self.way] || now.ends(&self.made)
    }

    /// Waits for other conditions; fails when the proxy is gone, since nothing changes any more
    /// and a wait that ends at once would never yield. Cancel-safe.
    async fn changed(&mut self) -> Result<(), Failure> {
        self.conditions.changed().await.map_err(|_| Failure::Broken)
    }

    /// Reads once and hands it on if nothing speaks against it; keeps the rest. Not async, so that
    /// the buffer is on the stack and not in every connection's future.
    fn read(&mut self, from: &ReadHalf<'_>, to: &WriteHalf<'_>) -> Result<(), Failure> {
        let mut buffer = [0; CHUNK];
        let n = match from.try_read(&mut buffer) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            n => n?,
        };
        if n == 0 {
            self.ended = true;
            return Ok(());
        }
        let now = self.look();
        let plain = now.delay.is_zero() && now.bytes_per_second.is_none();
        let mut rest = &buffer[..n];
        if plain && !self.holds(&now) && self.queue.is_empty() && self.budget.is_none() {
            rest = &rest[self.offer(to, rest)?..];
        }
        if !rest.is_empty() {
            self.queued += rest.len();
            self.queue.push_back((Instant::now(), rest.to_vec()));
        }
        Ok(())
    }

    /// Writes what `to` takes without waiting, and counts it.
    fn offer(&self, to: &WriteHalf<'_>, bytes: &[u8]) -> Result<usize, Failure> {
        let n = match to.try_write(bytes) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
            n => n?,
        };
        self.forwarded.fetch_add(n as u64, Ordering::SeqCst);
        Ok(n)
    }

    /// Writes the first chunk of the queue as fast as the conditions allow.
    async fn write_first(&mut self, to: &WriteHalf<'_>) -> Result<(), Failure> {
        let Some((_, chunk)) = self.queue.pop_front() else {
            return Ok(());
        };
        self.queued -= chunk.len();
        let mut rest = chunk.as_slice();
        while !rest.is_empty() {
            to.writable().await?;
            let now = self.look();
            if self.holds(&now) {
                self.changed().await?;
                continue;
            }
            let mut most = now.bytes_per_second.map_or(rest.len(), slice_len);
            if let Some(budget) = self.budget {
                most = most.min(usize::try_from(budget).unwrap_or(usize::MAX));
            }
            let n = self.offer(to, &rest[..most.min(rest.len())])?;
            rest = &rest[n..];
            if let Some(budget) = &mut self.budget {
                *budget -= n as u64;
                if *budget == 0 {
                    return Err(Failure::Torn);
                }
            }
            if let (Some(rate), 1..) = (now.bytes_per_second, n) {
                let pause = Duration::from_secs_f64(n as f64 / rate as f64);
                // Waits for: the time that these bytes take; other conditions.
                tokio::select! {
                    () = sleep(pause) => {}
                    changed = self.changed() => changed?,
                }
            }
        }
        Ok(())
    }
}

fn slice_len(rate: u64) -> usize {
    usize::try_from(rate / SLICES_PER_SECOND).map_or(CHUNK, |n| n.clamp(1, CHUNK))
}
