//! The load client: one thread, one epoll, every message counted on every socket.
//!
//! Messages carry their index and the time at which they were to be sent. Message `i` goes to
//! channel `i mod M`, so a receiver knows of each of its channels which message must come next, and
//! a lost, doubled, swapped, foreign or damaged one is noticed the moment it (or its successor)
//! arrives. Reading costs no allocation a delivery: one buffer serves all sockets.

mod args;
mod client;
mod connect;
mod dialect;
mod figures;
mod ledger;
mod pace;
mod publish;
mod receive;
mod socket;
mod track;

pub use args::Args;
pub use client::run;
