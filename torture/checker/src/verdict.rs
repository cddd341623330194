//! What the checker says.

use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, fmt};

/// What is asserted of every run. The names follow Jepsen's and Elle's vocabulary where it has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Assertion {
    /// Lost write: every id answered `ok` is in the store.
    A1,
    /// Phantom, aborted or corrupt read.
    A2,
    /// Duplicate.
    A3,
    /// Inconsistent read: history differs by server, direction or page size, from SQL or the log; or
    /// a message is not what its edits, deletion, reactions and replies make of it.
    A4,
    /// Inconsistent offset: an id with two seqs, a seq with two ids, two users with two direct
    /// channels.
    A5,
    /// Skipped or nonmonotonic delivery.
    A6,
    /// Unseen: after quiescence a connected device lacks something.
    A7,
    /// A lying `synced`, or a lying recovery.
    A8,
    /// Not a linearizable append.
    A9,
    /// New enemy: something reached a removed user, or a stranger in a direct channel, or an added
    /// one lacks something.
    A10,
    /// Conservation: the log's records are not rows, duplicates and dead letters to the unit.
    A11,
    /// A delivery status that goes back, or says more than happened.
    A12,
    /// A leak of memory, descriptors or queue places.
    A13,
    /// A panic, or an error in a log that no fault explains.
    A14,
    /// A stale dashboard: at a quiet point it does not show what there is, or a pod that nobody
    /// watches does not know it.
    A15,
}

impl Assertion {
    /// All of them.
    pub const ALL: [Self; 15] = [
        Self::A1,
        Self::A2,
        Self::A3,
        Self::A4,
        Self::A5,
        Self::A6,
        Self::A7,
        Self::A8,
        Self::A9,
        Self::A10,
        Self::A11,
        Self::A12,
        Self::A13,
        Self::A14,
        Self::A15,
    ];
}

impl fmt::Display for Assertion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// One broken assertion.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Violation {
    /// Which.
    pub assertion: Assertion,
    /// The anomaly's name: `lost write`.
    pub name: String,
    /// What exactly, with the ids.
    pub message: String,
    /// When, microseconds from the start of the run; absent where no moment can be named.
    pub at_us: Option<u64>,
}

/// The outcome of a check.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// The first of each assertion's violations, at most 100 an assertion.
    pub violations: Vec<Violation>,
    /// All violations, by assertion.
    pub broken: BTreeMap<Assertion, u64>,
    /// How many facts each assertion was held against: one that compared nothing says so.
    pub checked: BTreeMap<Assertion, u64>,
    /// What is counted beside, by name: `messages`, `receipts`, `shadows`, `swapped_on_the_wire`,
    /// `replies_by_repair`, `not_recovered`, …
    pub counts: BTreeMap<String, u64>,
}

impl Verdict {
    /// Whether nothing was broken.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.broken.is_empty()
    }

    /// The outcome in one sentence, for people.
    #[must_use]
    pub fn sentence(&self) -> String {
        let facts: u64 = self.checked.values().sum();
        let silent: Vec<String> = self
            .checked
            .iter()
            .filter(|(_, facts)| **facts == 0)
            .map(|(assertion, _)| assertion.to_string())
            .collect();
        let mut text = if self.holds() {
            format!("Nothing is broken: {facts} facts were compared.")
        } else {
            let parts: Vec<String> = self
                .broken
                .iter()
                .map(|(assertion, count)| match self.first(*assertion) {
                    Some(first) => format!("{assertion} {count} times ({})", first.name),
                    None => format!("{assertion} {count} times"),
                })
                .collect();
            format!("Broken: {}; {facts} facts were compared.", parts.join(", "))
        };
        if !silent.is_empty() {
            text.push_str(&format!(" Nothing was compared for {}.", silent.join(", ")));
        }
        text
    }

    fn first(&self, assertion: Assertion) -> Option<&Violation> {
        self.violations.iter().find(|v| v.assertion == assertion)
    }
}
