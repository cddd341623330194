use std::{
    io::{self, Read as _},
    net::Shutdown,
};

use anyhow::{Context, bail};

use super::{
    args::Mode,
    client::{Client, TICK, Target},
    dialect::Place,
    socket::{Phase, Socket},
};
use crate::wire::{
    clock::now_ns,
    frame::{self, client_frame},
    handshake::request,
};

impl Client {
    /// Opens every socket and waits until all are ready.
    pub(super) fn connect_all(&mut self) -> anyhow::Result<()> {
        self.ready = 0;
        self.synced.fill(false);
        self.connects.reset();
        let started = now_ns();
        let patience = self.args.patience().as_nanos() as u64;
        let mut progress = (self.traffic.bytes_read, started);
        while self.ready < self.total {
            self.open_more(started)?;
            self.turn(Some(TICK))?;
            self.ensure_wanted()?;
            if self.traffic.bytes_read != progress.0 || self.sockets.len() == self.ready {
                progress = (self.traffic.bytes_read, now_ns());
            }
            if now_ns() - progress.1 > patience {
                let (ready, total) = (self.ready, self.total);
                let stuck = self
                    .sockets
                    .iter()
                    .find(|socket| socket.phase != Phase::Ready);
                let phase = stuck.map(|socket| socket.phase);
                bail!("{ready} of {total} sockets are ready, and nothing comes ({phase:?})");
            }
        }
        Ok(())
    }

    fn open_more(&mut self, started: u64) -> anyhow::Result<()> {
        while self.sockets.len() < self.total
            && self.sockets.len() - self.ready < self.args.connecting
        {
            let at = self.sockets.len();
            let now = now_ns();
            let intended_ns = match self.args.connect_rate {
                None => now,
                Some(rate) => started + (at as f64 * 1e9 / rate) as u64,
            };
            if intended_ns > now {
                return self.arm(intended_ns);
            }
            let slow = (at < self.layout.slow).then_some(self.args.slow_receive_buffer);
            let socket = Socket::open(self.target(at).address, slow, intended_ns)?;
            self.poll
                .add(&socket, at as u64, true)
                .context("watch a socket")?;
            self.sockets.push(socket);
        }
        Ok(())
    }

    fn target(&self, at: usize) -> &Target {
        if self.is_publisher(at) {
            &self.publish
        } else {
            &self.listen
        }
    }

    /// Whether a socket publishes, and does not listen.
    pub(super) fn is_publisher(&self, at: usize) -> bool {
        at >= self.layout.sockets
    }

    fn is_slow_now(&self, at: usize) -> bool {
        at < self.layout.slow && !self.draining && self.sockets[at].phase == Phase::Ready
    }

    pub(super) fn place(&self, at: usize) -> Place {
        let phase = self.sockets[at].phase;
        Place {
            greeted: phase > Phase::Greeting,
            ready: phase == Phase::Ready,
            publisher: self.is_publisher(at),
        }
    }

    /// Goes on with what waited for room.
    pub(super) fn writable(&mut self, at: usize) -> anyhow::Result<()> {
        if self.sockets[at].phase == Phase::Connecting {
            return self.connected(at);
        }
        let socket = &mut self.sockets[at];
        let done = socket
            .backlog
            .flush(&socket.stream)
            .with_context(|| format!("socket {at}"))?;
        self.traffic.writes += 1;
        if done {
            self.watch(at, false)?;
        }
        Ok(())
    }

    fn connected(&mut self, at: usize) -> anyhow::Result<()> {
        let socket = &mut self.sockets[at];
        if let Some(error) = socket.stream.take_error().context("look at a connection")? {
            return Err(error).with_context(|| format!("connect socket {at}"));
        }
        socket.phase = Phase::Upgrading;
        let publisher = self.is_publisher(at);
        let target = self.target(at);
        // The channel stands in the URL where a connection is for one channel only.
        let number = if publisher {
            at - self.layout.sockets
        } else {
            at
        };
        let channel = if publisher {
            Some(number)
        } else {
            self.layout.joined(at).next()
        };
        let name = channel.and_then(|channel| self.names.get(channel));
        let path = target
            .url
            .target
            .replace("{channel}", name.map_or("", String::as_str));
        let token =
            (!target.tokens.is_empty()).then(|| &*target.tokens[number % target.tokens.len()]);
        let mut asked = Vec::new();
        request(&target.url.authority, &path, token, &mut asked);
        self.watch(at, false)?;
        self.write(at, &asked)
    }

    /// The server has agreed to speak WebSocket.
    pub(super) fn upgraded(&mut self, at: usize) -> anyhow::Result<()> {
        self.sockets[at].phase = Phase::Greeting;
        if self.args.dialect.greets() {
            Ok(())
        } else {
            self.greeted(at)
        }
    }

    /// Requests may go out: the joins.
    pub(super) fn greeted(&mut self, at: usize) -> anyhow::Result<()> {
        if self.sockets[at].phase != Phase::Greeting {
            bail!("socket {at} was greeted twice");
        }
        self.sockets[at].phase = Phase::Joining;
        let dialect = self.args.dialect;
        let silent = self.is_publisher(at) || self.args.mode == Mode::Echo;
        if !silent {
            self.sockets[at].steps_left = self.layout.joins * dialect.join_steps();
            let mut out = Vec::new();
            for (place, channel) in self.layout.joined(at).enumerate() {
                let mut body = Vec::new();
                dialect.join(&self.names[channel], place, &mut body);
                if !body.is_empty() {
                    let opcode = dialect.opcode();
                    client_frame(opcode, body.len(), &mut out, |out| out.extend(&body));
                }
            }
            if !out.is_empty() {
                self.write(at, &out)?;
            }
        }
        if self.sockets[at].steps_left == 0 {
            self.become_ready(at)?;
        }
        Ok(())
    }

    /// One answer to a join has come.
    pub(super) fn step(&mut self, at: usize) -> anyhow::Result<()> {
        let socket = &mut self.sockets[at];
        let left = socket.steps_left.checked_sub(1);
        socket.steps_left = left.with_context(|| format!("socket {at}: an answer too many"))?;
        if socket.steps_left == 0 {
            self.become_ready(at)?;
        }
        Ok(())
    }

    fn become_ready(&mut self, at: usize) -> anyhow::Result<()> {
        let socket = &mut self.sockets[at];
        socket.phase = Phase::Ready;
        self.connects
            .saturating_record(now_ns().saturating_sub(socket.intended_ns));
        self.ready += 1;
        if self.is_slow_now(at) {
            let writable = self.sockets[at].watches_writes;
            self.watch(at, writable)?;
        }
        Ok(())
    }

    /// Writes what the kernel takes; the rest goes out when there is room.
    pub(super) fn write(&mut self, at: usize, bytes: &[u8]) -> anyhow::Result<()> {
        let socket = &mut self.sockets[at];
        let calls = socket.backlog.send(&socket.stream, bytes);
        self.traffic.writes += calls.with_context(|| format!("write to socket {at}"))?;
        self.traffic.bytes_written += bytes.len() as u64;
        if !socket.backlog.is_empty() && !socket.watches_writes {
            self.watch(at, true)?;
        }
        Ok(())
    }

    /// Watches a socket for room to write or not, and for something to read unless it is slow.
    fn watch(&mut self, at: usize, writable: bool) -> anyhow::Result<()> {
        let readable = !self.is_slow_now(at);
        let socket = &mut self.sockets[at];
        socket.watches_writes = writable;
        self.poll
            .set(&*socket, at as u64, readable, writable)
            .context("watch a socket")
    }

    /// Lets slow sockets read as fast as the others, or not.
    pub(super) fn read_slow_fast(&mut self, fast: bool) -> anyhow::Result<()> {
        self.draining = fast;
        for at in 0..self.layout.slow {
            let writable = self.sockets[at].watches_writes;
            self.watch(at, writable)?;
        }
        Ok(())
    }

    /// Says goodbye on every socket and waits until the server has closed them.
    pub(super) fn close_all(&mut self) -> anyhow::Result<()> {
        let mut close = Vec::new();
        client_frame(frame::CLOSE, 2, &mut close, |out| {
            out.extend(1000_u16.to_be_bytes())
        });
        for at in 0..self.sockets.len() {
            self.write(at, &close)?;
        }
        for (at, socket) in self.sockets.drain(..).enumerate() {
            let mut stream = socket.stream;
            let mut farewell = || -> io::Result<()> {
                stream.set_nonblocking(false)?;
                stream.set_read_timeout(Some(self.args.patience()))?;
                while stream.read(&mut self.buffer)? > 0 {}
                stream.shutdown(Shutdown::Both)
            };
            match farewell() {
                Ok(()) => {}
                // The server was quicker, and has forgotten the connection.
                Err(error) if error.kind() == io::ErrorKind::NotConnected => {}
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {}
                Err(error) => return Err(error).with_context(|| format!("close socket {at}")),
            }
        }
        Ok(())
    }
}
