use std::collections::HashMap;

use hubbub_checker::{
    Entry, Event, Fault, FaultKind,
    history::{Phase, Record},
};
use hubbub_protocol::{ChannelId, MessageId, Seq, UserId};

use super::points::Points;
use crate::measures::{PhaseSpan, Seen};

/// Number of a message in an [`Index`].
pub(super) type MessageNo = u32;

/// A message that somebody tried to send.
#[derive(Debug)]
pub(super) struct Message {
    /// Number of its channel.
    pub(super) channel: u32,
    /// Its place among its channel's messages, by seq. Without a seq it stands behind the others.
    pub(super) rank: u32,
    /// The lowest seq that anything says of it: the store keeps the lowest copy.
    pub(super) seq: Option<Seq>,
    pub(super) invoked_us: u64,
    pub(super) ok_us: Option<u64>,
}

/// A fault as it was recorded.
#[derive(Debug)]
pub(super) struct Injected<'a> {
    pub(super) fault: &'a Fault,
    pub(super) start_us: u64,
    pub(super) end_us: Option<u64>,
    pub(super) seen: Vec<Seen>,
}

/// What must be known of the whole run before it can be measured in one pass. Its size grows with
/// the messages and faults, not with the receipts.
#[derive(Debug, Default)]
pub(super) struct Index<'a> {
    pub(super) end_us: u64,
    pub(super) phases: Vec<PhaseSpan>,
    pub(super) faults: Vec<Injected<'a>>,
    pub(super) messages: Vec<Message>,
    /// Per channel the seqs of its messages, ascending.
    pub(super) seqs: Vec<Vec<Seq>>,
    /// Per channel its messages, in the same order.
    ranked: Vec<Vec<MessageNo>>,
    /// The join points of the joins that were answered without one, in order; see [`Points`].
    pub(super) points: Vec<Option<Seq>>,
    /// What each attempt tries to send.
    pub(super) attempts: HashMap<u64, MessageNo>,
    channels: HashMap<ChannelId, u32>,
    by_id: HashMap<(ChannelId, UserId, MessageId), MessageNo>,
}

impl<'a> Index<'a> {
    pub(super) fn of(entries: &'a [Entry]) -> Self {
        let mut index = Self {
            end_us: entries.last().map_or(0, |entry| entry.at_us),
            ..Self::default()
        };
        let mut points = Points::default();
        for entry in entries {
            index.add(entry.at_us, &entry.event);
            points.follow(&entry.event);
        }
        index.points = points.found();
        if let Some(last) = index.phases.last_mut() {
            last.end_us = index.end_us.max(last.start_us);
        }
        index.rank();
        index
    }

    /// The message that a record is; none for what nobody sent.
    pub(super) fn message(&self, record: &Record) -> Option<MessageNo> {
        self.by_id
            .get(&(record.channel, record.user, record.id))
            .copied()
    }

    /// The number of a channel; none where nothing was sent.
    pub(super) fn channel(&self, channel: ChannelId) -> Option<u32> {
        self.channels.get(&channel).copied()
    }

    /// When the message at a channel's rank was first acknowledged, if it was.
    pub(super) fn acknowledged(&self, channel: u32, rank: u32) -> Option<u64> {
        let no = self.ranked[channel as usize][rank as usize];
        self.messages[no as usize].ok_us
    }

    /// How many messages are acknowledged in a second, on average.
    pub(super) fn acked_a_second(&self) -> f64 {
        let moments = || self.messages.iter().filter_map(|message| message.ok_us);
        match (moments().min(), moments().max()) {
            (Some(first), Some(last)) if first < last => {
                moments().count() as f64 * 1e6 / (last - first) as f64
            }
            _ => 0.0,
        }
    }

    /// When a phase was, if it was.
    pub(super) fn phase(&self, phase: Phase) -> Option<PhaseSpan> {
        self.phases.iter().find(|span| span.phase == phase).copied()
    }

    /// The end of a fault; one whose end was not recorded lasts until the faults are over.
    pub(super) fn end_of(&self, fault: &Injected<'_>) -> u64 {
        fault.end_us.unwrap_or_else(|| {
            self.phase(Phase::Healed)
                .map_or(self.end_us, |healed| healed.start_us)
                .max(fault.start_us)
        })
    }

    fn add(&mut self, at_us: u64, event: &'a Event) {
        match event {
            Event::Phase(phase) => {
                if let Some(last) = self.phases.last_mut() {
                    last.end_us = at_us.max(last.start_us);
                }
                self.phases.push(PhaseSpan {
                    phase: *phase,
                    start_us: at_us,
                    end_us: at_us,
                });
            }
            Event::Invoke { op, record, .. } => {
                let message = self.sent(at_us, record);
                self.attempts.insert(*op, message);
            }
            Event::Ok { op, seq } => {
                if let Some(message) = self.attempts.get(op) {
                    let message = &mut self.messages[*message as usize];
                    message.ok_us.get_or_insert(at_us);
                    message.found_at(*seq);
                }
            }
            Event::Log {
                record: Some(record),
                ..
            }
            | Event::Row { record, .. } => {
                if let Some(message) = self.message(record) {
                    self.messages[message as usize].found_at(Some(record.seq));
                }
            }
            Event::FaultStarted(fault) => self.faults.push(Injected {
                fault,
                start_us: at_us,
                end_us: None,
                seen: Vec::new(),
            }),
            Event::FaultEnded { number } => {
                if let Some(fault) = self.fault(*number) {
                    fault.end_us = Some(at_us.max(fault.start_us));
                }
            }
            Event::FaultSeen { number, effect } => {
                if let Some(fault) = self.fault(*number) {
                    fault.seen.push(Seen {
                        at_us,
                        effect: effect.clone(),
                    });
                }
            }
            _ => {}
        }
    }

    fn sent(&mut self, at_us: u64, record: &Record) -> MessageNo {
        let channels = self.channels.len() as u32;
        let channel = *self.channels.entry(record.channel).or_insert(channels);
        let key = (record.channel, record.user, record.id);
        *self.by_id.entry(key).or_insert_with(|| {
            self.messages.push(Message {
                channel,
                rank: 0,
                seq: None,
                invoked_us: at_us,
                ok_us: None,
            });
            (self.messages.len() - 1) as MessageNo
        })
    }

    fn fault(&mut self, number: u32) -> Option<&mut Injected<'a>> {
        self.faults
            .iter_mut()
            .rev()
            .find(|fault| fault.fault.number == number)
    }

    fn rank(&mut self) {
        let mut order: Vec<MessageNo> = (0..self.messages.len() as MessageNo).collect();
        order.sort_by_key(|no| {
            let message = &self.messages[*no as usize];
            message.seq.unwrap_or(Seq(u64::MAX))
        });
        self.seqs = vec![Vec::new(); self.channels.len()];
        self.ranked = vec![Vec::new(); self.channels.len()];
        for no in order {
            let message = &mut self.messages[no as usize];
            let seqs = &mut self.seqs[message.channel as usize];
            message.rank = seqs.len() as u32;
            seqs.push(message.seq.unwrap_or(Seq(u64::MAX)));
            self.ranked[message.channel as usize].push(no);
        }
    }
}

impl Message {
    fn found_at(&mut self, seq: Option<Seq>) {
        if let Some(seq) = seq.filter(|seq| *seq > Seq::ZERO) {
            self.seq = Some(self.seq.map_or(seq, |known| known.min(seq)));
        }
    }
}

/// Whether a kind keeps consumers from storing for a while.
pub(super) fn hits_consumer(kind: FaultKind) -> bool {
    matches!(
        kind,
        FaultKind::ConsumerKill
            | FaultKind::ConsumerFreeze
            | FaultKind::ConsumerCrashAfterCommit
            | FaultKind::ConsumerScale
    )
}
