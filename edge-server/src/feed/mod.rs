//! The feed: what an edge keeps for each channel with listeners (design, section 4).
//!
//! A pure state machine. Events go in as method calls, frames come out through [`Outboxes`], and
//! what it wants from the store it says by [`Feed::next_request`]. No I/O, no clock, no tasks: the
//! caller brings the time (`now_ms`, milliseconds on any clock that never goes back) and performs
//! the requests.
//!
//! After every call of a method that takes `out`, and when [`Feed::next_due_ms`] has come, the
//! caller lets the feed serve its readers from memory ([`Feed::serve_from_tail`]), asks
//! [`Feed::next_request`] until it says `None`, and gives each request exactly one
//! [`Feed::answer`], a failure too (a deadline that passed is one). Soon, and not with every call, it
//! lets the feed say how far it has come ([`Feed::tell_synced`]).
//!
//! One `Feed` lives from the first listener to the last: 1 -> 0 drops it, and answers to a dropped
//! one are dropped with it (request ids are unique over all feeds that share their [`Limits`]).

#[macro_use]
mod rule;

mod burst;
mod limits;
mod outboxes;
mod reading;
mod recent;
mod repair;
mod request;
mod retry;
mod sockets;
mod state;
mod sweeper;
mod tail;

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;

pub use burst::Burst;
pub use limits::Limits;
pub use outboxes::{Frame, Outboxes, SocketId};
pub use request::{Answer, Ask, Failure, Request};
pub use state::{Counts, Feed};
pub use sweeper::{Horizon, Sweeper};

/// What a feed holds of a socket that listens.
#[cfg(test)]
pub(crate) const ATTACHED_BYTES: usize = size_of::<sockets::Attached>();
