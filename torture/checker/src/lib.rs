//! Judges a recorded run against the contract: which of the assertions A1–A15 it breaks, and
//! where. It reads what was recorded and does no I/O of its own.
//!
//! It promises to say nothing against a run that keeps the contract, to name the assertion that a
//! run breaks, and to take time and memory that grow with the length of the history alone. It
//! does not judge how fast a run was, except where the contract has a bound.
//!
//! One pass makes an [`index`] of the history: ids become numbers, what devices saw is sorted by
//! device and channel. Each file under `assertions` then reads the index and reports findings.
#![warn(missing_docs)]

mod assertions;
mod findings;
pub mod history;
mod index;
mod reader;
mod scope;
mod verdict;

pub use history::{Entry, Event, Fault, FaultKind};
pub use reader::ParseError;
pub use scope::Scope;
pub use verdict::{Assertion, Verdict, Violation};

/// Holds a whole history against every assertion. The entries come in order of time.
#[must_use]
pub fn check(entries: impl IntoIterator<Item = Entry>) -> Verdict {
    check_within(&Scope::all(), entries)
}

/// Holds a history against the assertions that its system can be asked for.
#[must_use]
pub fn check_within(scope: &Scope, entries: impl IntoIterator<Item = Entry>) -> Verdict {
    let index = index::Index::of(entries);
    let mut findings = findings::Findings::new(scope.clone());
    assertions::run(&index, &mut findings);
    findings.into_verdict()
}
