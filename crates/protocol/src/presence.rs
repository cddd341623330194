//! Whether somebody is there.

use serde::{Deserialize, Serialize};

use crate::{PodId, UserId};

/// Whether a user is there. Ordered: a user's state is the greatest over their devices and pods.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum PresenceState {
    /// No device is connected.
    #[default]
    Offline,
    /// Connected, and without a sign of the person.
    Away,
    /// At a device.
    Active,
}

impl PresenceState {
    /// The word on the wire, which is also the metric's label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Offline => "offline",
            Self::Away => "away",
            Self::Active => "active",
        }
    }
}

/// A user's state: over all pods where a client reads it, on one pod where a pod answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserPresence {
    /// Who.
    pub user: UserId,
    /// Their state.
    pub state: PresenceState,
}

/// What arrives on `presence-<user>`: the user's state on one pod, from now on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PresenceEvent {
    /// Which pod.
    pub pod: PodId,
    /// The best state of the user's sockets there; offline without any.
    pub state: PresenceState,
}

impl PresenceEvent {
    /// The payload for `presence-<id>`.
    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("an event has only string keys")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn best_state_is_the_greatest() {
        use PresenceState::{Active, Away, Offline};
        assert_eq!([Away, Active, Offline].into_iter().max(), Some(Active));
        assert_eq!([Offline, Away].into_iter().max(), Some(Away));
        for state in [Active, Away, Offline] {
            let json = serde_json::to_string(&state).expect("a string");
            assert_eq!(json, format!("\"{}\"", state.as_str()));
        }
    }
}
