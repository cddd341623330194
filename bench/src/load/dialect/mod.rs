//! How each server is spoken to: what is said, and what its frames mean.

mod hubbub;
mod nats;
mod nchan;
mod raw;
mod socketio;

use super::args::Dialect;
use crate::wire::{frame, payload::Payload};

/// What a frame (or a part of a stream) of a server means.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Event<'a> {
    /// The server has greeted: requests may go out.
    Greeted,
    /// A step of a join was answered.
    Joined,
    /// The channel of this name is up to date; for a join that is its last step.
    Synced(&'a str),
    /// What follows in this channel may repeat what was there.
    Replay(&'a str),
    /// Something with a payload in it.
    Message(&'a [u8]),
    /// The request with this index is answered.
    Numbered(u64),
    /// The connection's oldest request is answered.
    Next,
    /// This must be said at once.
    Say(&'static [u8]),
    /// Nothing that we count.
    Nothing,
}

/// Where a socket is when a frame comes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    /// Whether the server has greeted.
    pub(super) greeted: bool,
    /// Whether every join was answered.
    pub(super) ready: bool,
    /// Whether it publishes, and does not listen.
    pub(super) publisher: bool,
}

impl Dialect {
    /// The kind of its data frames.
    pub(super) fn opcode(self) -> u8 {
        match self {
            Self::Nats => frame::BINARY,
            _ => frame::TEXT,
        }
    }

    /// Whether the server speaks first.
    pub(super) fn greets(self) -> bool {
        matches!(self, Self::Hubbub | Self::Socketio | Self::Nats)
    }

    /// How many events answer a join.
    pub(super) fn join_steps(self) -> usize {
        match self {
            Self::Hubbub => 2,
            Self::Raw | Self::Socketio | Self::Nats => 1,
            Self::Nchan => 0,
        }
    }

    /// Whether every message is acknowledged, asked or not.
    pub(super) fn always_acks(self) -> bool {
        self == Self::Hubbub
    }

    /// Whether data come as a stream that frames cut anywhere.
    pub(super) fn streams(self) -> bool {
        self == Self::Nats
    }

    /// Appends a request to join; `place` numbers the joins of the socket.
    pub(super) fn join(self, channel: &str, place: usize, out: &mut Vec<u8>) {
        match self {
            Self::Hubbub => hubbub::join(channel, place, out),
            Self::Raw => raw::join(channel, out),
            Self::Socketio => socketio::join(channel, place, out),
            Self::Nats => nats::join(channel, place, out),
            Self::Nchan => {}
        }
    }

    /// Appends a message.
    pub(super) fn publish(self, message: &Message<'_>, out: &mut Vec<u8>) {
        match self {
            Self::Hubbub => hubbub::publish(message, out),
            Self::Raw => raw::publish(message, out),
            Self::Socketio => socketio::publish(message, out),
            Self::Nats => nats::publish(message, out),
            Self::Nchan => message.payload(out),
        }
    }

    /// Appends a request that only its sender gets an answer to.
    pub(super) fn echo(self, message: &Message<'_>, out: &mut Vec<u8>) {
        match self {
            Self::Hubbub => hubbub::echo(message, out),
            _ => raw::echo(message, out),
        }
    }

    /// What a frame means. Not for a dialect that [streams](Self::streams).
    pub(super) fn event<'a>(self, bytes: &'a [u8], place: Place) -> anyhow::Result<Event<'a>> {
        match self {
            Self::Hubbub => hubbub::event(bytes),
            Self::Raw => raw::event(bytes),
            Self::Socketio => socketio::event(bytes, place),
            Self::Nchan => Ok(nchan::event(bytes, place)),
            Self::Nats => anyhow::bail!("NATS is no sequence of frames"),
        }
    }

    /// What a stream begins with, and its length; `None` while it is not complete.
    pub(super) fn stream_event<'a>(
        self,
        bytes: &'a [u8],
        place: Place,
    ) -> anyhow::Result<Option<(Event<'a>, usize)>> {
        nats::event(bytes, place)
    }
}

/// A message on its way out.
#[derive(Debug)]
pub(super) struct Message<'a> {
    pub(super) channel: &'a str,
    pub(super) index: u64,
    pub(super) intended_ns: u64,
    pub(super) tag: u32,
    /// Whether an acknowledgement is wanted.
    pub(super) ack: bool,
    pub(super) payload: &'a Payload,
}

impl Message<'_> {
    fn payload(&self, out: &mut Vec<u8>) {
        self.payload.write(self.index, self.intended_ns, out);
    }
}

/// What a server said, short enough for an error.
fn shown(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(300)]).into_owned()
}

/// Appends a number in decimal.
fn decimal(number: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(number.to_string().as_bytes());
}

/// The digits that some bytes begin with, as a number, and what follows.
fn number(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let end = bytes
        .iter()
        .position(|byte| !byte.is_ascii_digit())
        .unwrap_or(bytes.len());
    let number = std::str::from_utf8(&bytes[..end]).ok()?.parse().ok()?;
    Some((number, &bytes[end..]))
}
