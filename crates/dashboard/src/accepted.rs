use std::collections::{HashMap, HashSet};

use hubbub_protocol::ChannelId;

/// Channels whose messages are counted each on its own; what is accepted in further ones is in
/// the total alone.
pub const COUNTED: usize = 20_000;

/// What a pod accepted since it began to report, by channel.
#[derive(Debug, Default)]
pub struct Accepted {
    total: u64,
    by_channel: HashMap<ChannelId, u64>,
    changed: HashSet<ChannelId>,
}

impl Accepted {
    /// Counts one.
    pub fn add(&mut self, channel: ChannelId) {
        self.total += 1;
        if self.by_channel.len() >= COUNTED && !self.by_channel.contains_key(&channel) {
            return;
        }
        *self.by_channel.entry(channel).or_default() += 1;
        self.changed.insert(channel);
    }

    /// Everything that was counted.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// What was counted in one channel.
    pub fn of(&self, channel: ChannelId) -> u64 {
        self.by_channel.get(&channel).copied().unwrap_or(0)
    }

    /// Every channel with a count.
    pub fn channels(&self) -> impl Iterator<Item = ChannelId> + '_ {
        self.by_channel.keys().copied()
    }

    /// Channels that were counted in since they were last taken: at most `most` of them, the others
    /// the next time.
    pub fn take_changed(&mut self, most: usize) -> Vec<ChannelId> {
        let taken: Vec<ChannelId> = self.changed.iter().take(most).copied().collect();
        for channel in &taken {
            self.changed.remove(channel);
        }
        taken
    }

    /// From the start, with another epoch.
    pub fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use hubbub_protocol::ChannelLetter;

    use super::*;

    fn channel(n: usize) -> ChannelId {
        ChannelId::new(ChannelLetter::Channel, n as i64 + 1).expect("from 1")
    }

    #[test]
    fn each_change_is_taken_once_and_the_table_is_bounded() {
        let mut accepted = Accepted::default();
        for n in 0..COUNTED + 5 {
            accepted.add(channel(n));
        }
        accepted.add(channel(0));
        assert_eq!(accepted.total(), COUNTED as u64 + 6);
        assert_eq!(accepted.channels().count(), COUNTED);
        assert_eq!(accepted.of(channel(0)), 2);
        assert_eq!(accepted.of(channel(COUNTED)), 0);
        assert_eq!(accepted.take_changed(7).len(), 7);
        assert_eq!(accepted.take_changed(usize::MAX).len(), COUNTED - 7);
        assert_eq!(accepted.take_changed(usize::MAX), []);
    }
}
