//! The log on a real Kafka.
mod admin;
mod append;
mod consume;
mod fatal;
mod support;
