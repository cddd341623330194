use std::net::{SocketAddr, TcpStream};

use anyhow::{Context, bail};

use super::server::Net;
use crate::wire::{
    pump::{Backlog, Carry, Filled},
    resp::{Reply, command, parse},
};

const BUFFER: usize = 256 * 1024;

/// A bare connection to Redis: commands of a turn go out in one write.
#[derive(Debug)]
pub(super) struct Redis {
    stream: TcpStream,
    carry: Carry,
    backlog: Backlog,
    queued: Vec<u8>,
    buffer: Vec<u8>,
    watches_writes: bool,
}

impl Redis {
    /// Connects.
    pub(super) fn connect(addr: SocketAddr) -> anyhow::Result<Self> {
        let stream =
            TcpStream::connect(addr).with_context(|| format!("connect to Redis {addr}"))?;
        stream.set_nodelay(true).context("set TCP_NODELAY")?;
        stream
            .set_nonblocking(true)
            .context("make a socket non-blocking")?;
        Ok(Self {
            stream,
            carry: Carry::default(),
            backlog: Backlog::default(),
            queued: Vec::new(),
            buffer: vec![0; BUFFER],
            watches_writes: false,
        })
    }

    pub(super) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Adds a command to those of this turn.
    pub(super) fn queue(&mut self, parts: &[&[u8]]) {
        command(parts, &mut self.queued);
    }

    /// Writes the commands of this turn. Always called after a read, too: that is when the epoll
    /// may have reported room.
    pub(super) fn flush(&mut self, net: &Net, token: u64) -> anyhow::Result<()> {
        if self.queued.is_empty() && self.backlog.is_empty() {
            return Ok(());
        }
        if !self.backlog.is_empty() {
            self.backlog.flush(&self.stream).context("write to Redis")?;
        }
        if !self.queued.is_empty() {
            self.backlog
                .send(&self.stream, &self.queued)
                .context("write to Redis")?;
            self.queued.clear();
        }
        let waits = !self.backlog.is_empty();
        if waits != self.watches_writes {
            self.watches_writes = waits;
            net.rewatch(&self.stream, token, waits)?;
        }
        Ok(())
    }

    /// Reads once, and hands over every whole reply.
    pub(super) fn read(
        &mut self,
        mut each: impl FnMut(Reply<'_>) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let total = match self.carry.fill(&self.stream, &mut self.buffer, usize::MAX) {
            Ok(Filled::Bytes { total, .. }) => total,
            Ok(Filled::Empty) => return Ok(()),
            Ok(Filled::Ended) => bail!("Redis has closed the connection"),
            Err(error) => return Err(error).context("read from Redis"),
        };
        let mut used = 0;
        while let Some((reply, length)) = parse(&self.buffer[used..total])? {
            each(reply)?;
            used += length;
        }
        self.carry.keep(&self.buffer[used..total]);
        Ok(())
    }
}
