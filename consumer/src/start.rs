//! The start: waits for the servers, and checks that they belong together.
use std::{future::Future, net::IpAddr, time::Duration};

use hubbub_log::TopicFacts;
use hubbub_store::{LogIdentity, Store};
use rand::RngExt as _;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{Config, Error};

/// How long the servers may take to come up.
const PATIENCE: Duration = Duration::from_secs(60);
/// First and longest pause between two attempts.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));
/// Replicas below which the loss of one broker's disk can lose acknowledged records.
const REPLICAS: u32 = 3;
const IN_SYNC: u32 = 2;

/// What the start found. `None`: the drain began before.
pub(crate) async fn connect(
    config: &Config,
    client_id: &str,
    metrics: &hubbub_store::Metrics,
    stop: &CancellationToken,
) -> Result<Option<(Store, hubbub_log::Config)>, Error> {
    let at = hubbub_store::Config {
        core_url: config.core_database_url.clone(),
        shard_urls: config.shard_database_urls.clone(),
        // The core database is read at the start alone.
        core_connections: 1,
        // A partition writes on one connection; more than a few only queue at the disk.
        shard_connections: 4,
    };
    let open = || async {
        let opened = Store::open(&at, metrics).await;
        opened.map_err(|error| match error {
            hubbub_store::Error::Refused(text) => Attempt::Refused(text),
            other => Attempt::Again(other.to_string()),
        })
    };
    let Some(store) = patiently("Postgres", PATIENCE, stop, open).await? else {
        return Ok(None);
    };
    let identity = store.log_identity();
    let log = hubbub_log::Config {
        brokers: config.kafka_brokers.clone(),
        topic: config.topic.clone(),
        partitions: identity.partitions,
        base: identity.base,
        client_id: client_id.to_owned(),
    };
    let ask = || async {
        let facts = hubbub_log::topic_facts(&log).await;
        facts.map_err(refusal)
    };
    let Some(facts) = patiently("Kafka", PATIENCE, stop, ask).await? else {
        return Ok(None);
    };
    compare(identity, &config.topic, &facts).map_err(Error::Refused)?;
    // A deployment of an older build has none yet.
    let marks = log.marks();
    let ask = || async {
        let facts = hubbub_log::topic_facts(&marks).await;
        facts.map_err(refusal)
    };
    let Some(marks) = patiently("Kafka", PATIENCE, stop, ask).await? else {
        return Ok(None);
    };
    if marks.partitions != identity.partitions {
        return Err(Error::Refused(format!(
            "topic {} of the marks has {} partitions and that of the records {}: delete it, and \
             `hubbub admin init` makes it anew",
            log.marks().topic,
            marks.partitions,
            identity.partitions
        )));
    }
    let fits = || async {
        let positions = store.known_positions().await;
        let fits = hubbub_log::check_positions(&log, &positions).await;
        fits.map_err(refusal)
    };
    if patiently("Kafka", PATIENCE, stop, fits).await?.is_none() {
        return Ok(None);
    }
    warn_of_weak_durability(config, &facts, &store).await;
    Ok(Some((store, log)))
}

/// Why an attempt failed.
enum Attempt {
    Refused(String),
    Again(String),
}

fn refusal(error: hubbub_log::Error) -> Attempt {
    match error {
        hubbub_log::Error::Refused(text) => Attempt::Refused(text),
        other => Attempt::Again(other.to_string()),
    }
}

async fn patiently<T, F: Future<Output = Result<T, Attempt>>>(
    server: &'static str,
    patience: Duration,
    stop: &CancellationToken,
    attempt: impl Fn() -> F,
) -> Result<Option<T>, Error> {
    let began = Instant::now();
    let (mut pause, longest) = BACKOFF;
    loop {
        let reason = match attempt().await {
            Ok(found) => return Ok(Some(found)),
            Err(Attempt::Refused(text)) => return Err(Error::Refused(text)),
            Err(Attempt::Again(reason)) => reason,
        };
        let waited = began.elapsed();
        if waited >= patience {
            return Err(Error::Unavailable { server, reason });
        }
        let waited_s = waited.as_secs();
        tracing::warn!(waited_s, "waiting for {server}: {reason}");
        let jittered = pause.mul_f64(rand::rng().random_range(0.5..=1.0));
        // Waits for the next attempt, or for the drain.
        tokio::select! {
            () = tokio::time::sleep(jittered) => {}
            () = stop.cancelled() => return Ok(None),
        }
        pause = (pause * 2).min(longest);
    }
}

/// The store must have been filled from this log.
fn compare(identity: &LogIdentity, topic: &str, facts: &TopicFacts) -> Result<(), String> {
    let remedy = "`hubbub admin new-log` starts a new log above every stored seq";
    if identity.topic != topic {
        return Err(format!(
            "the store was filled from topic {} and topic {topic} is configured: name the former, or {remedy}",
            identity.topic
        ));
    }
    if identity.cluster_id != facts.cluster_id {
        return Err(format!(
            "the store was filled from Kafka cluster {} and this is cluster {}: name the former's brokers, or {remedy}",
            identity.cluster_id, facts.cluster_id
        ));
    }
    if identity.partitions != facts.partitions {
        return Err(format!(
            "the store was filled from {} partitions and topic {topic} has {}: the count is fixed for ever; {remedy}",
            identity.partitions, facts.partitions
        ));
    }
    Ok(())
}

async fn warn_of_weak_durability(config: &Config, facts: &TopicFacts, store: &Store) {
    if !facts.log_append_time {
        tracing::warn!(
            "topic {} lets clients set the time: set message.timestamp.type=LogAppendTime",
            config.topic
        );
    }
    if facts.replication < REPLICAS || facts.min_insync < IN_SYNC {
        let (replication, min_insync) = (facts.replication, facts.min_insync);
        let advice = "an acknowledged record survives the loss of a broker only with replication 3 and min.insync.replicas=2";
        // One broker on loopback is a developer's machine.
        if is_local(&config.kafka_brokers) {
            tracing::info!(replication, min_insync, "{advice}");
        } else {
            tracing::warn!(replication, min_insync, "{advice}");
        }
    }
    match store.check_durability().await {
        Ok(off) => {
            for setting in off {
                tracing::warn!("Postgres may lose what it committed: {setting} is off");
            }
        }
        Err(error) => tracing::warn!(%error, "durability settings not checked"),
    }
}

fn is_local(brokers: &str) -> bool {
    let mut hosts = brokers
        .split(',')
        .map(|broker| broker.trim().rsplit_once(':').map_or(broker, |(h, _)| h));
    hosts.all(|host| {
        let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
        host == "localhost" || address.is_ok_and(|address| address.is_loopback())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_log_is_refused_with_the_remedy() {
        let identity = LogIdentity {
            cluster_id: "a".to_owned(),
            topic: "messages".to_owned(),
            partitions: 32,
            base: 0,
        };
        let facts = TopicFacts {
            cluster_id: "a".to_owned(),
            partitions: 32,
            replication: 1,
            min_insync: 1,
            log_append_time: true,
        };
        assert_eq!(compare(&identity, "messages", &facts), Ok(()));
        let other_cluster = TopicFacts {
            cluster_id: "b".to_owned(),
            ..facts.clone()
        };
        let other_count = TopicFacts {
            partitions: 8,
            ..facts.clone()
        };
        for (topic, facts) in [
            ("other", &facts),
            ("messages", &other_cluster),
            ("messages", &other_count),
        ] {
            let error = compare(&identity, topic, facts).expect_err("another log");
            assert!(error.contains("hubbub admin new-log"), "{error}");
        }
    }

    #[test]
    fn loopback_is_a_developers_machine() {
        assert!(is_local("127.0.0.1:9092") && is_local("localhost:9092, [::1]:9093"));
        assert!(!is_local("kafka-1:9092") && !is_local("127.0.0.1:9092,10.0.0.1:9092"));
    }

    #[tokio::test]
    async fn servers_are_waited_for_only_where_that_helps() {
        let stop = CancellationToken::new();
        let patience = Duration::from_millis(300);
        let began = Instant::now();
        let never = || async { Err::<(), _>(Attempt::Again("nobody there".to_owned())) };
        let ended = patiently("Kafka", patience, &stop, never).await;
        assert!(matches!(
            ended,
            Err(Error::Unavailable {
                server: "Kafka",
                ..
            })
        ));
        assert!(began.elapsed() >= patience);

        let refused = || async { Err::<(), _>(Attempt::Refused("no".to_owned())) };
        let ended = patiently("Kafka", PATIENCE, &stop, refused).await;
        assert!(matches!(ended, Err(Error::Refused(_))));

        stop.cancel();
        let ended = patiently("Kafka", PATIENCE, &stop, never).await;
        assert!(matches!(ended, Ok(None)), "a drain ends the wait");
    }
}
