//! Reads whole partitions, beside any consumer.
use std::{collections::BTreeMap, time::Duration};

use rdkafka::{
    Message as _, Offset, TopicPartitionList,
    config::FromClientConfigAndContext as _,
    consumer::{BaseConsumer, Consumer as _},
};
use tokio::time::Instant;
use uuid::Uuid;

use crate::{
    Config, Error, LogRecord,
    admin::{blocking, partition_numbers, watermarks},
    client::Quiet,
};

/// How long the reading may stand still.
const STALL: Duration = Duration::from_secs(10);

/// Reads every record from the low to the high watermark of every partition, as they are when
/// the call begins; in order within a partition. For checks and tests: all of it is in memory.
///
/// # Errors
/// As [`watermarks`], and `Timeout` if nothing comes for 10 s.
pub async fn read_all(config: &Config) -> Result<Vec<(i32, LogRecord)>, Error> {
    let ends = watermarks(config).await?;
    let config = config.clone();
    blocking(move || {
        let mut missing = BTreeMap::new();
        let mut list = TopicPartitionList::new();
        for (partition, end) in partition_numbers(&config).zip(ends) {
            if end.low < end.high {
                missing.insert(partition, end.high);
                list.add_partition_offset(&config.topic, partition, Offset::Offset(end.low))?;
            }
        }
        // A group must be named to read at all; nothing is ever committed for it.
        let mut client = config.client();
        client
            .set("group.id", format!("hubbub-read-{}", Uuid::new_v4()))
            .set("enable.auto.commit", "false")
            .set("auto.offset.reset", "error");
        let consumer = BaseConsumer::from_config_and_context(&client, Quiet)?;
        consumer.assign(&list)?;
        collect(&config, &consumer, missing)
    })
    .await
}

fn collect(
    config: &Config,
    consumer: &BaseConsumer<Quiet>,
    mut missing: BTreeMap<i32, i64>,
) -> Result<Vec<(i32, LogRecord)>, Error> {
    let mut records = Vec::new();
    let mut stalled = Instant::now() + STALL;
    while !missing.is_empty() {
        let Some(message) = consumer.poll(Duration::from_millis(100)).transpose()? else {
            if Instant::now() > stalled {
                return Err(Error::Timeout("read the log"));
            }
            continue;
        };
        stalled = Instant::now() + STALL;
        let partition = message.partition();
        let Some(end) = missing.get(&partition).copied() else {
            continue;
        };
        if message.offset() < end {
            records.push((partition, LogRecord::read(config, &message)));
        }
        if message.offset() + 1 >= end {
            missing.remove(&partition);
        }
    }
    Ok(records)
}
