//! Real servers as child processes: for `./dev up`, for every integration test, for experiments.
//!
//! It promises that each server is this stack's own (own data directory, own free port, loopback
//! only), that "started" means ready by the server's own protocol, and that nothing outlives the
//! process that started it, not even when that process is killed with -9. It knows no client
//! library of Redis, Kafka or Postgres, so that every crate can use it in its tests.

pub mod environment;
pub mod process;
pub mod server;

mod haproxy;
mod kafka;
mod link;
mod options;
mod port;
mod postgres;
mod probe;
mod proxy;
mod reaper;
mod redis;
mod service;
mod spawner;
mod stack;
mod test_env;

pub use haproxy::{Backend, FrontPorts, Haproxy};
pub use kafka::{Kafka, Listener, Purpose};
pub use link::Link;
pub use options::{External, Options, Ports, test_bin_dir};
pub use port::Port;
pub use postgres::{Durability, Postgres};
pub use process::{Process, RunAs, Spec};
pub use proxy::{Direction, Proxy};
pub use redis::Redis;
pub use server::{Ready, Server};
pub use service::{Role, Service};
pub use stack::{Endpoints, Event, Stack};
pub use test_env::{SharedServers, TEST_SERVERS, TestEnv, TestServers, shared_servers};
