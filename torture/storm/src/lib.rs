//! Reconnect storms and drains, measured on real servers.
//!
//! [`storm`] holds thousands of sockets over three edges behind two HAProxies and takes away an
//! edge, a HAProxy, and all edges in turn: how soon is everybody back, at how many attempts, at
//! what cost for the store. [`drain`] rolls every process again and again while people talk: no
//! message may be lost, doubled or left unknown. Both count exactly: what each socket was given
//! is compared with the store in the end, message by message.
//!
//! The sockets are those of `hubbub-client`, with the limits that users run.
#![warn(missing_docs)]

mod args;
mod costs;
mod crowd;
mod diff;
mod drain;
mod ending;
mod http_load;
mod leg;
mod life;
mod meter;
mod output;
mod roll;
mod stats;
mod storm;
mod storm_report;
mod town;
mod writers;

pub use args::{DrainArgs, StormArgs};
pub use costs::{Queries, Rss};
pub use diff::Diff;
pub use drain::{DrainReport, drain, run_drain};
pub use ending::Ending;
pub use leg::Leg;
pub use roll::{Refusal, Roll};
pub use stats::Spread;
pub use storm::{run_storm, storm};
pub use storm_report::{Storm, StormReport};
pub use writers::Sends;
