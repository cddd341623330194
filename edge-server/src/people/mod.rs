//! What people see of one another beside messages: who is here, who types, how far a device has
//! read, and the direct channels that a device joins by itself. `watches`, `marks` and `typing`
//! are pure; `hub/` keeps them under its lock; the tasks are in `survey` and `errands`.

pub(crate) mod errands;
pub(crate) mod marks;
pub(crate) mod survey;
pub(crate) mod typing;
pub(crate) mod watches;
#[cfg(test)]
mod watches_tests;

use std::{convert::Infallible, sync::Arc, time::Duration};

use hubbub_protocol::PresenceState;
use tokio::time::{MissedTickBehavior, interval};

use crate::{Edge, hub::Turn};

/// Between looks at the marks that wait: a quarter of what they wait.
const MARKS_EVERY: Duration = Duration::from_millis(50);
/// Between looks at what time does to people: a second, in rounds of [`MARKS_EVERY`].
const LOOK_ROUNDS: u64 = 20;

/// The best of what devices or pods say of a user.
pub(crate) fn best(states: impl Iterator<Item = PresenceState>) -> PresenceState {
    states.max().unwrap_or(PresenceState::Offline)
}

/// Writes marks whose time has come, and lets time pass for people. Runs until cancelled.
pub(crate) async fn run(edge: Arc<Edge>) -> Result<(), Infallible> {
    let mut every = interval(MARKS_EVERY);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for round in 0_u64.. {
        every.tick().await;
        edge.check_lease();
        let now = edge.now_ms();
        edge.hub
            .write_marks(now, |mark| edge.chat.append_mark(mark));
        if round % LOOK_ROUNDS == 0 {
            let mut turn = Turn::default();
            edge.hub.people_tick(now, &*edge, &mut turn);
            edge.perform(turn);
        }
    }
    Ok(())
}
