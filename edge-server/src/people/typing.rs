//! How often somebody is shown to be typing: at most once in three seconds per user and channel.

use std::num::NonZeroUsize;

use hubbub_protocol::{ChannelId, UserId};
use lru::LruCache;

/// Between two shows of one user in one channel on this pod.
pub(crate) const EVERY_MS: u64 = 3_000;
/// Pairs that are remembered; past it the oldest is forgotten, and may be shown early.
const PAIRS: NonZeroUsize = NonZeroUsize::new(20_000).expect("not zero");

/// Who was shown when.
#[derive(Debug)]
pub(crate) struct TypingRate(LruCache<(ChannelId, UserId), u64>);

impl TypingRate {
    pub(crate) fn new() -> Self {
        // Grows with use: `LruCache::new` would reserve the whole table at once.
        let mut shown = LruCache::unbounded();
        shown.resize(PAIRS);
        Self(shown)
    }

    /// Whether it is time to show them again; if so, they count as shown.
    pub(crate) fn take(&mut self, channel: ChannelId, user: UserId, now_ms: u64) -> bool {
        let last = self.0.peek(&(channel, user)).copied();
        let due = last.is_none_or(|last| now_ms >= last + EVERY_MS);
        if due {
            self.0.put((channel, user), now_ms);
        }
        due
    }

    /// They were not shown after all.
    pub(crate) fn give_back(&mut self, channel: ChannelId, user: UserId) {
        self.0.pop(&(channel, user));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shown_once_in_three_seconds_per_user_and_channel() {
        let mut typing = TypingRate::new();
        let ids = |n| {
            let user = UserId::new(n).expect("from 1");
            ("C000000005".parse::<ChannelId>().expect("an id"), user)
        };
        let (channel, mary) = ids(1);
        let (_, john) = ids(2);
        let other = "D000000006".parse().expect("an id");
        assert!(typing.take(channel, mary, 10));
        assert!(
            (11..3_010)
                .step_by(100)
                .all(|now| !typing.take(channel, mary, now))
        );
        assert!(typing.take(channel, john, 20) && typing.take(other, mary, 20));
        assert!(typing.take(channel, mary, 3_010));
        assert!(!typing.take(channel, mary, 3_011));
        typing.give_back(channel, mary);
        assert!(typing.take(channel, mary, 3_012));
        for n in 10..30_010 {
            assert!(typing.take(channel, ids(n).1, 4_000));
        }
        assert_eq!(typing.0.len(), PAIRS.get());
    }
}
