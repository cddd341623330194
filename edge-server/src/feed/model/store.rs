//! The log and the store of the model: what the consumers' transactions leave behind.

use hubbub_protocol::{ChannelId, ChannelLetter, MessageId, MessageKey, Seq, Stored, UserId};
use uuid::Uuid;

use crate::feed::{Feed, Frame, rule};

use super::sockets::frame_bytes;

pub(super) const PARTITIONS: usize = 2;
pub(super) const CHANNELS: usize = 3;
/// Records that a partition may have; seqs are below.
pub(super) const LONGEST: usize = 120;

pub(super) fn channel_id(channel: usize) -> ChannelId {
    let number = i64::try_from(channel).expect("few") + 1;
    ChannelId::new(ChannelLetter::Channel, number).expect("from 1")
}

pub(super) fn channel_of(number: i64) -> usize {
    usize::try_from(number).expect("from 1") - 1
}

pub(super) fn partition_of(channel: usize) -> usize {
    channel % PARTITIONS
}

pub(super) fn key_of(number: u16) -> MessageKey {
    MessageKey {
        user: UserId::new(i64::from(number % 3) + 1).expect("from 1"),
        message_id: MessageId(Uuid::from_u128(u128::from(number))),
    }
}

pub(super) fn seq_of(offset: usize) -> Seq {
    Seq(offset as u64 + 1)
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Record {
    pub(super) channel: usize,
    /// The message's number: a resend has the same one.
    pub(super) number: u16,
    /// It can never be stored.
    pub(super) poison: bool,
}

/// What the store has of one channel.
#[derive(Debug, Default)]
pub(super) struct Stock {
    /// `(seq, message)`, ascending.
    pub(super) rows: Vec<(Seq, u16)>,
    pub(super) head: Seq,
}

#[derive(Debug, Default)]
pub(super) struct Store {
    pub(super) log: [Vec<Record>; PARTITIONS],
    /// Offset of the next record to store.
    pub(super) position: [usize; PARTITIONS],
    pub(super) channels: [Stock; CHANNELS],
    /// Messages appended so far, by number: their channel.
    pub(super) messages: Vec<usize>,
    pub(super) away: [bool; PARTITIONS],
}

impl Store {
    /// Appends to the log; `None` = the model's log is full.
    pub(super) fn append(&mut self, record: Record) -> Option<Seq> {
        let log = &mut self.log[partition_of(record.channel)];
        if log.len() >= LONGEST {
            return None;
        }
        log.push(record);
        Some(seq_of(log.len() - 1))
    }

    pub(super) fn record(&self, channel: usize, seq: Seq) -> Option<Record> {
        let offset = usize::try_from(seq.0).expect("small").checked_sub(1)?;
        self.log[partition_of(channel)].get(offset).copied()
    }

    pub(super) fn is_row(&self, channel: usize, seq: Seq) -> bool {
        let rows = &self.channels[channel].rows;
        rows.binary_search_by_key(&seq, |(s, _)| *s).is_ok()
    }

    pub(super) fn head(&self, channel: usize) -> Seq {
        self.channels[channel].head
    }

    /// The consumer's transaction: what to announce, or `None` if the position is another one.
    pub(super) fn commit(
        &mut self,
        partition: usize,
        position: usize,
        records: usize,
        longest_list: usize,
    ) -> Option<Vec<Stored>> {
        if self.position[partition] != position {
            return None;
        }
        let end = (position + records).min(self.log[partition].len());
        let mut announced: Vec<Stored> = Vec::new();
        for offset in position..end {
            let record = self.log[partition][offset];
            let seq = seq_of(offset);
            let stock = &mut self.channels[record.channel];
            let id = channel_id(record.channel);
            let at = match announced.iter().position(|a| a.channel == id) {
                Some(at) => at,
                None => {
                    announced.push(Stored {
                        channel: id,
                        from: stock.head,
                        through: seq,
                        seqs: Some(Vec::new()),
                    });
                    announced.len() - 1
                }
            };
            announced[at].through = seq;
            stock.head = seq;
            let known = stock.rows.iter().any(|(_, n)| *n == record.number);
            if !known && !record.poison {
                stock.rows.push((seq, record.number));
                if let Some(seqs) = &mut announced[at].seqs {
                    seqs.push(seq);
                }
            }
        }
        self.position[partition] = end;
        for stored in &mut announced {
            if stored.seqs.as_ref().is_some_and(|s| s.len() > longest_list) {
                stored.seqs = None;
            }
        }
        Some(announced)
    }

    pub(super) fn frame(&self, channel: usize, seq: Seq, number: u16) -> Frame {
        Frame {
            seq,
            key: key_of(number),
            bytes: frame_bytes(channel, seq),
        }
    }

    pub(super) fn range(
        &self,
        channel: usize,
        from: Seq,
        through: Seq,
        limit: usize,
    ) -> Vec<Frame> {
        let rows = &self.channels[channel].rows;
        let start = rows.partition_point(|(seq, _)| *seq <= from);
        let rows = rows[start..].iter().take_while(|(seq, _)| *seq <= through);
        rows.take(limit)
            .map(|(seq, number)| self.frame(channel, *seq, *number))
            .collect()
    }

    /// The tail of a feed is what the store has.
    pub(super) fn check_tail(&self, channel: usize, feed: &Feed) -> Result<(), String> {
        let Some(horizon) = feed.horizon() else {
            return Ok(());
        };
        if rule::any_is_taken_out() {
            // A planted mistake must be noticed by what clients see.
            return Ok(());
        }
        let (from, kept) = feed.tail_rows();
        let stored = self.range(channel, from, horizon, usize::MAX);
        if kept.eq(&stored) {
            Ok(())
        } else {
            Err(format!(
                "c{channel}: the tail above {from:?} is not what is stored: {stored:?}"
            ))
        }
    }

    pub(super) fn rows(&self, channel: usize, seqs: &[Seq]) -> Vec<Frame> {
        let rows = self.channels[channel].rows.iter();
        rows.filter(|(seq, _)| seqs.contains(seq))
            .map(|(seq, number)| self.frame(channel, *seq, *number))
            .collect()
    }
}
