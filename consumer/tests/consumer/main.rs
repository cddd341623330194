//! The consumer on real servers.
mod failures;
mod processes;
mod stored;
mod world;
