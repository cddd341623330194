//! The log: Kafka. It remembers. The only crate that knows offsets.
//!
//! Promises: a [`Report::Appended`] means that every in-sync replica has the record; the reports
//! of one partition come in log order, on one thread or in one task; a [`Rejected`] record never
//! reached the log and whatever else failed is [`Report::Unknown`]. A [`Consumer`] hands out every
//! record of its partitions once and in order from the position that the store names, and starts
//! nowhere else. It does not promise that a partition has one reader: two members may hold it for a
//! moment, and the store's compare-and-set decides. Kafka's own committed offset is written for lag
//! tools and never read. No Kafka transactions.

mod admin;
mod appender;
mod bursts;
mod check;
mod client;
mod config;
mod consumer;
mod error;
mod farewell;
mod joining;
mod member;
mod metrics;
mod producer;
mod read;
mod record;
mod reports;
mod resolve;
mod slot;

pub use admin::{TopicFacts, Watermarks, create_topic, topic_facts, watermarks};
pub use appender::{Appended, Appender, Rejected, Report, Reports};
pub use check::check_positions;
pub use config::{Config, ConsumerConfig, Misfit, SESSION_TIMEOUT_MAX};
pub use consumer::{
    CLOSED_TWICE, CONSUMER_STOP, Consumer, ConsumerEvent, ConsumerHandle, Positions,
};
pub use error::Error;
pub use metrics::Metrics;
pub use read::read_all;
pub use record::LogRecord;
pub use reports::ReportQueue;
