use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use hubbub_protocol::{MessageKey, Seq};

use super::{Frame, Limits};

/// Live messages above the horizon, by seq and in order of arrival.
#[derive(Debug)]
pub(super) struct Recent {
    entries: BTreeMap<Seq, Entry>,
    /// `(arrival, seq)` ascending by arrival. Removal from `entries` leaves a stale pair behind,
    /// dropped when it comes to the front or when they outnumber the live ones.
    order: VecDeque<(u64, Seq)>,
    /// The last arrival number given; the first is 1.
    arrivals: u64,
    limits: Limits,
}

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) key: MessageKey,
    /// `None` = past the bytes bound: known, but to be fetched once the store has it.
    pub(super) bytes: Option<Bytes>,
    pub(super) arrival: u64,
}

impl Recent {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            entries: BTreeMap::new(),
            order: VecDeque::new(),
            arrivals: 0,
            limits,
        }
    }

    /// The arrival number of the last message.
    pub(super) fn arrivals(&self) -> u64 {
        self.arrivals
    }

    pub(super) fn get(&self, seq: Seq) -> Option<&Entry> {
        self.entries.get(&seq)
    }

    /// The frame of `seq`, if it is here with its frame.
    pub(super) fn frame(&self, seq: Seq) -> Option<Frame> {
        let entry = self.entries.get(&seq)?;
        Some(Frame {
            seq,
            key: entry.key,
            bytes: entry.bytes.clone()?,
        })
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (Seq, &Entry)> {
        self.entries.iter().map(|(seq, entry)| (*seq, entry))
    }

    /// The highest seq in it.
    pub(super) fn last(&self) -> Option<Seq> {
        self.entries.last_key_value().map(|(seq, _)| *seq)
    }

    /// Adds a message that is not in it; `false` = without its frame, for want of room.
    pub(super) fn insert(&mut self, frame: &Frame) -> bool {
        self.arrivals += 1;
        let kept = self.limits.take_frame(frame.bytes.len());
        if !kept && !rule!(FramelessIsRemembered) {
            return kept;
        }
        let entry = Entry {
            key: frame.key,
            bytes: kept.then(|| frame.bytes.clone()),
            arrival: self.arrivals,
        };
        self.order.push_back((self.arrivals, frame.seq));
        if let Some(old) = self.entries.insert(frame.seq, entry) {
            self.limits
                .give_back_frame(old.bytes.map_or(0, |b| b.len()));
        }
        kept
    }

    /// Entries with a frame that arrived after number `arrival`, in order of arrival.
    pub(super) fn after(&self, arrival: u64) -> impl Iterator<Item = (u64, Seq, &Bytes)> {
        let start = self.order.partition_point(|(at, _)| *at <= arrival);
        self.order.range(start..).filter_map(|(at, seq)| {
            let entry = self.entries.get(seq).filter(|e| e.arrival == *at)?;
            Some((*at, *seq, entry.bytes.as_ref()?))
        })
    }

    /// Forgets everything through `to`.
    pub(super) fn remove_through(&mut self, to: Seq) {
        while let Some(first) = self.entries.first_entry()
            && *first.key() <= to
        {
            let entry = first.remove();
            self.limits
                .give_back_frame(entry.bytes.map_or(0, |b| b.len()));
        }
        self.tidy();
    }

    /// Forgets the copies of messages with these keys (sorted).
    pub(super) fn remove_keys(&mut self, keys: &[MessageKey]) {
        let limits = &self.limits;
        self.entries.retain(|_, entry| {
            let stays = keys.binary_search(&entry.key).is_err();
            if !stays {
                limits.give_back_frame(entry.bytes.as_ref().map_or(0, Bytes::len));
            }
            stays
        });
        self.tidy();
    }

    /// Planted mistake: forgets all others.
    #[cfg(any(test, feature = "mutants"))]
    pub(super) fn keep_only(&mut self, seqs: &[Seq]) {
        let limits = &self.limits;
        self.entries.retain(|seq, entry| {
            let stays = seqs.contains(seq);
            if !stays {
                limits.give_back_frame(entry.bytes.as_ref().map_or(0, Bytes::len));
            }
            stays
        });
        self.tidy();
    }

    fn tidy(&mut self) {
        if self.entries.is_empty() {
            self.order.clear();
            return;
        }
        let entries = &self.entries;
        let live =
            |(at, seq): &(u64, Seq)| entries.get(seq).is_some_and(|entry| entry.arrival == *at);
        while self.order.front().is_some_and(|pair| !live(pair)) {
            self.order.pop_front();
        }
        if self.order.len() > 2 * entries.len() + 16 {
            self.order.retain(live);
        }
    }
}

impl Drop for Recent {
    fn drop(&mut self) {
        for entry in self.entries.values() {
            self.limits
                .give_back_frame(entry.bytes.as_ref().map_or(0, Bytes::len));
        }
    }
}
