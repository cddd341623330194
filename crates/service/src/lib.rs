//! What every process of Hubbub has: a lifecycle, logs, an ops port, tokens, an HTTP listener.
//!
//! Promises: no task outlives [`Lifecycle::finish`]; the ops port answers until the very end of a
//! drain; a connection that stays silent, drips or never reads costs one permit for a bounded
//! time; a token is accepted only by a key and an algorithm that this server chose. It knows
//! nothing of Redis, Kafka or Postgres, and nothing of what a user may do.

pub mod clock;
pub mod config;
#[cfg(feature = "failpoints")]
mod failpoints;
pub mod http;
pub mod lifecycle;
pub mod mutant;
pub mod ops;
pub mod telemetry;
pub mod token;

pub use clock::{Clock, wall_clock_ms};
pub use lifecycle::{Lifecycle, OnError};
pub use ops::{Ops, OpsConfig, Readiness};
