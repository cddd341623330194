//! Configuration: one struct, flags and environment only. The doc comments are the `--help`.

use std::{net::SocketAddr, time::Duration};

use hubbub_protocol::PodId;
use hubbub_service::{OpsConfig, telemetry::LogConfig, token::TokenConfig};

use crate::{drain, rate::Limit};

/// One pod of Hubbub: holds WebSockets, listens to the bus for the channels that its sockets
/// joined, and fans out.
///
/// People connect to `/ws` through the load balancer; see docs/PROTOCOL.md. SIGTERM drains: no
/// new sockets, a goodbye to each, then exit 0. A second SIGTERM ends at once.
#[derive(Clone, clap::Parser)]
#[command(name = "hubbub-edge-server", version, max_term_width = 100)]
pub struct Config {
    /// Address of the WebSocket port.
    #[arg(long, env = "HUBBUB_LISTEN", default_value = "127.0.0.1:8101")]
    pub listen: SocketAddr,

    /// Name of this pod: 1 to 64 letters, digits or `-_.`; random if absent.
    #[arg(long, env = "HUBBUB_POD_ID")]
    pub pod_id: Option<PodId>,

    /// Region of this pod, as clients see it in `hello`.
    #[arg(long, env = "HUBBUB_REGION", default_value = "home")]
    pub region: String,

    /// Redis of this region.
    #[arg(
        long,
        env = "REDIS_URL",
        default_value = "redis://127.0.0.1:6379",
        hide_env_values = true
    )]
    pub redis_url: String,

    /// Kafka bootstrap servers.
    #[arg(long, env = "KAFKA_BROKERS", default_value = "127.0.0.1:9092")]
    pub kafka_brokers: String,

    /// Core database: users, channels, memberships, maps.
    #[arg(long, env = "CORE_DATABASE_URL", hide_env_values = true)]
    pub core_database_url: String,

    /// Shard databases, separated by commas, in the order in which `hubbub admin init` saw them.
    #[arg(
        long,
        env = "SHARD_DATABASE_URLS",
        value_delimiter = ',',
        required = true,
        hide_env_values = true
    )]
    pub shard_database_urls: Vec<String>,

    /// Origins that browsers may connect from, separated by commas, each exactly as the browser
    /// sends it (`https://chat.example.com`). A client without an Origin header is no browser
    /// and needs its token alone.
    #[arg(long, env = "HUBBUB_ALLOWED_ORIGINS", value_delimiter = ',')]
    pub allowed_origins: Vec<String>,

    /// Create a user at the first valid token with an unknown subject, instead of answering 401.
    #[arg(long, env = "HUBBUB_PROVISION_USERS")]
    pub provision_users: bool,

    /// Sockets that this pod takes; one more is answered 503.
    #[arg(long, env = "HUBBUB_MAX_CONNECTIONS", default_value_t = 10_000)]
    pub max_connections: usize,

    /// Sockets of one user on this pod; one more closes the oldest with 4502.
    #[arg(long, env = "HUBBUB_MAX_SOCKETS_PER_USER", default_value_t = 10)]
    pub max_sockets_per_user: usize,

    /// Milliseconds between WebSocket pings. Silence for 10 s longer than that is death.
    #[arg(long, env = "HUBBUB_SOCKET_HEARTBEAT_MS", default_value_t = 15_000)]
    pub heartbeat_ms: u64,

    /// Milliseconds without a byte sent, while something waits, after which a socket is closed
    /// with 4008.
    #[arg(long, env = "HUBBUB_SLOW_MS", default_value_t = 60_000)]
    pub slow_ms: u64,

    /// Messages a second that one user may send through this pod.
    #[arg(long, env = "HUBBUB_SEND_RATE", default_value_t = 20.0)]
    pub send_rate: f64,

    /// Messages that one user may send at once before the rate counts.
    #[arg(long, env = "HUBBUB_SEND_BURST", default_value_t = 40.0)]
    pub send_burst: f64,

    /// Frames of any kind a second that one socket may send.
    #[arg(long, env = "HUBBUB_FRAME_RATE", default_value_t = 100.0)]
    pub frame_rate: f64,

    /// Frames of any kind that one socket may send at once before the rate counts (a resume
    /// joins all its channels again).
    #[arg(long, env = "HUBBUB_FRAME_BURST", default_value_t = 1_000.0)]
    pub frame_burst: f64,

    /// Bytes of frames that this pod keeps for all its feeds until the store has them. What it keeps
    /// of stored rows, so that a crowd that comes back is served from memory, may take as much again.
    #[arg(long, env = "HUBBUB_RECENT_BYTES", default_value_t = 64 * 1024 * 1024)]
    pub recent_bytes: usize,

    /// Kernel send buffer of a socket in bytes; 0 leaves it to the kernel, which grows it with what
    /// the client takes. What is not on its way to the client is 16 KiB of it at most.
    #[arg(long, env = "HUBBUB_SEND_BUFFER_BYTES", default_value_t = 0)]
    pub send_buffer_bytes: usize,

    /// Milliseconds from "not ready" to the first goodbye: a little over the load balancer's
    /// check interval, so that it sends nobody new.
    #[arg(long, env = "HUBBUB_DRAIN_DELAY_MS", default_value_t = 700)]
    pub drain_delay_ms: u64,

    /// Sockets a second that are sent away in a drain.
    #[arg(long, env = "HUBBUB_DRAIN_RATE", default_value_t = 500)]
    pub drain_rate: u64,

    /// Seconds from SIGTERM to the end, whatever still runs. At least `--drain-delay-ms`, the time
    /// that `--max-connections` take at `--drain-rate`, and some 10 for the last socket's answers
    /// and the flush.
    #[arg(long, env = "HUBBUB_GRACE_S", default_value_t = 35)]
    pub grace_s: u64,

    #[command(flatten)]
    pub token: TokenConfig,

    #[command(flatten)]
    pub ops: OpsConfig,

    #[command(flatten)]
    pub log: LogConfig,

    #[cfg(feature = "mutants")]
    #[command(flatten)]
    pub mutant: hubbub_service::mutant::MutantConfig,

    /// Kafka topic of the records.
    #[arg(long, env = "HUBBUB_TOPIC", default_value = hubbub_protocol::TOPIC_MESSAGES)]
    pub topic: String,
}

/// URLs may hold passwords: they are left out.
impl std::fmt::Debug for Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Config")
            .field("listen", &self.listen)
            .field("pod_id", &self.pod_id)
            .field("region", &self.region)
            .field("kafka_brokers", &self.kafka_brokers)
            .field("topic", &self.topic)
            .field("shards", &self.shard_database_urls.len())
            .field("allowed_origins", &self.allowed_origins)
            .field("max_connections", &self.max_connections)
            .finish_non_exhaustive()
    }
}

impl Config {
    /// All mistakes that clap cannot see, each a sentence that names the flag.
    pub fn mistakes(&self) -> Vec<String> {
        let mut found = Vec::new();
        let mut check = |ok: bool, text: String| {
            if !ok {
                found.push(text);
            }
        };
        let drain = drain::longest(self.max_connections, self);
        check(
            Duration::from_secs(self.grace_s) >= drain,
            format!(
                "--grace-s {} is too short: {} sockets at --drain-rate {}, after --drain-delay-ms \
                 {} and before the flush, need {}",
                self.grace_s,
                self.max_connections,
                self.drain_rate,
                self.drain_delay_ms,
                drain.as_secs_f64().ceil(),
            ),
        );
        check(
            self.drain_rate > 0,
            "--drain-rate must be at least 1".to_owned(),
        );
        check(
            self.max_connections > 0,
            "--max-connections must be at least 1".to_owned(),
        );
        check(
            self.max_sockets_per_user > 0,
            "--max-sockets-per-user must be at least 1".to_owned(),
        );
        check(
            self.heartbeat_ms >= 1_000,
            "--heartbeat-ms must be at least 1000".to_owned(),
        );
        check(
            self.slow_ms >= 1_000,
            "--slow-ms must be at least 1000".to_owned(),
        );
        for (flag, value) in [
            ("--send-rate", self.send_rate),
            ("--send-burst", self.send_burst),
            ("--frame-rate", self.frame_rate),
            ("--frame-burst", self.frame_burst),
        ] {
            check(
                value.is_finite() && value >= 1.0,
                format!("{flag} must be at least 1"),
            );
        }
        for origin in &self.allowed_origins {
            check(
                origin.contains("://") && !origin.ends_with('/'),
                format!("--allowed-origins: {origin:?} is not like https://chat.example.com"),
            );
        }
        found
    }

    /// Of the frames of one socket.
    pub(crate) fn frame_limit(&self) -> Limit {
        Limit {
            rate: self.frame_rate,
            burst: self.frame_burst,
        }
    }

    /// Silence after which a socket is dead.
    pub(crate) fn dead_after(&self) -> Duration {
        Duration::from_millis(self.heartbeat_ms) + Duration::from_secs(10)
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    fn mistakes(more: &[&str]) -> Vec<String> {
        let urls = [
            "hubbub-edge-server",
            "--core-database-url=postgres://h/core",
            "--shard-database-urls=postgres://h/a",
        ];
        let config = Config::try_parse_from(urls.iter().chain(more)).expect("parses");
        config.mistakes()
    }

    #[test]
    fn grace_holds_delay_window_and_flush_or_is_refused() {
        assert_eq!(mistakes(&[]), Vec::<String>::new());
        let short = |more: &[&str]| match &mistakes(more)[..] {
            [] => None,
            [one] => one.rsplit_once("need ").map(|(_, s)| s.to_owned()),
            more => panic!("{more:?}"),
        };
        // Each step counts: 0.7 + 20 + 1 + 5.25 + 2 + 1 + 1.
        assert_eq!(short(&["--grace-s=30"]).as_deref(), Some("31"));
        assert_eq!(short(&["--drain-delay-ms=5700"]).as_deref(), Some("36"));
        assert_eq!(short(&["--drain-rate=250"]).as_deref(), Some("51"));
        assert_eq!(short(&["--max-connections=20000", "--grace-s=51"]), None);
        assert_eq!(short(&["--max-connections=1", "--grace-s=11"]), None);
        assert_eq!(
            short(&["--max-connections=1", "--grace-s=10"]).as_deref(),
            Some("11")
        );
    }
}
