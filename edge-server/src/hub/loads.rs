//! How many listen, for the dashboard: which channels have changed is noted only while somebody
//! watches.

use hubbub_protocol::ChannelId;
use rustc_hash::FxHashSet;

use super::{Hub, state::State};

/// What a look at the hub gave.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Loads {
    /// Sockets of the pod.
    pub(crate) sockets: u64,
    /// Listeners by channel.
    pub(crate) channels: Vec<(ChannelId, u64)>,
    /// More channels have changed than were asked for.
    pub(crate) more: bool,
}

impl State {
    /// The listeners of a channel have changed.
    pub(super) fn note_load(&mut self, channel: ChannelId) {
        if let Some(changed) = &mut self.changed_loads {
            changed.insert(channel);
        }
    }

    fn listeners_of(&self, channel: ChannelId) -> u64 {
        let found = self.channels.get(&channel);
        found.map_or(0, |channel| channel.listeners as u64)
    }
}

impl Hub {
    /// Begins or ends to note which channels change. The set is bounded by the channels that are
    /// open, and those that were a moment ago.
    pub(crate) fn follow_loads(&self, follow: bool) {
        self.state.lock().changed_loads = follow.then(FxHashSet::default);
    }

    /// Every channel that somebody listens to.
    pub(crate) fn all_loads(&self) -> Loads {
        let state = self.state.lock();
        let channels = state.channels.iter();
        Loads {
            sockets: state.sockets.len() as u64,
            channels: channels
                .filter(|(_, channel)| channel.listeners > 0)
                .map(|(id, channel)| (*id, channel.listeners as u64))
                .collect(),
            more: false,
        }
    }

    /// The channels that have changed since they were last taken, at most `most`; and those asked
    /// about besides, in any case.
    pub(crate) fn take_loads(&self, most: usize, also: &[ChannelId]) -> Loads {
        let mut state = self.state.lock();
        let mut asked: Vec<ChannelId> = also.to_vec();
        let mut more = false;
        if let Some(changed) = &mut state.changed_loads {
            for channel in also {
                changed.remove(channel);
            }
            let taken: Vec<ChannelId> = changed.iter().take(most).copied().collect();
            for channel in &taken {
                changed.remove(channel);
            }
            more = !changed.is_empty();
            asked.extend(taken);
        }
        Loads {
            sockets: state.sockets.len() as u64,
            channels: asked
                .into_iter()
                .map(|id| (id, state.listeners_of(id)))
                .collect(),
            more,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::tests::channel, *};

    #[test]
    fn nothing_is_noted_while_nobody_follows_and_what_is_too_much_comes_the_next_time() {
        let hub = Hub::new(1_000);
        let note = |n| hub.state.lock().note_load(channel(n));
        note(1);
        hub.follow_loads(true);
        assert_eq!(hub.take_loads(9, &[]), Loads::default());
        (1..=3).for_each(note);
        let first = hub.take_loads(1, &[channel(3)]);
        assert_eq!((first.channels.len(), first.more), (2, true));
        let second = hub.take_loads(1, &[]);
        assert_eq!((second.channels.len(), second.more), (1, false));
        assert_ne!(first.channels[1], second.channels[0]);
        note(1);
        hub.follow_loads(false);
        hub.follow_loads(true);
        assert_eq!(hub.take_loads(9, &[]), Loads::default());
    }
}
