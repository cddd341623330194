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
use tokio::time::{MissedTickBehavior, interval, sleep};

use crate::{Edge, hub::Turn};

/// Least between two looks at the marks that wait: a quarter of what they wait.
const MARKS_EVERY: Duration = Duration::from_millis(50);
/// Between looks at what time does to people.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The best of what pods say of a user.
pub(crate) fn best(states: impl Iterator<Item = PresenceState>) -> PresenceState {
    states.max().unwrap_or(PresenceState::Offline)
}

/// Writes marks whose time has come. Runs until cancelled.
pub(crate) async fn write_marks(edge: Arc<Edge>) -> Result<(), Infallible> {
    loop {
        edge.hub.marks_wait().await;
        while let Some(due_ms) = edge.hub.marks_due_ms() {
            let wait = Duration::from_millis(due_ms.saturating_sub(edge.now_ms()));
            sleep(wait.max(MARKS_EVERY)).await;
            edge.check_lease();
            edge.hub
                .write_marks(edge.now_ms(), |mark| edge.chat.append_mark(mark));
        }
    }
}

/// Lets time pass for people. Runs until cancelled.
pub(crate) async fn run(edge: Arc<Edge>) -> Result<(), Infallible> {
    let mut every = interval(LOOK_EVERY);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        every.tick().await;
        let mut turn = Turn::default();
        edge.hub.people_tick(edge.now_ms(), &*edge, &mut turn);
        edge.perform(turn);
    }
}
