//! The dashboard's two ends as state machines: the [`Reporter`] of a pod, and the [`Picture`] that
//! an API server puts together from the reports of all pods.
//!
//! Promises: no I/O, no clock, no randomness; while nobody watches a reporter says nothing; what
//! the bus loses is noticed (reports are numbered, and come at least every
//! [`HEARTBEAT_MS`]) and mended by a snapshot, so that a picture whose pods are heard equals what
//! they have once nothing changes any more. It does not promise more than counts: who listens is a
//! question of its own, and messages a second are of the last few seconds.
//!
//! Time is given by the caller in milliseconds of a clock that never goes back.

mod accepted;
mod picture;
mod rate;
mod reporter;
#[cfg(test)]
mod world;

pub use accepted::{Accepted, COUNTED};
pub use picture::{ChannelState, Picture, PodState, SILENT_MS, Sum};
pub use reporter::{HEARTBEAT_MS, Has, Reporter, WATCHERS};
