//! What is kept of a history: the same facts in few bytes.

use hubbub_protocol::MessageId;

use crate::history::{self, Change, Delivery, Kind, Paging, Phase};

/// No moment, no seq, no message: the value that no real one has.
pub(crate) const NEVER: u64 = u64::MAX;
pub(crate) const NONE: u32 = u32::MAX;

/// A record by its identity (channel, user, id).
#[derive(Debug, Clone)]
pub(crate) struct Message {
    pub(crate) channel: u32,
    pub(crate) user: u32,
    pub(crate) id: MessageId,
    /// As it was first seen, in order of the history.
    pub(crate) sum: u32,
    pub(crate) kind: Kind,
    /// The seq of its row, the lowest if there are several; 0 if there is none.
    pub(crate) kept: u64,
    /// Its place among the rows of the log: the offset and partition of its first record that is
    /// no dead letter.
    pub(crate) logged: Option<(i32, i64)>,
    /// When its earliest attempt began.
    pub(crate) invoked: u64,
    /// When the earliest `ok` to any attempt came.
    pub(crate) acked: u64,
    pub(crate) attempts: u32,
    pub(crate) rejected: u32,
    /// What it answers.
    pub(crate) answers: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Open,
    Ok { seq: Option<u64> },
    Rejected,
    Unknown,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Attempt {
    pub(crate) message: u32,
    pub(crate) retry: bool,
    pub(crate) outcome: Outcome,
    /// When it was answered.
    pub(crate) answered: u64,
}

#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) number: u32,
    pub(crate) opened: u64,
    pub(crate) closed: u64,
}

#[derive(Debug)]
pub(crate) struct Device {
    pub(crate) user: u32,
    pub(crate) connections: Vec<Connection>,
}

impl Device {
    /// The connection that is up at a moment.
    pub(crate) fn connected(&self, at: u64) -> Option<&Connection> {
        let up = |c: &&Connection| c.opened <= at && c.closed > at;
        self.connections.iter().rev().find(up)
    }

    /// When a connection was over.
    pub(crate) fn closed(&self, connection: u32) -> u64 {
        let it = |c: &&Connection| c.number == connection;
        self.connections
            .iter()
            .rev()
            .find(it)
            .map_or(NEVER, |c| c.closed)
    }
}

/// The answer to a join.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Join {
    pub(crate) since: Option<u64>,
    pub(crate) head: Option<u64>,
    pub(crate) recovered: bool,
    pub(crate) ordered: bool,
}

impl Join {
    /// Whether it goes on from where the device was.
    pub(crate) fn goes_on(&self) -> bool {
        self.since.is_some() && self.recovered
    }

    /// What follows is above this; `None` while nobody knows.
    pub(crate) fn point(&self) -> Option<u64> {
        if self.recovered && self.since.is_some() {
            self.since
        } else {
            self.head
        }
    }
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum What {
    /// A join was sent.
    Asked,
    /// Number in [`Stream::joins`].
    Joined(u32),
    Left {
        evicted: bool,
    },
    Replay(u64),
    Wire {
        message: u32,
        seq: u64,
    },
    Synced(u64),
    Given {
        message: u32,
        seq: u64,
        catch_up: bool,
    },
    Moved {
        message: u32,
        seq: u64,
    },
}

/// Something that a device saw in a channel.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fact {
    pub(crate) at: u64,
    /// 0 for what the client crate says.
    pub(crate) connection: u32,
    pub(crate) what: What,
}

/// Everything that one device saw in one channel, in order.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) device: u32,
    pub(crate) channel: u32,
    pub(crate) facts: Vec<Fact>,
    pub(crate) joins: Vec<Join>,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Row {
    pub(crate) channel: u32,
    pub(crate) seq: u64,
    pub(crate) message: u32,
    pub(crate) partition: i32,
    /// Of the text that the row has.
    pub(crate) sum: u32,
    pub(crate) at: u64,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Logged {
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    /// [`NONE`] if nobody can read it.
    pub(crate) message: u32,
    pub(crate) at: u64,
    /// The consumer gave it up.
    pub(crate) dead: bool,
}

#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) at: u64,
    pub(crate) server: String,
    pub(crate) channel: u32,
    pub(crate) paging: Paging,
    pub(crate) limit: u32,
    /// Of records of every kind.
    pub(crate) every: bool,
    pub(crate) entries: Vec<(hubbub_protocol::Seq, MessageId)>,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Counts {
    pub(crate) at: u64,
    pub(crate) partition: i32,
    pub(crate) next_offset: i64,
    pub(crate) rows: u64,
    pub(crate) duplicates: u64,
    pub(crate) dead: u64,
}

/// A change of a membership, from the question to the answer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Membership {
    pub(crate) channel: u32,
    pub(crate) user: u32,
    pub(crate) change: Change,
    pub(crate) asked: u64,
    /// [`NEVER`] if it was not answered.
    pub(crate) answered: u64,
    pub(crate) done: bool,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Gauge {
    pub(crate) at: u64,
    pub(crate) phase: Option<Phase>,
    pub(crate) process: u32,
    pub(crate) pid: u32,
    pub(crate) name: u32,
    pub(crate) value: f64,
}

#[derive(Debug)]
pub(crate) struct LogLine {
    pub(crate) at: u64,
    pub(crate) process: String,
    pub(crate) level: String,
    pub(crate) text: String,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Status {
    pub(crate) at: u64,
    /// The sender's device that saw it.
    pub(crate) device: u32,
    pub(crate) channel: u32,
    pub(crate) of: u32,
    pub(crate) delivered: u64,
    pub(crate) read: u64,
}

/// A record that did not say what it had said elsewhere, and nothing explains it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Corrupt {
    pub(crate) at: u64,
    pub(crate) message: u32,
    pub(crate) sum: u32,
    pub(crate) kind: Kind,
    pub(crate) seen: Seen,
}

/// Where a record was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Seen {
    Sent,
    InTheLog,
    InTheStore,
    OnTheWire,
    HandedOn,
    Moved,
}

impl Seen {
    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::Sent => "as it was sent",
            Self::InTheLog => "in the log",
            Self::InTheStore => "in the store",
            Self::OnTheWire => "on the wire",
            Self::HandedOn => "handed on",
            Self::Moved => "moved",
        }
    }

    /// Whether it is what was said at first, whatever became of it.
    pub(crate) fn is_first(self) -> bool {
        matches!(self, Self::Sent | Self::InTheLog)
    }
}

/// A message as somebody shows it at the end.
#[derive(Debug)]
pub(crate) struct Shown {
    pub(crate) at: u64,
    pub(crate) server: u32,
    pub(crate) channel: u32,
    pub(crate) seq: u64,
    pub(crate) state: history::State,
}

/// What a dashboard showed, and what there was.
#[derive(Debug)]
pub(crate) struct Looked {
    pub(crate) at: u64,
    pub(crate) server: u32,
    pub(crate) there: history::Load,
    pub(crate) shown: history::Load,
}

/// Who was told which direct channel is that of two users.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Direct {
    pub(crate) at: u64,
    pub(crate) user: u32,
    pub(crate) with: u32,
    pub(crate) channel: u32,
}

/// A device says how far it came.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mark {
    pub(crate) at: u64,
    pub(crate) channel: u32,
    pub(crate) of: u32,
    pub(crate) delivered: u64,
    pub(crate) read: u64,
    /// [`NEVER`] if it was not answered.
    pub(crate) answered: u64,
    /// The answer says that the log has it.
    pub(crate) waits: bool,
}

/// How far a device came, by a final read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cursor {
    pub(crate) at: u64,
    pub(crate) server: u32,
    pub(crate) channel: u32,
    pub(crate) of: u32,
    pub(crate) delivered: u64,
    pub(crate) read: u64,
}

/// What somebody was told of a message's way to a device.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Told {
    pub(crate) at: u64,
    pub(crate) asker: u32,
    pub(crate) channel: u32,
    pub(crate) seq: u64,
    pub(crate) of: u32,
    pub(crate) delivery: Delivery,
}
