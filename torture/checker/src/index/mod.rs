//! The index of a history: what the assertions read.

mod build;
mod facts;
mod faults;
mod finish;
mod fold;
mod names;

use std::collections::{HashMap, HashSet};

use hubbub_protocol::{ChannelId, MessageId, UserId};

use crate::{
    Entry,
    history::{self, Phase},
};

pub(crate) use facts::{
    Attempt, Corrupt, Counts, Cursor, Device, Direct, Fact, Gauge, Join, LogLine, Logged, Looked,
    Mark, Membership, Message, NEVER, NONE, Outcome, Page, Row, Shown, Status, Stream, Told, What,
};
pub(crate) use faults::Faults;
pub(crate) use fold::{Changed, Fold};
pub(crate) use names::Names;

/// Everything of a history, sorted.
#[derive(Debug, Default)]
pub(crate) struct Index {
    pub(crate) entries: u64,
    /// The time of the last entry.
    pub(crate) end: u64,
    /// When the stretches of the run began.
    pub(crate) phases: Vec<(Phase, u64)>,
    pub(crate) channels: Names<ChannelId>,
    pub(crate) users: Names<UserId>,
    pub(crate) device_names: Names<history::Device>,
    pub(crate) devices: Vec<Device>,
    pub(crate) messages: Vec<Message>,
    pub(crate) attempts: Vec<Attempt>,
    pub(crate) streams: Vec<Stream>,
    stream_numbers: HashMap<(u32, u32), u32>,
    /// By channel and seq.
    pub(crate) rows: Vec<Row>,
    /// Where each channel's rows begin in `rows`, and where the last one's end.
    row_starts: Vec<usize>,
    /// By partition and offset.
    pub(crate) log: Vec<Logged>,
    /// What has to be added to offset + 1 to have the seq: that of most rows.
    pub(crate) base: i64,
    /// Later records of messages that have a row, by message and seq.
    pub(crate) shadows: HashSet<(u32, u64)>,
    pub(crate) pages: Vec<Page>,
    pub(crate) counts: Vec<Counts>,
    /// Dead letters: partition, offset, time.
    pub(crate) dead: Vec<(i32, i64, u64)>,
    pub(crate) memberships: Vec<Membership>,
    pub(crate) processes: Names<String>,
    pub(crate) gauge_names: Names<String>,
    pub(crate) gauges: Vec<Gauge>,
    pub(crate) log_lines: Vec<LogLine>,
    pub(crate) statuses: Vec<Status>,
    pub(crate) directs: Vec<Direct>,
    pub(crate) marks: Vec<Mark>,
    pub(crate) told: Vec<Told>,
    pub(crate) cursors: Vec<Cursor>,
    /// Where and when cursors were read in the end: server, channel, time.
    pub(crate) cursor_reads: Vec<(u32, u32, u64)>,
    pub(crate) shown: Vec<Shown>,
    pub(crate) looked: Vec<Looked>,
    /// Pods of which nobody should be a watcher: when, which, and how many there were.
    pub(crate) watched: Vec<(u64, u32, u64)>,
    /// Requests of the end, and whether they were answered.
    pub(crate) asked: Vec<(u64, String, bool)>,
    /// What the rows make of the messages that they are about.
    pub(crate) fold: Fold,
    pub(crate) faults: Faults,
    pub(crate) corrupt: Vec<Corrupt>,
    /// Records whose sum was compared.
    pub(crate) sums: u64,
    /// Answers to attempts that nobody made.
    pub(crate) malformed: u64,
}

impl Index {
    /// Reads a history once.
    pub(crate) fn of(entries: impl IntoIterator<Item = Entry>) -> Self {
        let mut builder = build::Builder::default();
        for entry in entries {
            builder.entry(entry);
        }
        builder.finish()
    }

    /// A channel's rows, ascending.
    pub(crate) fn rows_of(&self, channel: u32) -> &[Row] {
        let channel = channel as usize;
        &self.rows[self.row_starts[channel]..self.row_starts[channel + 1]]
    }

    /// The seq of a channel's last row; 0 if it has none.
    pub(crate) fn head_of(&self, channel: u32) -> u64 {
        self.rows_of(channel).last().map_or(0, |row| row.seq)
    }

    /// The message of a channel's row.
    pub(crate) fn row_at(&self, channel: u32, seq: u64) -> Option<&Row> {
        let rows = self.rows_of(channel);
        let place = rows.binary_search_by_key(&seq, |row| row.seq).ok()?;
        Some(&rows[place])
    }

    pub(crate) fn message(&self, number: u32) -> &Message {
        &self.messages[number as usize]
    }

    /// When a stretch began.
    pub(crate) fn phase(&self, phase: Phase) -> Option<u64> {
        let it = |p: &&(Phase, u64)| p.0 == phase;
        self.phases.iter().find(it).map(|(_, at)| *at)
    }

    /// When the final reads begin; the end of a history that has none.
    pub(crate) fn finally(&self) -> u64 {
        self.phase(Phase::Final).unwrap_or(self.end)
    }

    /// The seq that a place in the log has.
    pub(crate) fn seq_at(&self, offset: i64) -> u64 {
        u64::try_from(offset + 1 + self.base).unwrap_or(0)
    }

    pub(crate) fn channel_name(&self, channel: u32) -> ChannelId {
        *self.channels.name(channel)
    }

    pub(crate) fn device_name(&self, device: u32) -> &str {
        self.device_names.name(device)
    }

    pub(crate) fn id(&self, message: u32) -> MessageId {
        self.message(message).id
    }

    /// Device and channel, for people.
    pub(crate) fn place(&self, stream: &Stream) -> String {
        format!(
            "{} in {}",
            self.device_name(stream.device),
            self.channel_name(stream.channel)
        )
    }

    /// A record with where and who, for people.
    pub(crate) fn named(&self, message: u32) -> String {
        let m = self.message(message);
        format!(
            "{} of {} in {}",
            m.id,
            self.users.name(m.user),
            self.channel_name(m.channel)
        )
    }
}
