use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use hubbub_protocol::{ChannelId, Seq};
use tokio::sync::Notify;

use crate::{
    Config, Error, Metrics,
    producer::{OnReports, Producer, Tagged},
    reports::ReportQueue,
};

/// Deadline of [`Appender::warm_up`].
pub(crate) const WARM_UP: Duration = Duration::from_secs(5);

/// Where a record landed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// Its position in its channel.
    pub seq: Seq,
    /// The broker's append time, milliseconds since 1970; never used for order.
    pub ts_ms: i64,
}

/// What the log says of one append.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Report {
    /// Every in-sync replica has it.
    Appended(Appended),
    /// It never reached the log. No report is this one today: librdkafka tells what it has never
    /// sent only through an unsafe call, so every failure after the hand-over is `Unknown`.
    Rejected(String),
    /// It may be in the log.
    Unknown(String),
}

/// Some reports, in log order within each partition, with what rode along with their records.
pub type Reports<'a, T> = std::vec::Drain<'a, (T, Report)>;

/// The record was never handed to Kafka: definite.
#[derive(Debug, thiserror::Error)]
pub enum Rejected {
    /// 10,000 records or 32 MiB wait already.
    #[error("the log's queue is full")]
    Full,
    /// The client does not take this record, or nothing at all at the moment.
    #[error("{0}")]
    Invalid(String),
}

/// Counts what has been handed over and has no report yet.
#[derive(Debug, Default)]
pub(crate) struct Outstanding {
    records: AtomicU64,
    empty: Notify,
}

impl Outstanding {
    pub(crate) fn add(&self) {
        self.records.fetch_add(1, Ordering::AcqRel);
    }

    pub(crate) fn done(&self, count: u64) {
        if self.records.fetch_sub(count, Ordering::AcqRel) == count {
            self.empty.notify_waiters();
        }
    }

    pub(crate) fn records(&self) -> u64 {
        self.records.load(Ordering::Acquire)
    }

    /// Cancel-safe.
    async fn wait_until_empty(&self) {
        loop {
            // Created before the look, so that no notification falls between the two.
            let empty = self.empty.notified();
            if self.records() == 0 {
                return;
            }
            empty.await;
        }
    }
}

/// Appends with `acks=all`, idempotent, without lingering, bounded (10,000 records, 32 MiB).
/// Cheap handle. `T` rides along with each record and comes back with its report; the reports of
/// one partition come in log order, all on one thread.
///
/// A producer that met a fatal error (its idempotence can no longer be kept) is replaced by a new
/// one after every record of the old one had its report; until then, about 0.1 s, appends are
/// rejected. So a restart of the process is never needed, and the order of reports holds.
///
/// Dropping the last handle purges what waits: those records are reported `Unknown` and the
/// thread is joined, at most about 1 s. Call [`Appender::flush`] before.
pub struct Appender<T: Send + 'static> {
    inner: Arc<Inner<T>>,
}

struct Inner<T: Send + 'static> {
    config: Config,
    metrics: Metrics,
    producer: Producer<T>,
}

impl<T: Send + 'static> Clone for Appender<T> {
    fn clone(&self) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
        }
    }
}

impl<T: Send + 'static> fmt::Debug for Appender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Appender")
            .field("topic", &self.inner.config.topic)
            .field("outstanding", &self.inner.producer.outstanding().records())
            .finish()
    }
}

impl<T: Send + 'static> Appender<T> {
    /// Starts the producer and its thread; no broker needs to be there yet. `on_report` runs on
    /// that thread and must not block.
    ///
    /// # Errors
    /// A setting that librdkafka refuses, or no thread to be had.
    pub fn start(
        config: &Config,
        metrics: &Metrics,
        on_report: impl Fn(T, Report) + Send + Sync + 'static,
    ) -> Result<Self, Error> {
        let outstanding = Arc::<Outstanding>::default();
        let told = Arc::clone(&outstanding);
        let on_reports = move |reports: Reports<'_, T>| {
            let count = reports.len() as u64;
            reports.for_each(|(tag, report)| on_report(tag, report));
            told.done(count);
        };
        Self::with(config, metrics, outstanding, Arc::new(on_reports))
    }

    /// As [`Appender::start`], with a queue in place of the callback: a task must run it. Reports
    /// of records that were handed over together (within 50 us from one to the next, 300 us in
    /// all, at most 64) get there together. Where the log acknowledges only a part of them, that
    /// part waits for the rest, at most 0.4 s.
    ///
    /// # Errors
    /// As [`Appender::start`].
    pub fn start_queued(
        config: &Config,
        metrics: &Metrics,
    ) -> Result<(Self, ReportQueue<T>), Error> {
        let outstanding = Arc::<Outstanding>::default();
        let (queue, on_reports) = ReportQueue::new(&outstanding);
        let appender = Self::with(config, metrics, outstanding, on_reports)?;
        Ok((appender, queue))
    }

    fn with(
        config: &Config,
        metrics: &Metrics,
        outstanding: Arc<Outstanding>,
        on_reports: OnReports<T>,
    ) -> Result<Self, Error> {
        let (of_producer, counts) = (config.clone(), metrics.clone());
        let producer = Producer::start(of_producer, counts, outstanding, on_reports)?;
        Ok(Self {
            inner: Arc::new(Inner {
                config: config.clone(),
                metrics: metrics.clone(),
                producer,
            }),
        })
    }

    /// Fetches metadata so that the first append does not wait for it; also the readiness check.
    /// Deadline 5 s.
    ///
    /// # Errors
    /// `Refused` if the topic is absent or has another partition count; otherwise retryable.
    pub async fn warm_up(&self) -> Result<(), Error> {
        let inner = Arc::clone(&self.inner);
        tokio::task::spawn_blocking(move || inner.producer.check_topic(WARM_UP))
            .await
            .map_err(|error| Error::Thread(error.to_string()))?
    }

    /// Hands the record over; never waits. The key is the channel's public id and the partition
    /// is [`hubbub_protocol::partition_of`]. Gives `T` back when rejected.
    pub fn append(
        &self,
        channel: ChannelId,
        payload: Vec<u8>,
        tag: T,
    ) -> Result<(), (T, Rejected)> {
        let partition = hubbub_protocol::partition_of(channel, self.inner.config.partitions);
        let producer = &self.inner.producer;
        let sent =
            channel.with_text(|key| producer.send(partition, key, &payload, Tagged::new(tag)));
        sent.map_err(|(tagged, rejected)| {
            self.inner.metrics.append(match rejected {
                Rejected::Full => "full",
                Rejected::Invalid(_) => "invalid",
            });
            (tagged.into_tag(), rejected)
        })
    }

    /// Records that were handed over and have no report yet.
    pub fn outstanding(&self) -> u64 {
        self.inner.producer.outstanding().records()
    }

    /// Waits until everything appended has its report, at most `deadline`. Cancel-safe.
    ///
    /// # Errors
    /// `Timeout` if some records have none yet; they keep their chance.
    pub async fn flush(&self, deadline: Duration) -> Result<(), Error> {
        // librdkafka's own flush would serve reports on the calling thread beside ours, out of
        // order; without lingering there is nothing to push, so waiting is all.
        let outstanding = self.inner.producer.outstanding();
        tokio::time::timeout(deadline, outstanding.wait_until_empty())
            .await
            .map_err(|_| Error::Timeout("flush the producer"))
    }
}
