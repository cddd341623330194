//! A made history that can be tampered with.

use std::collections::{HashMap, HashSet};

use hubbub_checker::{
    Entry, Event,
    history::{Kind, Phase, Record},
};
use hubbub_protocol::{ChannelId, MessageId};

use crate::dice::Dice;

#[derive(Debug)]
pub(super) struct Made {
    pub(super) entries: Vec<Entry>,
    pub(super) dice: Dice,
}

/// The device and channel that an entry of a stream is about.
pub(super) fn stream_of(event: &Event) -> Option<(&str, ChannelId)> {
    match event {
        Event::Joined {
            device, channel, ..
        }
        | Event::Left {
            device, channel, ..
        }
        | Event::Replay {
            device, channel, ..
        }
        | Event::Synced {
            device, channel, ..
        } => Some((device, *channel)),
        Event::Wire { device, record, .. }
        | Event::Given { device, record, .. }
        | Event::Moved { device, record, .. } => Some((device, record.channel)),
        _ => None,
    }
}

pub(super) fn is_wire(event: &Event) -> bool {
    matches!(event, Event::Wire { .. })
}

pub(super) fn is_given(event: &Event) -> bool {
    matches!(event, Event::Given { .. })
}

/// The record of a receipt.
pub(super) fn received(event: &Event) -> Option<&Record> {
    match event {
        Event::Wire { record, .. } | Event::Given { record, .. } | Event::Moved { record, .. } => {
            Some(record)
        }
        _ => None,
    }
}

impl Made {
    pub(super) fn new(entries: Vec<Entry>, seed: u64) -> Self {
        Self {
            entries,
            dice: Dice::new(seed ^ 0x5eed),
        }
    }

    /// One of several.
    pub(super) fn any<T>(&mut self, mut from: Vec<T>) -> Option<T> {
        if from.is_empty() {
            return None;
        }
        let i = self.dice.index(from.len());
        Some(from.swap_remove(i))
    }

    /// The places of the entries that are of a kind.
    pub(super) fn places(&self, is: impl Fn(&Event) -> bool) -> Vec<usize> {
        let places = 0..self.entries.len();
        places.filter(|i| is(&self.entries[*i].event)).collect()
    }

    pub(super) fn pick(&mut self, is: impl Fn(&Event) -> bool) -> Option<usize> {
        let places = self.places(is);
        self.any(places)
    }

    pub(super) fn event(&mut self, place: usize) -> &mut Event {
        &mut self.entries[place].event
    }

    /// Puts an event right behind another, at the same time.
    pub(super) fn behind(&mut self, place: usize, event: Event) {
        let at_us = self.entries[place].at_us;
        self.entries.insert(place + 1, Entry { at_us, event });
    }

    /// Puts an event where its time is.
    pub(super) fn at(&mut self, at_us: u64, event: Event) {
        let place = self.entries.partition_point(|e| e.at_us <= at_us);
        self.entries.insert(place, Entry { at_us, event });
    }

    pub(super) fn remove(&mut self, is: impl Fn(&Event) -> bool) {
        self.entries.retain(|entry| !is(&entry.event));
    }

    pub(super) fn phase(&self, phase: Phase) -> u64 {
        let it = |e: &&Entry| e.event == Event::Phase(phase);
        self.entries
            .iter()
            .find(it)
            .expect("every phase is there")
            .at_us
    }

    /// The rows of the store, in order of the shards' reading.
    pub(super) fn rows(&self) -> Vec<Record> {
        let rows = self.entries.iter().filter_map(|e| match &e.event {
            Event::Row { record, .. } => Some(record.clone()),
            _ => None,
        });
        rows.collect()
    }

    pub(super) fn rows_of(&self, channel: ChannelId) -> Vec<Record> {
        let mut rows = self.rows();
        rows.retain(|row| row.channel == channel);
        rows
    }

    /// When each message had its first `ok`.
    pub(super) fn acks(&self) -> HashMap<MessageId, u64> {
        let ids: HashMap<u64, MessageId> = self.invokes().collect();
        let mut acks = HashMap::new();
        for entry in &self.entries {
            if let Event::Ok { op, .. } = entry.event {
                acks.entry(ids[&op]).or_insert(entry.at_us);
            }
        }
        acks
    }

    pub(super) fn invokes(&self) -> impl Iterator<Item = (u64, MessageId)> {
        self.entries.iter().filter_map(|e| match &e.event {
            Event::Invoke { op, record, .. } => Some((*op, record.id)),
            _ => None,
        })
    }

    /// The messages that were sent once and are acknowledged, and the attempt.
    pub(super) fn sent_once(&self) -> HashMap<MessageId, u64> {
        let mut attempts: HashMap<MessageId, Vec<u64>> = HashMap::new();
        for (op, id) in self.invokes() {
            attempts.entry(id).or_default().push(op);
        }
        let acked = self.acks();
        let once = attempts.into_iter().filter_map(|(id, ops)| match ops[..] {
            [op] if acked.contains_key(&id) => Some((id, op)),
            _ => None,
        });
        once.collect()
    }

    /// The later copies in the log: records with the seq of their place.
    pub(super) fn shadows(&self) -> Vec<Record> {
        let mut seen = HashSet::new();
        let mut shadows = Vec::new();
        for entry in &self.entries {
            if let Event::Log {
                record: Some(record),
                ..
            } = &entry.event
                && record.kind == Kind::Message
                && !seen.insert(record.id)
            {
                shadows.push(record.clone());
            }
        }
        shadows
    }

    /// A stream that listens to the end and is owed rows since its last cut, and those rows.
    pub(super) fn owed(&mut self) -> Option<(String, ChannelId, Vec<Record>)> {
        let mut points: HashMap<(String, ChannelId), Option<u64>> = HashMap::new();
        let last = self.places(|e| matches!(e, Event::Phase(Phase::Final)))[0];
        for entry in &self.entries[..last] {
            match &entry.event {
                Event::Joined {
                    device,
                    channel,
                    head,
                    recovered,
                    since,
                    ..
                } => {
                    let point = points.entry((device.clone(), *channel)).or_default();
                    if since.is_none() || !recovered || point.is_none() {
                        let start = if *recovered { since.or(*head) } else { *head };
                        *point = start.map(|seq| seq.0);
                    }
                }
                Event::Left {
                    device, channel, ..
                } => {
                    points.remove(&(device.clone(), *channel));
                }
                Event::Closed { device, .. } if device == "reader-2.1" => {
                    points.retain(|(of, _), _| of != device);
                }
                _ => {}
            }
        }
        let mut owed = Vec::new();
        for ((device, channel), point) in points {
            let mut rows = self.rows_of(channel);
            rows.retain(|row| point.is_some_and(|point| row.seq.0 > point));
            if !rows.is_empty() {
                owed.push((device, channel, rows));
            }
        }
        owed.sort_by(|a, b| (&a.0, a.1).cmp(&(&b.0, b.1)));
        self.any(owed)
    }

    /// The join under which an entry of a stream stands.
    pub(super) fn join_before(&self, place: usize) -> Option<usize> {
        let stream = stream_of(&self.entries[place].event);
        (0..place).rev().find(|i| {
            let event = &self.entries[*i].event;
            matches!(event, Event::Joined { .. }) && stream_of(event) == stream
        })
    }

    /// Whether a join says where it stands.
    pub(super) fn knows_its_point(&self, join: usize) -> bool {
        matches!(
            self.entries[join].event,
            Event::Joined { head: Some(_), .. }
        )
    }
}
