//! Judges a recorded run against the contract: which of the assertions A1–A14 it breaks, and
//! where. It reads what was recorded and does no I/O of its own.
//!
//! It promises to say nothing against a run that keeps the contract, to name the assertion that a
//! run breaks, and to take time and memory that grow with the length of the history alone. It
//! does not judge how fast a run was, except where the contract has a bound.

pub mod history;
mod verdict;

pub use history::{Entry, Event, Fault, FaultKind};
pub use verdict::{Assertion, Verdict, Violation};
