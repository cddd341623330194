//! What to compare, and how long.

use std::{fmt, path::PathBuf};

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// A system that is compared.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, ValueEnum, Serialize, Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum System {
    /// Ours.
    Hubbub,
    /// The seed document's flow by its letter.
    SeedFlow,
    /// socket.io with its Redis adapter.
    SocketioRedis,
    /// socket.io with its Redis Streams adapter and connection state recovery.
    SocketioStreams,
}

impl System {
    /// All of them, in the order of the table.
    pub const ALL: [Self; 4] = [
        Self::Hubbub,
        Self::SeedFlow,
        Self::SocketioRedis,
        Self::SocketioStreams,
    ];

    /// Names directories.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Hubbub => "hubbub",
            Self::SeedFlow => "seed-flow",
            Self::SocketioRedis => "socketio-redis",
            Self::SocketioStreams => "socketio-streams",
        }
    }
}

impl fmt::Display for System {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Hubbub => "Hubbub",
            Self::SeedFlow => "the seed's flow by its letter",
            Self::SocketioRedis => "socket.io, Redis adapter",
            Self::SocketioStreams => "socket.io, Redis Streams adapter",
        })
    }
}

/// Puts Hubbub, the seed's literal flow and socket.io through the same faults and the same
/// workload, and judges all of them with the same checker.
#[derive(Debug, Clone, clap::Args)]
pub struct CompareArgs {
    /// Which systems; all of them if absent. One that is not there is skipped with a line that
    /// says why, unless it was named here.
    #[arg(long, value_enum, value_delimiter = ',')]
    pub systems: Vec<System>,
    /// The first run's seed: workload and faults are drawn from it. Each further run has the next.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// How many runs; the table has their sums.
    #[arg(long, default_value_t = 3)]
    pub runs: u64,
    /// Where the results go.
    #[arg(long, default_value = "target/torture/compare")]
    pub dir: PathBuf,
    /// Where the programs are; beside this one if absent.
    #[arg(long)]
    pub bin_dir: Option<PathBuf>,
    /// Run the systems one after the other instead of all at the same time.
    #[arg(long)]
    pub one_at_a_time: bool,
    /// Messages in a run.
    #[arg(long, default_value_t = 3_000)]
    pub messages: usize,
    /// Over how many seconds they are spread, and the faults with them; at least 20.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(20..))]
    pub seconds: u64,
}
