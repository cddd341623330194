//! The consumer on real servers.
mod failures;
mod people;
mod processes;
mod stored;
mod world;
