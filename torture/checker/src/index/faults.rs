//! When which faults were in force.

use crate::history::{Fault, FaultKind};

use super::facts::NEVER;

/// A fault and its time.
#[derive(Debug)]
pub(crate) struct Window {
    pub(crate) fault: Fault,
    pub(crate) from: u64,
    /// [`NEVER`] if it never ended.
    pub(crate) to: u64,
    pub(crate) seen: bool,
}

/// All faults of a run: a few hundred.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    pub(crate) windows: Vec<Window>,
}

impl Faults {
    pub(super) fn started(&mut self, at: u64, fault: Fault) {
        self.windows.push(Window {
            fault,
            from: at,
            to: NEVER,
            seen: false,
        });
    }

    pub(super) fn ended(&mut self, at: u64, number: u32) {
        for window in &mut self.windows {
            if window.fault.number == number && window.to == NEVER {
                window.to = at;
            }
        }
    }

    pub(super) fn seen(&mut self, number: u32) {
        for window in &mut self.windows {
            window.seen |= window.fault.number == number;
        }
    }

    /// The faults that are in force at a moment, or ended less than `after` before it.
    pub(crate) fn in_force(&self, at: u64, after: u64) -> impl Iterator<Item = &Fault> {
        self.windows
            .iter()
            .filter(move |w| w.from <= at && at < w.to.saturating_add(after))
            .map(|w| &w.fault)
    }

    /// Whether one of some kinds is in force, or ended less than `after` before.
    pub(crate) fn any_of(&self, kinds: &[FaultKind], at: u64, after: u64) -> bool {
        self.in_force(at, after).any(|f| kinds.contains(&f.kind))
    }
}
