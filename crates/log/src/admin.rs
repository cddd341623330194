//! The log as an admin sees it. Each call opens a client of its own and has a deadline.
use std::time::Duration;

use rdkafka::{
    admin::{
        AdminClient, AdminOptions, ConfigResource, NewTopic, ResourceSpecifier, TopicReplication,
    },
    client::Client,
    config::FromClientConfigAndContext as _,
    consumer::{BaseConsumer, Consumer as _},
    error::{KafkaError, RDKafkaErrorCode},
    metadata::{Metadata, MetadataTopic},
    types::RDKafkaRespErr,
};

use crate::{Config, Error, client::Quiet};

/// Deadline of one question to the brokers.
pub(crate) const ANSWER: Duration = Duration::from_secs(5);
/// Deadline of the creation of a topic, until every partition has a leader.
const CREATION: Duration = Duration::from_secs(20);
/// The log is what repairs take from: at least a week.
const RETENTION: Duration = Duration::from_secs(7 * 24 * 3_600);

/// The offsets that one partition holds: `low` is the first one, `high` the next to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Watermarks {
    /// The oldest record's offset.
    pub low: i64,
    /// The offset after the newest record.
    pub high: i64,
}

/// What the brokers say of the topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicFacts {
    /// Which Kafka cluster it is.
    pub cluster_id: String,
    /// How many partitions it has.
    pub partitions: u32,
    /// How many replicas the partition with the fewest has.
    pub replication: u32,
    /// `min.insync.replicas`: how many of them an acknowledgement waits for, at least.
    pub min_insync: u32,
    /// Whether the broker stamps the records (`message.timestamp.type=LogAppendTime`).
    pub log_append_time: bool,
}

/// Creates the topic if it is absent: broker's time, 7 days of retention, and with 3 replicas or
/// more 2 in sync for an acknowledgement. Returns when every partition has a leader.
///
/// # Errors
/// `Refused` if it is there with another partition count; otherwise retryable.
pub async fn create_topic(config: &Config, replication: i32) -> Result<(), Error> {
    tokio::time::timeout(CREATION, create_and_wait(config, replication))
        .await
        .map_err(|_| Error::Timeout("create the topic"))?
}

async fn create_and_wait(config: &Config, replication: i32) -> Result<(), Error> {
    let admin = AdminClient::from_config_and_context(&config.client(), Quiet)?;
    let count = i32::try_from(config.partitions)
        .map_err(|_| Error::Refused(format!("{} partitions are too many", config.partitions)))?;
    let retention_ms = RETENTION.as_millis().to_string();
    let min_insync = if replication >= 3 { "2" } else { "1" };
    let topic = NewTopic::new(&config.topic, count, TopicReplication::Fixed(replication))
        .set("message.timestamp.type", "LogAppendTime")
        .set("cleanup.policy", "delete")
        .set("retention.ms", &retention_ms)
        .set("min.insync.replicas", min_insync)
        .set("unclean.leader.election.enable", "false");
    let options = AdminOptions::new()
        .request_timeout(Some(CREATION))
        .operation_timeout(Some(ANSWER));
    for created in admin.create_topics([&topic], &options).await? {
        match created {
            Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((_, code)) => return Err(KafkaError::AdminOp(code).into()),
        }
    }
    loop {
        let metadata = fetch_metadata(config).await?;
        match find_topic(config, &metadata) {
            Ok(topic) if has_leaders(topic) => return check_count(config, &metadata),
            // A broker may not have heard of it yet; the caller's deadline ends the wait.
            Ok(_) | Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

fn has_leaders(topic: &MetadataTopic) -> bool {
    !topic.partitions().is_empty() && topic.partitions().iter().all(|p| p.leader() >= 0)
}

/// Asks for the topic as it is. Deadline 10 s.
///
/// # Errors
/// `Refused` if it is absent; otherwise retryable.
pub async fn topic_facts(config: &Config) -> Result<TopicFacts, Error> {
    let metadata = fetch_metadata(config).await?;
    let topic = find_topic(config, &metadata)?;
    let partitions = u32::try_from(topic.partitions().len()).unwrap_or(u32::MAX);
    let replicas = topic.partitions().iter().map(|p| p.replicas().len()).min();
    let replication = u32::try_from(replicas.unwrap_or(0)).unwrap_or(u32::MAX);
    let cluster_id = with_client(config, |client| {
        client
            .fetch_cluster_id(ANSWER)
            .ok_or(Error::Timeout("fetch the cluster's id"))
    })
    .await?;
    let settings = topic_settings(config).await?;
    let setting = |name: &str| settings.get(name).and_then(|entry| entry.value.as_deref());
    Ok(TopicFacts {
        cluster_id,
        partitions,
        replication,
        min_insync: setting("min.insync.replicas")
            .and_then(|value| value.parse().ok())
            .unwrap_or(1),
        log_append_time: setting("message.timestamp.type") == Some("LogAppendTime"),
    })
}

async fn topic_settings(config: &Config) -> Result<ConfigResource, Error> {
    let admin = AdminClient::from_config_and_context(&config.client(), Quiet)?;
    let options = AdminOptions::new().request_timeout(Some(ANSWER));
    let topic = ResourceSpecifier::Topic(&config.topic);
    // librdkafka keeps its own deadline; ours is for the day that it does not.
    let described = tokio::time::timeout(ANSWER * 2, admin.describe_configs([&topic], &options))
        .await
        .map_err(|_| Error::Timeout("describe the topic"))??;
    match described.into_iter().next() {
        Some(Ok(settings)) => Ok(settings),
        Some(Err(code)) => Err(KafkaError::AdminOp(code).into()),
        None => Err(Error::Timeout("describe the topic")),
    }
}

/// Asks for the ends of every partition, by number. Deadline 5 s for each.
///
/// # Errors
/// `Refused` if the topic is absent or has another partition count; otherwise retryable.
pub async fn watermarks(config: &Config) -> Result<Vec<Watermarks>, Error> {
    let config = config.clone();
    blocking(move || {
        let client = connect(&config)?;
        check_count(
            &config,
            &client.fetch_metadata(Some(&config.topic), ANSWER)?,
        )?;
        partition_numbers(&config)
            .map(|partition| {
                let (low, high) = client.fetch_watermarks(&config.topic, partition, ANSWER)?;
                Ok(Watermarks { low, high })
            })
            .collect()
    })
    .await
}

pub(crate) fn partition_numbers(config: &Config) -> std::ops::Range<i32> {
    0..i32::try_from(config.partitions).unwrap_or(i32::MAX)
}

/// The topic must be there with the count that was configured.
pub(crate) fn check_count(config: &Config, metadata: &Metadata) -> Result<(), Error> {
    let found = find_topic(config, metadata)?.partitions().len();
    if u32::try_from(found).ok() == Some(config.partitions) {
        return Ok(());
    }
    Err(Error::Refused(format!(
        "topic {} has {found} partitions and {} are configured: the count is fixed when the topic is \
         created, so name the topic's own count, or another topic",
        config.topic, config.partitions
    )))
}

fn find_topic<'a>(config: &Config, metadata: &'a Metadata) -> Result<&'a MetadataTopic, Error> {
    let named = |topic: &&MetadataTopic| topic.name() == config.topic;
    let Some(topic) = metadata.topics().iter().find(named) else {
        return Err(absent(config));
    };
    match topic.error() {
        None | Some(RDKafkaRespErr::RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE) => Ok(topic),
        Some(
            RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART
            | RDKafkaRespErr::RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC,
        ) => Err(absent(config)),
        Some(error) => Err(KafkaError::MetadataFetch(error.into()).into()),
    }
}

fn absent(config: &Config) -> Error {
    Error::Refused(format!(
        "topic {} does not exist: `hubbub admin init` creates it for a new deployment; if it was \
         lost, `hubbub admin new-log` starts a new log above every stored seq",
        config.topic
    ))
}

pub(crate) fn connect(config: &Config) -> Result<BaseConsumer<Quiet>, Error> {
    Ok(BaseConsumer::from_config_and_context(
        &config.client(),
        Quiet,
    )?)
}

async fn fetch_metadata(config: &Config) -> Result<Metadata, Error> {
    let topic = config.topic.clone();
    with_client(config, move |client| {
        Ok(client.fetch_metadata(Some(&topic), ANSWER)?)
    })
    .await
}

async fn with_client<R: Send + 'static>(
    config: &Config,
    ask: impl FnOnce(&Client<Quiet>) -> Result<R, Error> + Send + 'static,
) -> Result<R, Error> {
    let config = config.clone();
    blocking(move || ask(connect(&config)?.client())).await
}

/// Runs calls that block, each with a deadline of its own, off the runtime's threads.
pub(crate) async fn blocking<R: Send + 'static>(
    call: impl FnOnce() -> Result<R, Error> + Send + 'static,
) -> Result<R, Error> {
    tokio::task::spawn_blocking(call)
        .await
        .map_err(|error| Error::Thread(error.to_string()))?
}
