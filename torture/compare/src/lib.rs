//! Hubbub beside the seed's literal flow and beside socket.io: the same workload, the same faults,
//! the same checker.
//!
//! It promises that every system gets what its plan says at the times that it says, that a run in
//! which a fault could not be made counts for nothing, and that the judge of all histories is
//! `hubbub-checker` with [`Scope::delivery`](hubbub_checker::Scope::delivery). It does not promise
//! that the others cannot be made better: the report says what their applications could add.
#![warn(missing_docs)]

mod args;
mod bus;
mod compare;
mod faults;
mod figures;
mod hubbub;
mod plan;
mod recorder;
mod run;
#[cfg(feature = "seed-flow")]
pub mod seed_flow;
mod settings;
mod site;
mod socketio;
mod table;

pub use args::{CompareArgs, System};
pub use compare::{Comparison, Skipped, compare, run_compare};
pub use figures::Figures;
pub use run::Run;
