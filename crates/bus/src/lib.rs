//! The bus: Redis pub/sub, leases and questions. It forgets: everything here may be lost.
//!
//! Promises: publishes leave in the order of the calls, on one connection; what the subscriber's
//! connection gave arrives in the inbox in that order, confirmations among the messages; whenever
//! something may have been missed (a lost or deaf connection, a full inbox) the inbox says
//! [`Event::Lost`], and every wanted channel is subscribed again and confirmed by its own
//! [`Event::Subscribed`]. It does not promise that a message arrives: completeness comes from the
//! log and the store. Nothing here blocks on Redis without a deadline, and no queue is unbounded.
//!
//! One process has a publisher connection, a subscriber connection and a third one that sends the
//! probes, by which a connection that is healthy and deaf is found out.

mod asker;
mod config;
mod connection;
mod error;
mod inbox;
mod inspect;
mod leases;
mod metrics;
mod orders;
mod publisher;
mod subscriber;

pub use asker::{Asker, Survey};
pub use config::Config;
pub use error::Error;
pub use inbox::{Event, Inbox};
pub use inspect::Inspect;
pub use leases::{LEASE, Leases};
pub use metrics::Metrics;
pub use publisher::{Publisher, PublisherTask};
pub use subscriber::{Subscriber, SubscriberTask};
