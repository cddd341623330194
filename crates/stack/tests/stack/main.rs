//! The stack's own tests, on the real servers.
#![expect(clippy::unwrap_used, reason = "a failing helper fails its test")]

mod compose;
mod dependencies;
mod haproxy;
mod links;
mod postgres;
mod process;
mod proxy;
mod redis;
mod stack;
mod test_env;
