//! Pods on real servers: Redis, Kafka and Postgres. Rows are written as the consumer writes them.

mod changes;
mod client;
mod directs;
mod drain;
mod evictions;
mod frames;
mod handshake;
mod heartbeats;
mod identity;
mod lease;
mod logging;
mod marks;
mod messages;
mod pods;
mod presence;
mod raw;
mod requests;
mod support;
mod who;
