//! Pods on real servers: Redis, Kafka and Postgres. Rows are written as the consumer writes them.

mod client;
mod drain;
mod evictions;
mod frames;
mod handshake;
mod heartbeats;
mod lease;
mod messages;
mod pods;
mod raw;
mod requests;
mod support;
