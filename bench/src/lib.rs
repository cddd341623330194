//! The benchmark suite: what Hubbub costs beside bare programs that do the least that is possible,
//! and beside other servers. Every figure is a ratio of two runs that alternate on one machine with
//! one client; see `docs/PERFORMANCE.md`.

pub mod cli;
pub mod client;
pub mod floor;
pub mod http;
pub mod load;
pub mod machine;
pub mod pair;
pub mod peers;
pub mod process;
pub mod program;
pub mod report;
pub mod results;
pub mod suite;
pub mod town;
pub mod wire;
