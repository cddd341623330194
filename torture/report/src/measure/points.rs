//! Join points that the answer to a join does not name.

use std::collections::HashMap;

use hubbub_checker::Event;
use hubbub_protocol::{ChannelId, Seq};

/// Finds, for each join that was answered without a join point, the one that the device was told
/// later: its first `synced`, or rather the `replay` before it. (A `replay` from 0 says nothing: it
/// opens the frames of a join that has no cursor yet.)
///
/// Until then nobody can say what is due, so this looks ahead of everything that follows the
/// history. A device that left, or joined once more, before it was told was never told.
#[derive(Debug, Default)]
pub(super) struct Points<'a> {
    /// One for each such join, in the order of the history.
    found: Vec<Option<Seq>>,
    waiting: HashMap<(&'a str, ChannelId), Waiting>,
}

#[derive(Debug)]
struct Waiting {
    /// Place in [`Points::found`].
    join: usize,
    /// The last `replay`; 0 before there was one.
    replayed: Seq,
}

/// The join point as the answer to a join names it.
pub(super) fn named(since: Option<Seq>, head: Option<Seq>, recovered: bool) -> Option<Seq> {
    since.filter(|_| recovered).or(head)
}

impl<'a> Points<'a> {
    /// Takes the next event.
    pub(super) fn follow(&mut self, event: &'a Event) {
        match event {
            Event::Joined {
                device,
                channel,
                since,
                head,
                recovered,
                ..
            } => {
                if named(*since, *head, *recovered).is_some() {
                    self.waiting.remove(&(device.as_str(), *channel));
                    return;
                }
                let join = self.found.len();
                self.found.push(None);
                let replayed = Seq::ZERO;
                self.waiting
                    .insert((device, *channel), Waiting { join, replayed });
            }
            // These are rare; what follows is not, and nearly always nobody waits.
            _ if self.waiting.is_empty() => {}
            Event::Left {
                device, channel, ..
            } => {
                self.waiting.remove(&(device.as_str(), *channel));
            }
            Event::Replay {
                device,
                channel,
                since,
                ..
            } => {
                if let Some(waiting) = self.waiting.get_mut(&(device.as_str(), *channel)) {
                    waiting.replayed = *since;
                }
            }
            Event::Synced {
                device,
                channel,
                seq,
                ..
            } => {
                if let Some(waiting) = self.waiting.remove(&(device.as_str(), *channel)) {
                    let replayed = Some(waiting.replayed).filter(|seq| *seq > Seq::ZERO);
                    self.found[waiting.join] = Some(replayed.map_or(*seq, |r| r.min(*seq)));
                }
            }
            _ => {}
        }
    }

    /// What was found, in the order of the joins.
    pub(super) fn found(self) -> Vec<Option<Seq>> {
        self.found
    }
}
