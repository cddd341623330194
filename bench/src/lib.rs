//! The benchmark suite: what Hubbub costs beside bare programs that do the least that is possible,
//! and beside other servers. Every figure is a ratio of two runs that alternate on one machine with
//! one client; see `docs/PERFORMANCE.md`.

pub mod floor;
pub mod load;
pub mod wire;
