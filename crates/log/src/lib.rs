//! The log: Kafka. It remembers. The only crate that knows offsets.
use hubbub_protocol::{ChannelId, Seq};
use std::{collections::HashMap, sync::Arc, time::Duration};

#[derive(Debug, Clone)]
pub struct Config {
    pub brokers: String,
    pub topic: String,
    pub partitions: u32,
    /// seq = offset + 1 + base
    pub base: u64,
    pub client_id: String,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{0}")]
    Kafka(#[from] rdkafka::error::KafkaError),
    #[error("{0}")]
    Refused(String),
}

#[derive(Debug, Clone, Default)]
pub struct Metrics {}
impl Metrics {
    pub fn register(&self, _registry: &mut prometheus_client::registry::Registry) {
        todo!()
    }
}

/// Where a record landed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    pub seq: Seq,
    pub ts_ms: i64,
}

/// What the log says of one append. `Unknown`: it may be in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Report {
    Appended(Appended),
    Rejected(String),
    Unknown(String),
}

/// The record was never handed to Kafka: definite.
#[derive(Debug, thiserror::Error)]
pub enum Rejected {
    #[error("the log's queue is full")]
    Full,
    #[error("{0}")]
    Invalid(String),
}

/// Appends, acks=all, idempotent, linger 0, bounded (10,000 records, 32 MiB). Cheap handle. `T` rides along with
/// each record and comes back with its report; reports of one partition come in log order, on one thread.
pub struct Appender<T> {
    _marker: std::marker::PhantomData<T>,
}
impl<T> Clone for Appender<T> {
    fn clone(&self) -> Self {
        todo!()
    }
}
impl<T: Send + 'static> Appender<T> {
    /// Starts the producer. `on_report` runs on the producer's thread and must not block.
    pub fn start(
        _config: &Config,
        _metrics: &Metrics,
        _on_report: impl Fn(T, Report) + Send + Sync + 'static,
    ) -> Result<Self, Error> {
        todo!()
    }
    /// Fetches metadata so that the first append does not wait for it; also the readiness check. Deadline inside.
    pub async fn warm_up(&self) -> Result<(), Error> {
        todo!()
    }
    /// Hands the record over; never waits. Gives `T` back when rejected.
    pub fn append(
        &self,
        _channel: ChannelId,
        _payload: Vec<u8>,
        _tag: T,
    ) -> Result<(), (T, Rejected)> {
        todo!()
    }
    /// Waits until everything appended has its report, at most `deadline`. Blocking inside spawn_blocking.
    pub async fn flush(&self, _deadline: Duration) -> Result<(), Error> {
        todo!()
    }
}

/// A record as consumed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogRecord {
    pub seq: Seq,
    /// the position after it, for `log_position`
    pub next_offset: i64,
    pub ts_ms: i64,
    pub key: Option<Vec<u8>>,
    pub payload: Option<Vec<u8>>,
}

/// Where each partition goes on: asked inside the rebalance, on the polling thread.
pub trait Positions: Send + Sync + 'static {
    /// next_offset per partition; a partition without an entry has none yet (starts at 0 only where the low watermark is 0).
    fn positions(&self, partitions: &[i32]) -> Result<HashMap<i32, i64>, String>;
}

/// What happens to the partitions of this member.
#[derive(Debug)]
pub enum ConsumerEvent {
    /// Records of one partition in order come out of `records`; the receiver's bound pauses that partition alone.
    Assigned {
        partition: i32,
        next_offset: i64,
        records: tokio::sync::mpsc::Receiver<Vec<LogRecord>>,
    },
    /// Finish or abandon the batch; `done` is dropped when the partition's task is over (the rebalance waits for that at most 2 s).
    Revoked {
        partition: i32,
        done: tokio::sync::oneshot::Sender<()>,
    },
    /// The log ends below the stored position, or is another one: names the remedy. The partition stays stopped.
    Refused { partition: i32, error: String },
}
#[derive(Debug, Clone)]
pub struct ConsumerConfig {
    pub log: Config,
    pub group: String,
    pub session_timeout: Duration,
    pub heartbeat: Duration,
    pub batch_records: usize,
}
#[derive(Debug)]
pub struct Consumer {}
impl Consumer {
    /// Joins the group on a thread of its own; events come in order.
    pub fn start(
        _config: ConsumerConfig,
        _metrics: &Metrics,
        _positions: Arc<dyn Positions>,
    ) -> Result<(Self, tokio::sync::mpsc::Receiver<ConsumerEvent>), Error> {
        todo!()
    }
    /// Starts a partition again whose task failed (zombie, shard away): from the position in the store.
    pub fn restart(&self, _partition: i32) {
        todo!()
    }
    /// Kafka's own offset, for lag tools only; never waits.
    pub fn commit_for_lag_tools(&self, _partition: i32, _next_offset: i64) {
        todo!()
    }
    /// Leaves the group and joins the thread.
    pub async fn stop(self) {
        todo!()
    }
}

/// The log as an admin sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watermarks {
    pub low: i64,
    pub high: i64,
}
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicFacts {
    pub cluster_id: String,
    pub partitions: u32,
    pub replication: u32,
    pub min_insync: u32,
    pub log_append_time: bool,
}
/// Creates the topic if absent (LogAppendTime); `TopicAlreadyExists` is success.
pub async fn create_topic(_config: &Config, _replication: i32) -> Result<(), Error> {
    todo!()
}
pub async fn topic_facts(_config: &Config) -> Result<TopicFacts, Error> {
    todo!()
}
pub async fn watermarks(_config: &Config) -> Result<Vec<Watermarks>, Error> {
    todo!()
}
/// Reads whole partitions (for checks and tests): every record from low to high watermark.
pub async fn read_all(_config: &Config) -> Result<Vec<(i32, LogRecord)>, Error> {
    todo!()
}
