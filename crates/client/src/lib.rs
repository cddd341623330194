//! The Rust client of Hubbub: one WebSocket that comes back, and the HTTP API.
//!
//! [`Client`] promises to its application: every message of a joined channel after the join
//! point exactly once, over any number of reconnects, or a [`Event::Joined`] that says
//! `recovered: false`; and for every send, edit, deletion and reaction a definite answer in the
//! end, under one message id. What it tells the server of this device (marks, presence, whom it
//! watches) is told again on every connection until it is taken; what is only live (typing) is not.
//! It does not promise order on the wire (only `ordered` joins have it): sort by seq, or hold
//! a [`View`], which does.
//!
//! A handle talks to an actor; the decisions are made by a state machine without I/O. The way
//! out is one bounded channel of [`Event`]s. An application that does not take them stops the
//! reading of the socket: it is a slow reader, and the server treats it as one.
#![warn(missing_docs)]

mod actor;
mod backoff;
mod change;
mod config;
mod connection;
mod dashboard;
mod event;
mod handle;
mod http;
mod listening;
mod marks;
mod outbox;
mod pacer;
mod receipts;
mod session;
mod standing;
mod view;

#[cfg(test)]
mod model;
#[cfg(test)]
mod model_people;

pub use backoff::Backoff;
pub use change::Change;
pub use config::{Config, Limits, TokenSource, Wire, WireEvent, WireRecorder};
pub use dashboard::{Board, Dashboard, Look, Seen};
pub use event::{Down, Event, Joined, SendResult, Sent, Via};
pub use handle::{Client, Closed, Events, JoinError, JoinOptions, Refused, SendError, SendHandle};
pub use http::{Http, HttpError, Page, Progress, Replies, Who};
pub use view::View;
