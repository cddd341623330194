use std::time::Duration;

use anyhow::{Context, bail, ensure};

use super::{
    args::Mode,
    client::{Client, TICK},
    dialect::Event,
    socket::Phase,
};
use crate::wire::{
    clock::now_ns,
    frame::{self, client_frame, parse},
    handshake::response,
    pump::Filled,
};

/// No server here sends a longer frame.
const FRAME_MAX: usize = 128 * 1024;
/// Slow sockets are read once a second, in so many groups, one a tick.
const SLOW_GROUPS: usize = Duration::from_secs(1).as_millis() as usize / TICK.as_millis() as usize;

impl Client {
    /// Reads a socket once. What is left is reported again by the epoll.
    pub(super) fn receive(&mut self, at: usize) -> anyhow::Result<()> {
        self.read(at, usize::MAX)
    }

    fn read(&mut self, at: usize, limit: usize) -> anyhow::Result<()> {
        // Taken out, so that its bytes can be looked at while the rest of the client changes.
        let mut buffer = std::mem::take(&mut self.buffer);
        let socket = &self.sockets[at];
        let filled = socket.carry.fill(&socket.stream, &mut buffer, limit);
        let result = match filled.with_context(|| format!("read socket {at}"))? {
            Filled::Empty => Ok(()),
            Filled::Ended => bail!("socket {at} was closed by the server"),
            Filled::Bytes { total, new } => {
                self.traffic.reads += 1;
                self.traffic.bytes_read += new as u64;
                let used = self.consume(at, &buffer[..total], now_ns());
                used.map(|used| self.sockets[at].carry.keep(&buffer[used..total]))
            }
        };
        self.buffer = buffer;
        result.with_context(|| format!("socket {at}"))
    }

    /// Handles every whole frame, and says how many bytes they have.
    fn consume(&mut self, at: usize, bytes: &[u8], now: u64) -> anyhow::Result<usize> {
        let mut used = 0;
        if self.sockets[at].phase == Phase::Upgrading {
            let Some(length) = response(bytes)? else {
                return Ok(0);
            };
            used = length;
            self.upgraded(at)?;
        }
        while let Some(frame) = parse(&bytes[used..], FRAME_MAX)? {
            let payload = &bytes[used + frame.payload.start..used + frame.payload.end];
            used += frame.payload.end;
            ensure!(frame.mask.is_none(), "the server masks its frames");
            match frame.opcode {
                frame::PING => self.say(at, frame::PONG, payload)?,
                frame::PONG => {}
                frame::CLOSE => {
                    let (code, reason) = payload.split_at(payload.len().min(2));
                    let code = code
                        .iter()
                        .fold(0_u16, |code, byte| code << 8 | u16::from(*byte));
                    bail!(
                        "the server closes: {code} {}",
                        String::from_utf8_lossy(reason)
                    );
                }
                frame::TEXT | frame::BINARY | frame::CONTINUATION => {
                    if self.args.dialect.streams() {
                        self.stream(at, payload, now)?;
                    } else {
                        let whole = frame.last && frame.opcode != frame::CONTINUATION;
                        ensure!(whole, "the server sends fragments");
                        let event = self.args.dialect.event(payload, self.place(at))?;
                        self.handle(at, event, now)?;
                    }
                }
                other => bail!("a frame of kind {other}"),
            }
        }
        Ok(used)
    }

    fn stream(&mut self, at: usize, bytes: &[u8], now: u64) -> anyhow::Result<()> {
        let mut text = std::mem::take(&mut self.sockets[at].text);
        text.extend_from_slice(bytes);
        let mut used = 0;
        let dialect = self.args.dialect;
        while let Some((event, length)) = dialect.stream_event(&text[used..], self.place(at))? {
            used += length;
            self.handle(at, event, now)?;
        }
        text.drain(..used);
        self.sockets[at].text = text;
        Ok(())
    }

    fn handle(&mut self, at: usize, event: Event<'_>, now: u64) -> anyhow::Result<()> {
        match event {
            Event::Message(bytes) => self.message(at, bytes, now),
            Event::Numbered(index) if self.args.mode == Mode::Echo => {
                self.ledger.answer(at, index, now)
            }
            Event::Numbered(index) if self.ledger.wants_acks() => self.ledger.ack(index, now),
            Event::Next if self.ledger.wants_acks() => {
                self.ledger.ack_next(at - self.layout.sockets, now)
            }
            Event::Numbered(_) | Event::Next | Event::Nothing => Ok(()),
            Event::Greeted => self.greeted(at),
            Event::Joined => self.step(at),
            Event::Synced(name) => {
                let channel = self.joined_channel(at, name)?;
                let synced = &mut self.synced[at * self.layout.joins + channel.0];
                if std::mem::replace(synced, true) {
                    Ok(())
                } else {
                    self.step(at)
                }
            }
            Event::Replay(name) => {
                let channel = self.joined_channel(at, name)?;
                self.ledger.replay(at, channel.1);
                Ok(())
            }
            Event::Say(bytes) => self.say(at, self.args.dialect.opcode(), bytes),
        }
    }

    fn message(&mut self, at: usize, bytes: &[u8], now: u64) -> anyhow::Result<()> {
        let shown = || String::from_utf8_lossy(&bytes[..bytes.len().min(300)]).into_owned();
        ensure!(
            !self.is_publisher(at),
            "a publisher gets a message: {}",
            shown()
        );
        let hint = &mut self.sockets[at].hint;
        let payload = &self.ledger.payload;
        let header = payload.find(bytes, hint);
        // Either the payload is the whole frame, or it is a string of JSON and ends as one.
        let ends_well = match bytes.get(*hint + payload.length()) {
            None => *hint == 0,
            Some(next) => *next == b'"',
        };
        match header {
            Some(header) if ends_well => self.ledger.deliver(at, header, now),
            _ => bail!("a damaged or foreign message: {}", shown()),
        }
    }

    /// The place among the socket's channels, and the number, of a channel.
    fn joined_channel(&self, at: usize, name: &str) -> anyhow::Result<(usize, usize)> {
        let mut joined = self.layout.joined(at).enumerate();
        let found = joined.find(|(_, channel)| self.names[*channel] == name);
        found
            .filter(|_| !self.is_publisher(at))
            .with_context(|| format!("{name} was not joined"))
    }

    fn say(&mut self, at: usize, opcode: u8, bytes: &[u8]) -> anyhow::Result<()> {
        let mut out = std::mem::take(&mut self.scratch);
        out.clear();
        client_frame(opcode, bytes.len(), &mut out, |out| {
            out.extend_from_slice(bytes)
        });
        let result = self.write(at, &out);
        self.scratch = out;
        result
    }

    /// Reads the group of slow sockets whose turn it is.
    pub(super) fn serve_slow(&mut self) -> anyhow::Result<()> {
        let now = now_ns();
        if now < self.slow_at_ns {
            return Ok(());
        }
        self.slow_at_ns = now + TICK.as_nanos() as u64;
        self.slow_group = (self.slow_group + 1) % SLOW_GROUPS;
        let slow = self.layout.slow.min(self.sockets.len());
        for at in (self.slow_group..slow).step_by(SLOW_GROUPS) {
            if self.sockets[at].phase == Phase::Ready {
                self.read(at, self.args.read_rate)?;
            }
        }
        Ok(())
    }
}
