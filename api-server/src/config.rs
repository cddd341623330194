use std::{fmt, net::SocketAddr, time::Duration};

use hubbub_protocol::{PodId, TOPIC_MESSAGES};
use hubbub_service::{OpsConfig, config::Mistakes, telemetry::LogConfig, token::TokenConfig};

use crate::server;

/// One process on one machine: two cores of Postgres are kept busy by few connections, and the
/// core answers two short queries a request.
const CORE_CONNECTIONS: u32 = 8;
/// Per shard: a page of history is one indexed query of well under a millisecond.
const SHARD_CONNECTIONS: u32 = 4;

/// The HTTP API of Hubbub.
#[derive(Clone, clap::Parser)]
#[command(name = "hubbub-api-server", version)]
pub struct Config {
    /// Address of the API. Port 0 takes a free one.
    #[arg(long, env = "HUBBUB_LISTEN", default_value = "127.0.0.1:8201")]
    pub listen: SocketAddr,

    #[command(flatten)]
    pub ops: OpsConfig,

    #[command(flatten)]
    pub log: LogConfig,

    #[cfg(feature = "mutants")]
    #[command(flatten)]
    pub mutant: hubbub_service::mutant::MutantConfig,

    #[command(flatten)]
    pub token: TokenConfig,

    /// The bus.
    #[arg(
        long,
        env = "REDIS_URL",
        hide_env_values = true,
        default_value = "redis://127.0.0.1:6379"
    )]
    pub redis_url: String,

    /// The log: `host:port`, separated by commas.
    #[arg(long, env = "KAFKA_BROKERS", default_value = "127.0.0.1:9092")]
    pub kafka_brokers: String,

    /// Kafka topic of the records.
    #[arg(long, env = "HUBBUB_TOPIC", default_value = TOPIC_MESSAGES)]
    pub topic: String,

    /// The core database.
    #[arg(long, env = "CORE_DATABASE_URL", hide_env_values = true)]
    pub core_database_url: String,

    /// The shards, in the order of their numbers, separated by commas.
    #[arg(
        long,
        env = "SHARD_DATABASE_URLS",
        hide_env_values = true,
        value_delimiter = ',',
        required = true
    )]
    pub shard_database_urls: Vec<String>,

    /// Connections to the core database.
    #[arg(long, env = "HUBBUB_CORE_CONNECTIONS", default_value_t = CORE_CONNECTIONS)]
    pub core_connections: u32,

    /// Connections to each shard.
    #[arg(long, env = "HUBBUB_SHARD_CONNECTIONS", default_value_t = SHARD_CONNECTIONS)]
    pub shard_connections: u32,

    /// Names this process on the bus and in logs; random (`api-…`) if absent.
    #[arg(long, env = "HUBBUB_POD_ID")]
    pub pod_id: Option<PodId>,

    /// The region that this process belongs to.
    #[arg(long, env = "HUBBUB_REGION", default_value = "home")]
    pub region: String,

    /// Origins of web pages that may call the API, exact (`https://chat.example.com`), separated by
    /// commas. Requests without an Origin header are not affected.
    #[arg(long, env = "HUBBUB_ALLOWED_ORIGINS", value_delimiter = ',')]
    pub allowed_origins: Vec<String>,

    /// Create a user for a valid token whose subject is unknown, instead of answering 401.
    #[arg(long, env = "HUBBUB_PROVISION_USERS")]
    pub provision_users: bool,

    /// Let whoever asks act as one of the example users, who need not show anything for it: `POST
    /// /ui/sign-in`, and `?id_user=` on the page. For development; needs --jwt-secret-file.
    #[arg(long, env = "HUBBUB_DEV_SIGN_IN")]
    pub dev_sign_in: bool,

    /// Sends a second and user.
    #[arg(long, env = "HUBBUB_SEND_RATE", default_value_t = 20.0)]
    pub send_rate: f64,

    /// Sends that a user who was quiet may make at once.
    #[arg(long, env = "HUBBUB_SEND_BURST", default_value_t = 40.0)]
    pub send_burst: f64,

    /// Pages of history a second and user.
    #[arg(long, env = "HUBBUB_HISTORY_RATE", default_value_t = 10.0)]
    pub history_rate: f64,

    /// Pages of history that a user who was quiet may read at once.
    #[arg(long, env = "HUBBUB_HISTORY_BURST", default_value_t = 50.0)]
    pub history_burst: f64,

    /// All other requests a second and user.
    #[arg(long, env = "HUBBUB_REQUEST_RATE", default_value_t = 50.0)]
    pub request_rate: f64,

    /// Other requests that a user who was quiet may make at once.
    #[arg(long, env = "HUBBUB_REQUEST_BURST", default_value_t = 500.0)]
    pub request_burst: f64,

    /// Connections at one time; the next ones get a fast 503.
    #[arg(long, env = "HUBBUB_MAX_CONNECTIONS", default_value_t = 4_096)]
    pub max_connections: usize,

    /// How long to wait for the databases and the log at the start, in seconds.
    #[arg(long, env = "HUBBUB_START_DEADLINE_S", default_value_t = 60)]
    pub start_deadline_s: u64,

    /// At the begin of a drain: how long the load balancer needs to see that this process is not
    /// ready any more (more than one interval of its check), in milliseconds.
    #[arg(long, env = "HUBBUB_DRAIN_DELAY_MS", default_value_t = 700)]
    pub drain_delay_ms: u64,

    /// How long a drain may take before what still runs is cut, in seconds. A request ends within
    /// 10 s by itself, the log's producer is flushed for 5 s at most and the bus for 1 s.
    #[arg(long, env = "HUBBUB_GRACE_S", default_value_t = 30)]
    pub grace_s: u64,
}

impl Config {
    /// How long a drain may take.
    pub fn grace(&self) -> Duration {
        Duration::from_secs(self.grace_s)
    }

    pub(crate) fn drain_delay(&self) -> Duration {
        Duration::from_millis(self.drain_delay_ms)
    }

    /// Notes what no parser can see in one value.
    pub(crate) fn check(&self, mistakes: &mut Mistakes) {
        for origin in &self.allowed_origins {
            mistakes.require(
                is_origin(origin),
                "--allowed-origins",
                format_args!("`{origin}` is not scheme://host or scheme://host:port"),
            );
        }
        for (option, value) in [
            ("--send-rate", self.send_rate),
            ("--history-rate", self.history_rate),
            ("--request-rate", self.request_rate),
        ] {
            let positive = value.is_finite() && value > 0.0;
            mistakes.require(positive, option, "must be above 0");
        }
        for (option, value) in [
            ("--send-burst", self.send_burst),
            ("--history-burst", self.history_burst),
            ("--request-burst", self.request_burst),
        ] {
            let from_one = value.is_finite() && value >= 1.0;
            mistakes.require(from_one, option, "must be 1 or more");
        }
        for (option, value) in [
            ("--core-connections", self.core_connections),
            ("--shard-connections", self.shard_connections),
        ] {
            mistakes.require(value > 0, option, "must be 1 or more");
        }
        mistakes.require(
            self.max_connections > 0,
            "--max-connections",
            "must be 1 or more",
        );
        let least = self.drain_delay() + server::LONGEST_DRAIN;
        mistakes.require(
            self.grace() >= least,
            "--grace-s",
            format_args!(
                "{} is too short: --drain-delay-ms {}, the requests under way and the flush need {}",
                self.grace_s,
                self.drain_delay_ms,
                least.as_secs_f64().ceil(),
            ),
        );
    }
}

/// Scheme, host and perhaps a port, as browsers spell an Origin: lower case, no path.
fn is_origin(text: &str) -> bool {
    let Some((scheme, host)) = text.split_once("://") else {
        return false;
    };
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-._:[]".contains(&b);
    matches!(scheme, "http" | "https") && !host.is_empty() && host.bytes().all(allowed)
}

/// Database addresses carry passwords, so they are left out.
impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("listen", &self.listen)
            .field("ops", &self.ops)
            .field("kafka_brokers", &self.kafka_brokers)
            .field("topic", &self.topic)
            .field("shards", &self.shard_database_urls.len())
            .field("pod_id", &self.pod_id)
            .field("region", &self.region)
            .field("allowed_origins", &self.allowed_origins)
            .field("provision_users", &self.provision_users)
            .field("dev_sign_in", &self.dev_sign_in)
            .field("max_connections", &self.max_connections)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    fn parsed(more: &[&str]) -> Config {
        let base = [
            "hubbub-api-server",
            "--core-database-url",
            "postgres://hubbub:secret@127.0.0.1/core",
            "--shard-database-urls",
            "postgres://a,postgres://b",
        ];
        Config::try_parse_from(base.iter().chain(more)).expect("parses")
    }

    fn mistakes(more: &[&str]) -> Vec<String> {
        let mut found = Mistakes::new();
        parsed(more).check(&mut found);
        match found.finish() {
            Ok(()) => vec![],
            Err(all) => all.to_string().lines().skip(1).map(str::to_owned).collect(),
        }
    }

    #[test]
    fn defaults_are_sound() {
        assert_eq!(mistakes(&[]), Vec::<String>::new());
        assert_eq!(parsed(&[]).shard_database_urls.len(), 2);
    }

    #[test]
    fn all_mistakes_are_found() {
        let found = mistakes(&[
            "--allowed-origins",
            "https://chat.example.com,https://CHAT.example.com,chat.example.com,http://a/b",
            "--send-rate",
            "0",
            "--history-burst",
            "0.5",
            "--grace-s",
            "15",
        ]);
        assert_eq!(found.len(), 6, "{found:#?}");
    }

    #[test]
    fn grace_holds_delay_requests_and_flush_or_is_refused() {
        assert_eq!(mistakes(&["--grace-s=18"]), Vec::<String>::new());
        for (more, need) in [
            (&["--grace-s=17"][..], "need 18"),
            (&["--grace-s=18", "--drain-delay-ms=2000"][..], "need 19"),
        ] {
            let found = mistakes(more);
            assert!(found.len() == 1 && found[0].ends_with(need), "{found:?}");
        }
    }

    #[test]
    fn debug_shows_no_password() {
        assert!(!format!("{:?}", parsed(&[])).contains("secret"));
    }
}
