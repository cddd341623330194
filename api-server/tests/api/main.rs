//! The API on real servers: Redis, Kafka and Postgres. Rows are written as the consumer writes them.

mod bodies;
mod dashboard;
mod history;
mod lifecycle;
mod membership;
mod outages;
mod people;
mod permissions;
mod sending;
mod support;
