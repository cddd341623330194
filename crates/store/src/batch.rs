//! What a batch of records comes to, without I/O: which rows to insert, their ordinals, how far
//! each channel's head goes.

use std::collections::{BTreeMap, HashMap, HashSet};

use hubbub_mutant::{Mutant, planted};
use hubbub_protocol::{ChannelId, MessageKey, Record, RecordKind, Seq, partition_of};

use crate::Effect;

/// A record for the consumer's transaction.
#[derive(Debug, Clone)]
pub struct NewRow {
    /// Its position.
    pub seq: Seq,
    /// Its channel, which hashes to the batch's partition.
    pub channel: ChannelId,
    /// What it is about; only messages have an ordinal.
    pub kind: RecordKind,
    /// Its identity.
    pub key: MessageKey,
    /// The broker's append time, milliseconds.
    pub ts_ms: i64,
    /// The server frame without its seq.
    pub body: String,
    /// What it does to an earlier row.
    pub effect: Effect,
}

impl NewRow {
    /// The row of a record of the log.
    pub fn read(seq: Seq, ts_ms: i64, record: Record) -> Self {
        Self {
            seq,
            channel: record.channel(),
            kind: record.kind(),
            key: MessageKey {
                user: record.user(),
                message_id: record.message_id(),
            },
            ts_ms,
            effect: Effect::of(&record),
            body: record.body(ts_ms).encode(),
        }
    }
}

/// One record of a batch, in log order.
#[derive(Debug, Clone)]
pub enum Incoming {
    /// To be stored, unless it is a copy of a stored one.
    Row(NewRow),
    /// Can never be stored.
    Dead {
        /// Its position.
        seq: Seq,
        /// Only if it could be read from the record; its head advances too, where the channel
        /// belongs to the partition.
        channel: Option<ChannelId>,
        /// The record as it came.
        payload: Option<Vec<u8>>,
        /// Its key in the log.
        key: Option<Vec<u8>>,
        /// The broker's append time, milliseconds.
        ts_ms: i64,
        /// Why it can never be stored.
        error: String,
    },
}

impl Incoming {
    /// Its position.
    pub fn seq(&self) -> Seq {
        match self {
            Self::Row(row) => row.seq,
            Self::Dead { seq, .. } => *seq,
        }
    }

    fn channel(&self) -> Option<ChannelId> {
        match self {
            Self::Row(row) => Some(row.channel),
            Self::Dead { channel, .. } => *channel,
        }
    }

    fn ts_ms(&self) -> i64 {
        match self {
            Self::Row(row) => row.ts_ms,
            Self::Dead { ts_ms, .. } => *ts_ms,
        }
    }
}

/// Per channel touched: what to announce.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Touched {
    /// The channel.
    pub channel: ChannelId,
    /// Its head before the batch.
    pub from: Seq,
    /// Its head after it: the last record of any kind, duplicates and dead letters included.
    pub through: Seq,
    /// The rows stored in between, ascending; perhaps none.
    pub seqs: Vec<Seq>,
}

/// What a batch came to: its records = `rows` + `duplicates` + `dead`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// What to announce, by channel.
    pub touched: Vec<Touched>,
    /// Rows stored.
    pub rows: u64,
    /// Copies of a stored record, or of an earlier one of the batch.
    pub duplicates: u64,
    /// Dead letters.
    pub dead: u64,
    /// Rows that should have changed an earlier one and did not.
    pub without_effect: u64,
}

/// A channel's head before the batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Head {
    pub(crate) through: Seq,
    pub(crate) ordinal: i64,
}

/// A row with the place that it has among its channel's messages.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Numbered<'a> {
    pub(crate) row: &'a NewRow,
    pub(crate) ordinal: Option<i64>,
}

/// A channel's head after the batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NewHead {
    pub(crate) channel: ChannelId,
    pub(crate) through: Seq,
    pub(crate) ordinal: i64,
    /// When the log took its last record.
    pub(crate) ts_ms: i64,
}

/// A batch that keeps the rules, read once.
#[derive(Debug)]
pub(crate) struct Batch<'a> {
    /// Without the copies within the batch: of two the lower seq stays.
    pub(crate) rows: Vec<&'a NewRow>,
    pub(crate) dead: Vec<&'a Incoming>,
    /// The last record of each channel that belongs to the partition, and its time.
    through: BTreeMap<ChannelId, (Seq, i64)>,
    records: u64,
}

impl<'a> Batch<'a> {
    /// Reads the records of `partition` in (`after`, `through`]. Fails, naming it, on a record
    /// that is out of order, outside of these bounds, or of a channel of another partition.
    pub(crate) fn read(
        records: &'a [Incoming],
        partition: i32,
        partitions: u32,
        after: Seq,
        through: Seq,
    ) -> Result<Self, String> {
        let mut batch = Self {
            rows: Vec::with_capacity(records.len()),
            dead: Vec::new(),
            through: BTreeMap::new(),
            records: records.len() as u64,
        };
        let mut keys = HashSet::with_capacity(records.len());
        let mut last = after;
        for record in records {
            let seq = record.seq();
            if seq <= last || seq > through {
                return Err(format!(
                    "seq {seq} is not in ({last}, {through}] of partition {partition}"
                ));
            }
            last = seq;
            let home = |channel: &ChannelId| partition_of(*channel, partitions) == partition;
            match record {
                Incoming::Row(row) if !home(&row.channel) => {
                    let channel = row.channel;
                    return Err(format!("channel {channel} is not of partition {partition}"));
                }
                Incoming::Row(row) => {
                    if keys.insert((row.channel, row.key)) || planted(Mutant::M4) {
                        batch.rows.push(row);
                    }
                }
                Incoming::Dead { .. } => batch.dead.push(record),
            }
            if let Some(channel) = record.channel().filter(home) {
                batch.through.insert(channel, (seq, record.ts_ms()));
            }
        }
        Ok(batch)
    }

    /// The channels whose heads move.
    pub(crate) fn channels(&self) -> Vec<i64> {
        self.through
            .keys()
            .map(|channel| channel.shard_key())
            .collect()
    }

    /// Drops the rows that the store did not keep, because it had a copy.
    pub(crate) fn retain(&mut self, kept: &HashSet<(i64, i64)>) {
        self.rows
            .retain(|row| kept.contains(&(row.channel.shard_key(), row.seq.to_db())));
    }

    /// Gives the messages among the rows the numbers that follow their channel's head.
    pub(crate) fn number(&self, heads: &HashMap<i64, Head>) -> Vec<Numbered<'a>> {
        let mut ordinals: HashMap<i64, i64> = HashMap::new();
        let number = |row: &&'a NewRow| {
            let channel = row.channel.shard_key();
            let ordinal = (row.kind == RecordKind::Message).then(|| {
                let last = ordinals
                    .entry(channel)
                    .or_insert_with(|| heads.get(&channel).copied().unwrap_or_default().ordinal);
                *last += 1;
                *last
            });
            Numbered { row, ordinal }
        };
        self.rows.iter().map(number).collect()
    }

    /// The heads after the batch; `numbered` are the rows that were kept.
    pub(crate) fn heads(
        &self,
        before: &HashMap<i64, Head>,
        numbered: &[Numbered<'_>],
    ) -> Vec<NewHead> {
        let mut ordinals: HashMap<ChannelId, i64> = HashMap::new();
        for row in numbered {
            if let Some(ordinal) = row.ordinal {
                ordinals.insert(row.row.channel, ordinal);
            }
        }
        let head = |(channel, (through, ts_ms)): (&ChannelId, &(Seq, i64))| NewHead {
            channel: *channel,
            through: *through,
            ordinal: ordinals.get(channel).copied().unwrap_or_else(|| {
                let before = before.get(&channel.shard_key()).copied();
                before.unwrap_or_default().ordinal
            }),
            ts_ms: *ts_ms,
        };
        self.through.iter().map(head).collect()
    }

    /// What to announce and to count, once the rows that were kept are all that is left.
    pub(crate) fn written(&self, before: &HashMap<i64, Head>, without_effect: u64) -> Written {
        let mut seqs: HashMap<ChannelId, Vec<Seq>> = HashMap::new();
        for row in &self.rows {
            seqs.entry(row.channel).or_default().push(row.seq);
        }
        let touched = |(channel, (through, _)): (&ChannelId, &(Seq, i64))| Touched {
            channel: *channel,
            from: before
                .get(&channel.shard_key())
                .copied()
                .unwrap_or_default()
                .through,
            through: *through,
            seqs: seqs.remove(channel).unwrap_or_default(),
        };
        let (rows, dead) = (self.rows.len() as u64, self.dead.len() as u64);
        Written {
            touched: self.through.iter().map(touched).collect(),
            rows,
            duplicates: self.records - rows - dead,
            dead,
            without_effect,
        }
    }
}
