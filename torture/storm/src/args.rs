use std::{path::PathBuf, time::Duration};

/// Thousands of sockets, and four ways to lose many of them at once.
#[derive(Debug, Clone, clap::Args)]
pub struct StormArgs {
    /// Sockets, each of a user of its own, in two channels.
    #[arg(long, default_value_t = 5_000)]
    pub sockets: usize,

    /// Channels; every socket is in two of them.
    #[arg(long, default_value_t = 100)]
    pub channels: usize,

    /// Edge servers.
    #[arg(long, default_value_t = 3)]
    pub edges: usize,

    /// HAProxies: each has its share of the sockets.
    #[arg(long, default_value_t = 2)]
    pub haproxies: usize,

    /// Messages a second, over all channels.
    #[arg(long, default_value_t = 20.0)]
    pub rate: f64,

    /// Sockets a second that connect at the beginning.
    #[arg(long, default_value_t = 400.0)]
    pub arrivals: f64,

    /// Seconds between two storms. A client forgets its failures after 30 s.
    #[arg(long, default_value_t = 32.0)]
    pub settle_s: f64,

    /// Seconds that a roll waits after an edge is ready again: HAProxy gives a new server its
    /// full share after 10 s only, and what does not come to it is carried by the next one.
    #[arg(long, default_value_t = 10.0)]
    pub pause_s: f64,

    /// Only the storms with these names, separated by commas: `edge-kill`, `haproxy-reload`,
    /// `haproxy-kill`, `roll`.
    #[arg(long, value_delimiter = ',')]
    pub only: Vec<String>,

    /// One more environment variable of all servers, `NAME=value`; may be repeated.
    #[arg(long = "env", value_name = "NAME=value")]
    pub env: Vec<String>,

    /// Directory for `storm.json` and the servers' logs.
    #[arg(long, default_value = ".hubbub/torture/storm")]
    pub out: PathBuf,

    /// Where the servers' programs are; beside this program if absent.
    #[arg(long)]
    pub bin_dir: Option<PathBuf>,
}

impl StormArgs {
    pub(crate) fn settle(&self) -> Duration {
        Duration::from_secs_f64(self.settle_s.max(0.0))
    }

    pub(crate) fn pause(&self) -> Duration {
        Duration::from_secs_f64(self.pause_s.max(0.0))
    }

    pub(crate) fn wants(&self, storm: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|name| name == storm)
    }
}

/// Every process is told to end and started again, again and again, while people talk.
#[derive(Debug, Clone, clap::Args)]
pub struct DrainArgs {
    /// Rolls of every process.
    #[arg(long, default_value_t = 10)]
    pub rolls: usize,

    /// Sockets.
    #[arg(long, default_value_t = 200)]
    pub sockets: usize,

    /// Channels; every socket is in two of them.
    #[arg(long, default_value_t = 20)]
    pub channels: usize,

    /// Edge servers.
    #[arg(long, default_value_t = 3)]
    pub edges: usize,

    /// API servers.
    #[arg(long, default_value_t = 2)]
    pub apis: usize,

    /// Consumers.
    #[arg(long, default_value_t = 2)]
    pub consumers: usize,

    /// Messages a second over WebSockets.
    #[arg(long, default_value_t = 100.0)]
    pub rate: f64,

    /// Messages a second over HTTP.
    #[arg(long, default_value_t = 10.0)]
    pub http_rate: f64,

    /// One more environment variable of all servers, `NAME=value`; may be repeated.
    #[arg(long = "env", value_name = "NAME=value")]
    pub env: Vec<String>,

    /// Directory for `drain.json` and the servers' logs.
    #[arg(long, default_value = ".hubbub/torture/drain")]
    pub out: PathBuf,

    /// Where the servers' programs are; beside this program if absent.
    #[arg(long)]
    pub bin_dir: Option<PathBuf>,
}
