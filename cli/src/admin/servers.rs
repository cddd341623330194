use std::{fmt::Display, future::Future, time::Duration};

use anyhow::Context as _;
use hubbub_client::Backoff;
use hubbub_log::TopicFacts;
use hubbub_store::{LogIdentity, Metrics, Store};
use tokio::time::Instant;

use crate::{args::ServerArgs, failure::usage, show::line};

/// How long servers that are starting are waited for.
const PATIENCE: Duration = Duration::from_secs(60);

/// The log and the store of a deployment.
pub(crate) struct Servers {
    pub(crate) log: hubbub_log::Config,
    pub(crate) store: hubbub_store::Config,
    pub(crate) replication: i32,
}

impl Servers {
    pub(crate) fn new(args: &ServerArgs) -> anyhow::Result<Self> {
        let mut missing = Vec::new();
        if args.core_database_url.as_deref().unwrap_or("").is_empty() {
            missing.push("CORE_DATABASE_URL: postgres://user@host:port/database");
        }
        let shard_urls: Vec<_> = args
            .shard_database_urls
            .iter()
            .map(|url| url.trim().to_owned())
            .filter(|url| !url.is_empty())
            .collect();
        if shard_urls.is_empty() {
            missing.push("SHARD_DATABASE_URLS: one address for each shard, with commas");
        }
        if !missing.is_empty() {
            return Err(usage(format!("not set:\n  {}", missing.join("\n  "))));
        }
        Ok(Self {
            log: hubbub_log::Config {
                brokers: args.kafka_brokers.clone(),
                topic: args.topic.clone(),
                partitions: args.partitions,
                base: 0,
                client_id: "hubbub-admin".to_owned(),
            },
            store: hubbub_store::Config {
                core_url: args.core_database_url.clone().unwrap_or_default(),
                shard_urls,
                core_connections: 2,
                shard_connections: 2,
            },
            replication: args.replication,
        })
    }

    /// Creates the topic if it is absent; its facts.
    pub(crate) async fn topic(&self) -> anyhow::Result<TopicFacts> {
        self.prepare(true).await
    }

    /// The facts of a topic that must be there.
    pub(crate) async fn present_topic(&self) -> anyhow::Result<TopicFacts> {
        self.prepare(false).await
    }

    async fn prepare(&self, create: bool) -> anyhow::Result<TopicFacts> {
        let (topic, brokers) = (&self.log.topic, &self.log.brokers);
        say(&format!(
            "Kafka {brokers}: topic {topic}, {} partitions",
            self.log.partitions
        ))?;
        let facts = patiently("Kafka", hubbub_log::Error::retryable, || async {
            if create {
                hubbub_log::create_topic(&self.log, self.replication).await?;
            }
            hubbub_log::topic_facts(&self.log).await
        })
        .await
        .with_context(|| format!("prepare topic {topic} (KAFKA_BROKERS={brokers})"))?;
        if facts.partitions != self.log.partitions {
            anyhow::bail!(
                "topic {topic} has {} partitions and HUBBUB_PARTITIONS is {}: the count is fixed when \
                 the topic is created, so name its own count, or another topic by HUBBUB_TOPIC",
                facts.partitions,
                self.log.partitions
            );
        }
        if !facts.log_append_time {
            anyhow::bail!(
                "topic {topic} takes the senders' clocks: set message.timestamp.type=LogAppendTime \
                 on it (kafka-configs.sh --alter), or name another topic by HUBBUB_TOPIC"
            );
        }
        say(&format!(
            "  cluster {}, replication {}, an ack waits for {} in sync",
            facts.cluster_id, facts.replication, facts.min_insync
        ))?;
        Ok(facts)
    }

    /// Creates the topic of the marks if it is absent. Lost and made anew it costs nothing: devices
    /// mark again.
    pub(crate) async fn marks_topic(&self) -> anyhow::Result<()> {
        let marks = self.log.marks();
        let (topic, brokers) = (&marks.topic, &marks.brokers);
        say(&format!("Kafka {brokers}: topic {topic} of the marks"))?;
        patiently("Kafka", hubbub_log::Error::retryable, || {
            hubbub_log::create_topic(&marks, self.replication)
        })
        .await
        .with_context(|| format!("prepare topic {topic} (KAFKA_BROKERS={brokers})"))
    }

    /// The identity of the log that the topic is.
    pub(crate) fn identity(&self, facts: &TopicFacts) -> LogIdentity {
        LogIdentity {
            cluster_id: facts.cluster_id.clone(),
            topic: self.log.topic.clone(),
            partitions: facts.partitions,
            base: 0,
        }
    }

    pub(crate) async fn open_store(&self) -> anyhow::Result<Store> {
        Store::open(&self.store, &Metrics::default())
            .await
            .context("open the store (CORE_DATABASE_URL, SHARD_DATABASE_URLS)")
    }
}

/// A line of progress.
pub(crate) fn say(text: &str) -> anyhow::Result<()> {
    Ok(line(text)?)
}

/// Repeats what fails for now, for up to a minute, and says so.
pub(crate) async fn patiently<T, E: Display, F: Future<Output = Result<T, E>>>(
    what: &str,
    retryable: impl Fn(&E) -> bool,
    mut attempt: impl FnMut() -> F,
) -> Result<T, E> {
    let started = Instant::now();
    let mut backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(3));
    loop {
        match attempt().await {
            Err(error) if retryable(&error) && started.elapsed() < PATIENCE => {
                let seconds = started.elapsed().as_secs();
                eprintln!(
                    "  waiting for {what} ({seconds} s of {}): {error}",
                    PATIENCE.as_secs()
                );
                let least = Some(Duration::from_millis(500));
                tokio::time::sleep(backoff.next(&mut rand::rng(), least)).await;
            }
            result => return result,
        }
    }
}
