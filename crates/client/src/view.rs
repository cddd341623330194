use std::collections::{BTreeMap, HashMap};

use hubbub_protocol::{Body, ChannelId, MessageKey, Seq};

use crate::Event;

/// What a user interface or a test holds: the records of each channel, sorted by seq, each
/// (user, message id) once, with the lowest seq that was given for it.
#[derive(Debug, Clone, Default)]
pub struct View {
    channels: HashMap<ChannelId, ChannelView>,
    bound: Option<usize>,
}

#[derive(Debug, Clone, Default)]
struct ChannelView {
    records: BTreeMap<Seq, Body>,
    seqs: HashMap<MessageKey, Seq>,
    synced: Option<Seq>,
}

impl View {
    /// Holds everything that it is given.
    pub fn new() -> Self {
        Self::default()
    }

    /// Holds the newest `records` of each channel (at least 1).
    pub fn bounded(records: usize) -> Self {
        Self {
            channels: HashMap::new(),
            bound: Some(records.max(1)),
        }
    }

    /// Takes an event of the client; those that are no records change nothing shown.
    pub fn apply(&mut self, event: &Event) {
        match event {
            Event::Record { seq, body, .. } => self.insert(*seq, body.clone()),
            Event::Reseq {
                channel, key, to, ..
            } => {
                if let Some(view) = self.channels.get_mut(channel) {
                    view.reseq(key, *to);
                }
            }
            Event::Synced { channel, seq } => {
                let view = self.channels.entry(*channel).or_default();
                view.synced = view.synced.max(Some(*seq));
            }
            _ => {}
        }
    }

    /// Takes a record: of an event, or of a page of history.
    pub fn insert(&mut self, seq: Seq, body: Body) {
        let view = self.channels.entry(body.channel()).or_default();
        let key = body.key();
        match view.seqs.get(&key) {
            Some(known) if *known <= seq => {}
            Some(_) => view.reseq(&key, seq),
            None => {
                view.seqs.insert(key, seq);
                view.records.insert(seq, body);
            }
        }
        while self.bound.is_some_and(|bound| view.records.len() > bound) {
            if let Some((_, body)) = view.records.pop_first() {
                view.seqs.remove(&body.key());
            }
        }
    }

    /// The records of a channel, ascending by seq.
    pub fn records(&self, channel: ChannelId) -> impl DoubleEndedIterator<Item = (Seq, &Body)> {
        let view = self.channels.get(&channel);
        view.into_iter()
            .flat_map(|v| v.records.iter().map(|(seq, body)| (*seq, body)))
    }

    /// How many records of a channel it holds.
    pub fn len(&self, channel: ChannelId) -> usize {
        self.channels.get(&channel).map_or(0, |v| v.records.len())
    }

    /// Whether it holds none of a channel.
    pub fn is_empty(&self, channel: ChannelId) -> bool {
        self.len(channel) == 0
    }

    /// The seq through which the server said that everything was given.
    pub fn synced(&self, channel: ChannelId) -> Option<Seq> {
        self.channels.get(&channel)?.synced
    }

    /// Where a message is.
    pub fn seq_of(&self, channel: ChannelId, key: &MessageKey) -> Option<Seq> {
        self.channels.get(&channel)?.seqs.get(key).copied()
    }
}

impl ChannelView {
    fn reseq(&mut self, key: &MessageKey, to: Seq) {
        if let Some(known) = self.seqs.get_mut(key)
            && to < *known
            && let Some(body) = self.records.remove(known)
        {
            *known = to;
            self.records.insert(to, body);
        }
    }
}
