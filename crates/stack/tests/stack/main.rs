//! The stack's own tests, on the real servers.
#![expect(clippy::unwrap_used, reason = "a failing helper fails its test")]

mod compose;
mod dependencies;
mod haproxy;
mod proxy;
mod stack;
mod test_env;
