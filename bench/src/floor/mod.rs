//! Bare programs: each does one thing in the fewest steps that the kernel allows, and is the
//! physical limit that a server is held against. They check what they must to be correct, and
//! promise nothing else: no limits, no drain, no clients that misbehave.
//!
//! Those that a load client drives print `{"event":"listening","addr":…}` and speak its raw
//! dialect; the others wait for the line `go`, and print what it took. All end with their input.

mod args;
mod echo;
mod fanout;
mod http;
mod idle;
mod log;
mod pg_copy;
mod redis;
mod relay;
mod relay_in;
mod relay_out;
mod resp;
mod send_loop;
mod server;
mod tasks;
mod writev;

pub use args::{Args, run};
