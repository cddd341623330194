//! What was said lately, for those who do something to it.

use std::collections::{HashMap, VecDeque};

use hubbub_protocol::{ChannelId, Seq, UserId};
use parking_lot::Mutex;
use rand::{Rng, RngExt};

/// So few of each channel that two often choose the same.
const KEPT: usize = 12;

/// A message that is in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Said {
    /// Where it is in its channel.
    pub seq: Seq,
    /// Who said it.
    pub user: UserId,
    /// Whether it is a reply in a thread.
    pub in_thread: bool,
}

/// The latest messages of every channel.
#[derive(Debug, Default)]
pub struct Board {
    channels: Mutex<HashMap<ChannelId, VecDeque<Said>>>,
}

impl Board {
    /// A message was answered with its seq.
    pub fn note(&self, channel: ChannelId, said: Said) {
        let mut channels = self.channels.lock();
        let latest = channels.entry(channel).or_default();
        if latest.len() >= KEPT {
            latest.pop_front();
        }
        latest.push_back(said);
    }

    /// One of those of a channel that are wanted.
    pub fn any(
        &self,
        channel: ChannelId,
        wanted: impl Fn(&Said) -> bool,
        rng: &mut impl Rng,
    ) -> Option<Said> {
        let channels = self.channels.lock();
        let these: Vec<_> = channels
            .get(&channel)?
            .iter()
            .filter(|s| wanted(s))
            .collect();
        let place = (!these.is_empty()).then(|| rng.random_range(0..these.len()))?;
        Some(*these[place])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{SeedableRng, rngs::SmallRng};

    #[test]
    fn only_the_latest_of_a_channel_are_chosen_and_only_those_wanted() {
        let (board, mut rng) = (Board::default(), SmallRng::seed_from_u64(1));
        let channel: ChannelId = "C000000005".parse().expect("an id");
        let user = |n| UserId::new(n).expect("from 1");
        for seq in 1..=20 {
            let said = Said {
                seq: Seq(seq),
                user: user(1 + i64::from(seq % 2 == 0)),
                in_thread: false,
            };
            board.note(channel, said);
        }
        for _ in 0..100 {
            let own = board.any(channel, |said| said.user == user(2), &mut rng);
            let own = own.expect("there are some");
            assert!(own.seq > Seq(8) && own.seq.0 % 2 == 0, "{own:?}");
        }
        assert_eq!(board.any(channel, |said| said.in_thread, &mut rng), None);
        let other = "C000000006".parse().expect("an id");
        assert_eq!(board.any(other, |_| true, &mut rng), None);
    }
}
