//! What every process of Hubbub has: a lifecycle, logs, an ops port, tokens, an HTTP listener.

pub mod http;
pub mod lifecycle;
pub mod ops;
pub mod telemetry;
pub mod token;

pub use lifecycle::{Lifecycle, OnError};
pub use ops::{Ops, OpsConfig, Readiness};
