//! The consumer: moves the log into the sharded store and announces what is stored.
//!
//! Promises: every record of the log takes effect in the store exactly once, in order, whatever
//! dies and whoever else reads the same partition (the compare-and-set of the position decides);
//! a record that can never be stored is kept whole among the dead letters and delays nobody; a
//! shard that is away stops its own partitions only. Announcements are sent once after the commit
//! and may be lost: the edges' sweep of the heads stands behind them.
//!
//!
//! The marks of devices take the same way from a topic of their own: each moves its cursor in the
//! store, at least once and never back, and what moved is told as a receipt, live only.
//!
//! It does not take part in live chat, which goes on without it, and nothing waits for it.

mod announce;
mod batch;
mod config;
mod consumer;
mod marks;
mod metrics;
mod partition;
mod partitions;
#[cfg(feature = "mutants")]
mod planted;
mod positions;
mod start;
mod work;

pub use config::Config;
pub use consumer::{Consumer, Error, GRACE};
