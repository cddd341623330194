//! Which assertions a system can be held against.

use std::collections::BTreeSet;

use crate::Assertion;

/// The assertions that count, and whether the system has a store and seqs at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope {
    assertions: BTreeSet<Assertion>,
    store: bool,
}

impl Scope {
    /// Everything that is promised.
    #[must_use]
    pub fn all() -> Self {
        Self {
            assertions: Assertion::ALL.into(),
            store: true,
        }
    }

    /// For a system without store and seqs: what was acknowledged takes the place of the store.
    /// A2 phantom, A3 handed on twice, A6 lost on the way to a device that listened from before
    /// the send until after the acknowledgement, A9 the order of one sender's own messages.
    #[must_use]
    pub fn delivery() -> Self {
        use Assertion::{A2, A3, A6, A9};
        Self {
            assertions: [A2, A3, A6, A9].into(),
            store: false,
        }
    }

    /// The same without one assertion.
    #[must_use]
    pub fn without(mut self, assertion: Assertion) -> Self {
        self.assertions.remove(&assertion);
        self
    }

    pub(crate) fn has(&self, assertion: Assertion) -> bool {
        self.assertions.contains(&assertion)
    }

    pub(crate) fn has_store(&self) -> bool {
        self.store
    }
}
