//! Where a device stands after a join.

use crate::index::{Fact, Join, What};

/// The join point: above it everything is owed. The reply names it, except while the store is
/// away; then the first `synced` does, or rather the `replay` before it. (A `replay` from 0 says
/// nothing: it opens the frames of a join that has no cursor yet.)
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Point {
    known: Option<u64>,
    replayed: u64,
}

impl Point {
    pub(super) fn of(join: &Join) -> Self {
        Self {
            known: join.point(),
            replayed: 0,
        }
    }

    /// Learns from what follows the join.
    pub(super) fn learn(&mut self, fact: &Fact) {
        if self.known.is_some() {
            return;
        }
        match fact.what {
            What::Replay(since) => self.replayed = since,
            What::Synced(seq) if self.replayed == 0 => self.known = Some(seq),
            What::Synced(seq) => self.known = Some(self.replayed.min(seq)),
            _ => {}
        }
    }

    pub(super) fn get(&self) -> Option<u64> {
        self.known
    }
}
