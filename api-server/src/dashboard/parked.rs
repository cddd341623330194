use std::{collections::VecDeque, sync::Arc, time::Duration};

use hubbub_protocol::UserId;
use tokio::time::Instant;

use super::view::View;

/// Streams that ended a moment ago; of more the oldest is forgotten.
const STREAMS: usize = 64;
/// How long one that has broken may go on where it was.
const KEPT: Duration = Duration::from_secs(30);
/// Events of a stream that may be the last that its reader got.
pub(super) const VIEWS: usize = 4;

/// What a stream had shown after each of its last events, by the event's number.
pub(super) type Shown = VecDeque<(u64, Arc<View>)>;

#[derive(Debug)]
struct Ended {
    at: Instant,
    user: UserId,
    top: usize,
    shown: Shown,
}

/// What streams that have ended had shown.
#[derive(Debug, Default)]
pub(super) struct Parked {
    ended: VecDeque<Ended>,
}

impl Parked {
    pub(super) fn park(&mut self, user: UserId, top: usize, shown: Shown) {
        if shown.is_empty() {
            return;
        }
        if self.ended.len() >= STREAMS {
            self.ended.pop_front();
        }
        self.ended.push_back(Ended {
            at: Instant::now(),
            user,
            top,
            shown,
        });
    }

    /// What the same user's reader had been shown after this event, if that is known.
    pub(super) fn take(&mut self, user: UserId, top: usize, event: u64) -> Option<Arc<View>> {
        self.ended.retain(|ended| ended.at.elapsed() < KEPT);
        self.ended
            .iter()
            .filter(|ended| ended.user == user && ended.top == top)
            .flat_map(|ended| &ended.shown)
            .find(|(number, _)| *number == event)
            .map(|(_, view)| view.clone())
    }
}
