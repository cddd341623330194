//! The store: Postgres. It answers. The core database holds users, channels, memberships and the
//! maps; the shards hold the records of the log and how far it has been read.
//!
//! Promises:
//! - Every read goes to a primary, and membership is never cached here (contract P8).
//! - Every call ends: within [`READ_DEADLINE`] for a read or a small write, [`WRITE_DEADLINE`] for
//!   a batch, whether the database answers, is frozen or is gone. One that is away fails at once
//!   after the first callers found out, is looked for again every 100 ms, and costs nobody else.
//! - A position and the rows that it stands for are written in one transaction; a consumer that
//!   lost its partition cannot move it ([`WriteError::Zombie`]).
//! - No statement reaches a database that is not the one it should be: each new connection first
//!   reads who it is talking to.
//!
//! It does not decide who may do what (`hubbub-chat`), knows nothing of Kafka, and caches nothing.
//!
//! Cancellation: dropping any future here closes the connection that it was using; a transaction
//! that was open is rolled back by the server.
#![warn(missing_docs)]

mod activity;
mod admin;
mod apply;
mod batch;
mod channels;
mod copy;
mod database;
mod direct;
mod effect;
mod error;
mod fold;
mod identity;
mod init;
mod marks;
mod members;
mod messages;
mod metrics;
mod migrations;
mod new_log;
mod pages;
#[cfg(feature = "mutants")]
mod planted;
mod pool;
mod store;
mod sweep;
mod threads;
mod unread;
mod users;
mod write;

pub use activity::Activity;
pub use admin::{AdminStatus, PartitionStatus};
pub use batch::{Incoming, NewRow, Touched, Written};
pub use channels::ChannelName;
pub use database::{READ_DEADLINE, WRITE_DEADLINE};
pub use direct::{DirectChannel, DirectCreated};
pub use effect::Effect;
pub use error::{Error, WriteError};
pub use identity::LogIdentity;
pub use init::{init, stored_log};
pub use members::Membership;
pub use messages::Row;
pub use metrics::Metrics;
pub use new_log::new_log;
pub use pages::{Page, Window};
pub use store::{Config, Store};
pub use sweep::Sweep;
pub use threads::{Target, TargetMessage};
pub use users::IdentityChange;
