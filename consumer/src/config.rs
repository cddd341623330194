//! Configuration: one struct, flags and environment only. The doc comments are the `--help`.
use std::time::Duration;

use hubbub_log::SESSION_TIMEOUT_MAX;
use hubbub_protocol::{GROUP_DEFAULT, PodId, TOPIC_MESSAGES};
use hubbub_service::{OpsConfig, config::Mistakes, telemetry::LogConfig};
use uuid::Uuid;

use crate::consumer::{GRACE, LONGEST_DRAIN};

/// A stock broker refuses a shorter session (`group.min.session.timeout.ms`).
const SESSION_TIMEOUT_MS: u64 = 6_000;
/// A third of the session timeout, so that two heartbeats may be lost.
const HEARTBEAT_MS: u64 = 2_000;

/// Consumer of Hubbub: moves the log (Kafka) into the store (Postgres) and announces on the bus
/// (Redis) what is stored.
///
/// Any number may run as one group: they share the partitions, and when one dies the others take
/// its partitions over. SIGTERM drains: the batches under way are finished, the group is left,
/// then exit 0. Exit codes: 64 wrong configuration, 69 the servers did not come up within 60 s of
/// the start, 78 the log and the store do not belong together (the message names the remedy).
#[derive(Clone, clap::Parser)]
#[command(name = "hubbub-consumer", version, max_term_width = 100)]
pub struct Config {
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

    /// Kafka topic of the records. That of the marks is `marks`, or for another topic its name and `-marks`.
    #[arg(long, env = "HUBBUB_TOPIC", default_value = TOPIC_MESSAGES)]
    pub topic: String,

    /// Kafka consumer group that shares the partitions.
    #[arg(long, env = "HUBBUB_GROUP", default_value = GROUP_DEFAULT)]
    pub group: String,

    /// Core database: the maps and the identity of the log.
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

    /// Name of this process: 1 to 64 letters, digits or `-_.`; random if absent.
    #[arg(long, env = "HUBBUB_POD_ID")]
    pub pod_id: Option<PodId>,

    /// Milliseconds of silence after which the group takes this process for dead, at most 30000. A
    /// stock broker refuses less than 6000.
    #[arg(long, env = "HUBBUB_SESSION_TIMEOUT_MS", default_value_t = SESSION_TIMEOUT_MS)]
    pub session_timeout_ms: u64,

    /// Milliseconds between two heartbeats to the group; at most a third of the session timeout.
    #[arg(long, env = "HUBBUB_HEARTBEAT_MS", default_value_t = HEARTBEAT_MS)]
    pub heartbeat_ms: u64,

    /// Seconds from SIGTERM to the end, whatever still runs: 8 for the batches, 12 to leave the
    /// group and 2 for the last announcements are needed at most.
    #[arg(long, env = "HUBBUB_GRACE_S", default_value_t = GRACE.as_secs())]
    pub grace_s: u64,

    #[command(flatten)]
    pub ops: OpsConfig,

    #[command(flatten)]
    pub log: LogConfig,

    #[cfg(feature = "mutants")]
    #[command(flatten)]
    pub mutant: hubbub_service::mutant::MutantConfig,
}

impl std::fmt::Debug for Config {
    /// Leaves the addresses out that may hold passwords.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Config")
            .field("kafka_brokers", &self.kafka_brokers)
            .field("topic", &self.topic)
            .field("group", &self.group)
            .field("shards", &self.shard_database_urls.len())
            .field("pod_id", &self.pod_id)
            .field("session_timeout_ms", &self.session_timeout_ms)
            .field("heartbeat_ms", &self.heartbeat_ms)
            .field("ops", &self.ops)
            .field("log", &self.log)
            .finish_non_exhaustive()
    }
}

impl Config {
    /// Checks what clap cannot; `Err` holds every mistake.
    pub fn check(&self) -> Result<(), Mistakes> {
        let mut mistakes = Mistakes::new();
        mistakes.require(
            self.heartbeat_ms > 0 && self.heartbeat_ms * 3 <= self.session_timeout_ms,
            "--heartbeat-ms",
            "must be above 0 and at most a third of --session-timeout-ms",
        );
        mistakes.require(
            self.session_timeout() <= SESSION_TIMEOUT_MAX,
            "--session-timeout-ms",
            format_args!("must be at most {}", SESSION_TIMEOUT_MAX.as_millis()),
        );
        mistakes.require(
            self.grace() >= LONGEST_DRAIN,
            "--grace-s",
            format_args!(
                "{} is too short: batches, leaving the group and the last announcements need {}",
                self.grace_s,
                LONGEST_DRAIN.as_secs_f64().ceil(),
            ),
        );
        let mut named = |value: &str, option| {
            mistakes.require(!value.trim().is_empty(), option, "is empty");
        };
        named(&self.kafka_brokers, "--kafka-brokers");
        named(&self.topic, "--topic");
        named(&self.group, "--group");
        for url in &self.shard_database_urls {
            named(url, "--shard-database-urls");
        }
        mistakes.finish()
    }

    /// The configured name, or a random one.
    pub(crate) fn pod(&self) -> PodId {
        let random = || {
            let word = Uuid::new_v4().simple().to_string();
            let name = format!("consumer-{}", &word[..8]);
            name.parse().expect("letters, digits and a dash")
        };
        self.pod_id.clone().unwrap_or_else(random)
    }

    /// How long a drain may take.
    pub fn grace(&self) -> Duration {
        Duration::from_secs(self.grace_s)
    }

    pub(crate) fn session_timeout(&self) -> Duration {
        Duration::from_millis(self.session_timeout_ms)
    }

    pub(crate) fn heartbeat(&self) -> Duration {
        Duration::from_millis(self.heartbeat_ms)
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    fn parse(more: &[&str]) -> Config {
        let urls = [
            "hubbub-consumer",
            "--core-database-url=postgres://u:secret@h/core",
            "--shard-database-urls=postgres://u:secret@h/a,postgres://u:secret@h/b",
        ];
        Config::try_parse_from(urls.iter().chain(more)).expect("parses")
    }

    #[test]
    fn defaults_fit_together_and_debug_shows_no_password() {
        let config = parse(&[]);
        assert_eq!(config.check(), Ok(()));
        assert_eq!(config.shard_database_urls.len(), 2);
        assert!(!format!("{config:?}").contains("secret"));
        assert!(config.pod().as_str().starts_with("consumer-"));
    }

    #[test]
    fn grace_that_holds_no_drain_is_refused() {
        assert_eq!(parse(&["--grace-s=22"]).check(), Ok(()));
        let mistakes = parse(&["--grace-s=21"]).check().expect_err("8 + 12 + 2");
        assert!(mistakes.to_string().ends_with("need 22"), "{mistakes}");
    }

    #[test]
    fn mistakes_are_reported_together() {
        let mistakes = parse(&[
            "--heartbeat-ms=11000",
            "--session-timeout-ms=30001",
            "--topic=",
        ]);
        let text = mistakes.check().expect_err("three mistakes").to_string();
        for option in ["--heartbeat-ms", "--session-timeout-ms: must be", "--topic"] {
            assert!(text.contains(option), "{option}: {text}");
        }
    }
}
