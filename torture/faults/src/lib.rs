//! The faults of the torture suite: which come when, and how each is made on a real system.
//!
//! It promises that a seed gives the same schedule for ever; that a schedule never takes away all
//! of what there is more than one of; that [`inject`] ends with every process ready and every link
//! healed, also when it is told to end early; and that a fault whose effect nobody saw is called
//! vacuous. It does not judge what the faults do to the system: that is the checker's work.
#![warn(missing_docs)]

mod deeds;
mod dice;
mod effect;
mod ground;
mod inject;
mod kinds;
mod meters;
mod profile;
mod rules;
mod schedule;
mod seen;
mod shape;
mod shrink;

pub use ground::Ground;
pub use inject::{Injected, inject};
pub use kinds::KINDS;
pub use profile::Profile;
pub use schedule::schedule;
pub use seen::Seen;
pub use shape::{Shape, left_out};
pub use shrink::{shrink, shrink_async};
