//! Bare programs: each does one thing in the fewest steps that the kernel allows, and is the
//! physical limit that a server is held against. They check what they must to be correct, and
//! promise nothing else: no limits, no drain, no clients that misbehave.
//!
//! Those that a load client drives print `{"event":"listening","addr":…}` and speak its raw
//! dialect; the others print `ready`, wait for the line `go`, and print what it took.

mod args;
mod echo;
mod fanout;
mod log;
mod redis;
mod relay_in;
mod relay_out;
mod send_loop;
mod server;
mod writev;

pub use args::{Args, run};
