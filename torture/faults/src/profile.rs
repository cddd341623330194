//! How many faults of which kinds in how much time.

use hubbub_checker::FaultKind;
use serde::{Deserialize, Serialize};

use crate::KINDS;

/// A size of the suite, as far as faults are concerned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Profile {
    /// `t0`
    pub name: String,
    /// How many faults.
    pub faults: u32,
    /// How long the phase `faults` is; every fault of the schedule is over by then.
    pub phase_ms: u64,
    /// How many at the same time, at most.
    pub at_once: usize,
    /// Of which kinds. Each comes once before one comes twice.
    pub kinds: Vec<FaultKind>,
}

impl Profile {
    /// The smoke test: 24 faults in 55 seconds.
    #[must_use]
    pub fn t0() -> Self {
        Self::all_kinds("t0", 24, 55_000)
    }

    /// The torture: 200 faults in 18.5 minutes.
    #[must_use]
    pub fn t1() -> Self {
        Self::all_kinds("t1", 200, 1_110_000)
    }

    /// The profile of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        [Self::t0(), Self::t1()]
            .into_iter()
            .find(|profile| profile.name == name)
    }

    fn all_kinds(name: &str, faults: u32, phase_ms: u64) -> Self {
        Self {
            name: name.to_owned(),
            faults,
            phase_ms,
            at_once: 3,
            kinds: KINDS.to_vec(),
        }
    }
}
