//! One pod: sockets, feeds, fan-out.

pub mod feed;
