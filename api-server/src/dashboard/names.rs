use std::collections::HashMap;

use hubbub_protocol::{ChannelId, http::ChannelKind};
use hubbub_store::ChannelName;
use tokio::time::{Duration, Instant};

/// Channels that are known by name; past it all are forgotten and read again.
const MOST: usize = 200_000;
/// A private channel may be made public: what is known is read again after this.
const FRESH: Duration = Duration::from_secs(60);

/// What a channel is.
#[derive(Debug, Clone)]
pub(super) struct Known {
    pub(super) kind: ChannelKind,
    pub(super) name: Option<String>,
}

/// What the channels of the picture are called.
#[derive(Debug, Default)]
pub(super) struct Names {
    known: HashMap<ChannelId, Known>,
    since: Option<Instant>,
}

impl Names {
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    pub(super) fn get(&self, channel: ChannelId) -> Option<&Known> {
        self.known.get(&channel)
    }

    /// Those of these channels that are not known, at most `most`.
    pub(super) fn unknown(
        &mut self,
        channels: impl Iterator<Item = ChannelId>,
        most: usize,
    ) -> Vec<ChannelId> {
        if self.since.is_some_and(|since| since.elapsed() > FRESH) {
            // Only these change; a name never does.
            self.known
                .retain(|_, known| known.kind == ChannelKind::Public);
            self.since = Some(Instant::now());
        }
        channels
            .filter(|channel| !self.known.contains_key(channel))
            .take(most)
            .collect()
    }

    /// Takes what the store said of `asked`. One that it does not know is nobody's to see.
    pub(super) fn learn(&mut self, asked: &[ChannelId], said: Vec<ChannelName>) {
        if self.known.len() + asked.len() > MOST {
            self.known.clear();
        }
        self.since.get_or_insert_with(Instant::now);
        for channel in asked {
            let nobodys = Known {
                kind: ChannelKind::Private,
                name: None,
            };
            self.known.insert(*channel, nobodys);
        }
        for ChannelName {
            channel,
            kind,
            name,
        } in said
        {
            self.known.insert(channel, Known { kind, name });
        }
    }
}
