//! The beginning: waiting for the servers, and whether they belong together.

use std::{fmt::Display, future::Future, time::Duration};

use anyhow::{Context, bail};
use hubbub_protocol::PodId;
use hubbub_store::Store;
use prometheus_client::registry::Registry;
use tokio::time::{Instant, sleep, timeout};

use crate::{Config, Edge};

/// How long each server is waited for.
const PATIENCE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(250);
const PAUSE_MOST: Duration = Duration::from_secs(3);

/// Connections to the core database and to each shard; an edge reads, in few and short queries.
const CORE_CONNECTIONS: u32 = 4;
const SHARD_CONNECTIONS: u32 = 4;

pub(crate) fn random_pod_id() -> PodId {
    format!("edge-{:08x}", rand::random::<u32>())
        .parse()
        .expect("13 letters and digits are an id")
}

/// Tries until it works or [`PATIENCE`] is over, with a line of progress for each attempt.
pub(crate) async fn wait_for<T, E: Display, F: Future<Output = Result<T, E>>>(
    what: &str,
    attempt: impl Fn() -> F,
) -> anyhow::Result<T> {
    let begun = Instant::now();
    let mut pause = PAUSE;
    loop {
        match attempt().await {
            Ok(value) => return Ok(value),
            Err(error) if begun.elapsed() > PATIENCE => {
                bail!(
                    "{what} did not answer within {} s: {error}",
                    PATIENCE.as_secs()
                );
            }
            Err(error) => tracing::info!(error = %error, "waiting for {what}"),
        }
        sleep(pause.mul_f64(0.5 + rand::random::<f64>() / 2.0)).await;
        pause = (pause * 2).min(PAUSE_MOST);
    }
}

/// Opens the store, and checks that the log is the one whose seqs it holds.
pub(crate) async fn store_and_log(
    config: &Config,
    pod: &PodId,
    registry: &mut Registry,
) -> anyhow::Result<(Store, hubbub_log::Config)> {
    let store_config = hubbub_store::Config {
        core_url: config.core_database_url.clone(),
        shard_urls: config.shard_database_urls.clone(),
        core_connections: CORE_CONNECTIONS,
        shard_connections: SHARD_CONNECTIONS,
    };
    let metrics = hubbub_store::Metrics::default();
    metrics.register(registry);
    // What is refused is refused at once: waiting would not mend it.
    let opened = wait_for("Postgres", || async {
        match Store::open(&store_config, &metrics).await {
            Err(error @ hubbub_store::Error::Refused(_)) => Ok(Err(error)),
            Err(error) => Err(error),
            Ok(store) => Ok(Ok(store)),
        }
    })
    .await?;
    let store = opened.context("open the store")?;
    let identity = store.log_identity();
    let log_config = hubbub_log::Config {
        brokers: config.kafka_brokers.clone(),
        topic: config.topic.clone(),
        partitions: identity.partitions,
        base: identity.base,
        client_id: format!("hubbub-{pod}"),
    };
    if identity.topic != config.topic {
        bail!(
            "the store was set up for topic {:?}, and --topic is {:?}: give the same one",
            identity.topic,
            config.topic
        );
    }
    let facts = wait_for("Kafka", || hubbub_log::topic_facts(&log_config)).await?;
    if facts.cluster_id != identity.cluster_id {
        bail!(
            "the store belongs to Kafka cluster {}, and {} is cluster {}: point KAFKA_BROKERS at \
             the right one, or start a new log with `hubbub admin new-log`",
            identity.cluster_id,
            config.kafka_brokers,
            facts.cluster_id
        );
    }
    if facts.partitions != identity.partitions {
        bail!(
            "topic {:?} has {} partitions, and the store was set up for {}: the count is fixed at \
             creation; start a new log with `hubbub admin new-log`",
            config.topic,
            facts.partitions,
            identity.partitions
        );
    }
    let fits = wait_for("Kafka", || async {
        let positions = store.known_positions().await;
        match hubbub_log::check_positions(&log_config, &positions).await {
            Err(error @ hubbub_log::Error::Refused(_)) => Ok(Err(error)),
            Err(error) => Err(error),
            Ok(()) => Ok(Ok(())),
        }
    })
    .await?;
    fits.context("compare the log with the store")?;
    if facts.replication < 3 || facts.min_insync < 2 {
        tracing::warn!(
            replication = facts.replication,
            min_insync_replicas = facts.min_insync,
            "the log survives the loss of a broker only with replication 3 and \
             min.insync.replicas 2 (docs/OPERATIONS.md)"
        );
    }
    Ok((store, log_config))
}

/// Waits for the lease and the bus, so that a pod that calls itself ready can serve joins; goes
/// on without them after `patience`, since sockets and sends need neither.
pub(crate) async fn wait_for_bus(edge: &Edge, patience: Duration) {
    let there = async {
        while !(edge.lease_is_valid() && edge.subscriber.is_connected()) {
            sleep(Duration::from_millis(20)).await;
        }
    };
    if timeout(patience, there).await.is_err() {
        tracing::warn!("the bus (REDIS_URL) does not answer yet");
    }
}
