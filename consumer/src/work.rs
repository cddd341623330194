//! What the task of a partition is, and what the tasks of both topics have in common.
use std::{future::Future, time::Duration};

use hubbub_log::LogRecord;
use rand::RngExt as _;
use tokio::{sync::mpsc, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;

/// Records in one transaction, about: gathering stops here, or at some 5 MiB (the log's vectors have
/// 1 MiB, and a queue of four). What a transaction costs beside its rows is shared by
/// so many: beside the bare COPY, 500 took a fifth more a row (B17).
pub(crate) const BATCH_RECORDS: usize = 2_000;
/// First and longest wait before a batch is tried again whose shard is away.
/// Half a second at most, because a shard that is back should not wait for the next try; the store's
/// pool refuses at once for 100 ms after a failure, so that many partitions cost one attempt.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_millis(500));

/// What becomes of the records of a topic.
pub(crate) trait Work: Send + Sync + 'static {
    /// The task of one partition from one start on. It ends when it is told to, when `records`
    /// ends, or as a zombie; a transaction under way is finished, within the store's deadline.
    fn run(
        &self,
        part: Part,
        records: mpsc::Receiver<Vec<LogRecord>>,
    ) -> impl Future<Output = Ended> + Send + 'static;
}

/// A partition that starts.
pub(crate) struct Part {
    pub(crate) number: i32,
    /// Offset of the first record that will come.
    pub(crate) position: i64,
    /// Stop after the transaction under way.
    pub(crate) stop: CancellationToken,
}

/// Why a partition's task ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// It was told to stop, or its records ended.
    Over,
    /// Somebody else moved the position: start again from it.
    Zombie,
}

/// Takes what is there: never waits for more than the first vector. `None`: no more will come.
pub(crate) async fn gather(records: &mut mpsc::Receiver<Vec<LogRecord>>) -> Option<Vec<LogRecord>> {
    let mut batch = records.recv().await?;
    while batch.len() < BATCH_RECORDS {
        match records.try_recv() {
            Ok(more) => batch.extend(more),
            Err(_) => break,
        }
    }
    Some(batch)
}

/// A shard that does not answer, as one batch sees it. Counted among the waiting partitions until
/// it is back or the task ends.
pub(crate) struct Away {
    metrics: Metrics,
    attempts: u32,
    since: Option<Instant>,
}

impl Away {
    pub(crate) fn new(metrics: &Metrics) -> Self {
        Self {
            metrics: metrics.clone(),
            attempts: 0,
            since: None,
        }
    }

    pub(crate) fn note(&mut self, partition: i32, error: &hubbub_store::Error) {
        if self.since.is_none() {
            self.since = Some(Instant::now());
            self.metrics.waiting.inc();
            tracing::warn!(%error, log.partition = partition, "batch not written: tried again until the shard is back");
        }
    }

    pub(crate) fn back(&mut self, partition: i32) {
        self.attempts = 0;
        if let Some(since) = self.since.take() {
            self.metrics.waiting.dec();
            let away_ms = since.elapsed().as_millis();
            tracing::info!(log.partition = partition, away_ms, "shard is back");
        }
    }

    /// `Err` if the task is told to stop meanwhile: the batch is abandoned, the next owner or
    /// start has it.
    pub(crate) async fn wait(&mut self, stop: &CancellationToken) -> Result<(), Ended> {
        // Waits for the end of the pause, or for the order to stop.
        tokio::select! {
            () = tokio::time::sleep(self.pause()) => Ok(()),
            () = stop.cancelled() => Err(Ended::Over),
        }
    }

    /// Doubles from the first to the longest of [`BACKOFF`], less up to a half by chance.
    fn pause(&mut self) -> Duration {
        let (first, longest) = BACKOFF;
        let pause = first.saturating_mul(1 << self.attempts.min(8)).min(longest);
        self.attempts = self.attempts.saturating_add(1);
        pause.mul_f64(rand::rng().random_range(0.5..=1.0))
    }
}

impl Drop for Away {
    fn drop(&mut self) {
        if self.since.is_some() {
            self.metrics.waiting.dec();
        }
    }
}

#[cfg(test)]
mod tests {
    use hubbub_protocol::Seq;

    use super::*;

    fn records(from: i64, count: i64) -> Vec<LogRecord> {
        let record = |offset: i64| LogRecord {
            seq: Seq(u64::try_from(offset).expect("from 0") + 1),
            next_offset: offset + 1,
            ts_ms: 0,
            key: None,
            payload: None,
        };
        (from..from + count).map(record).collect()
    }

    #[tokio::test]
    async fn what_is_there_is_taken_at_once_up_to_the_bound() {
        let (sender, mut receiver) = mpsc::channel(8);
        sender.try_send(records(0, 1)).expect("room");
        assert_eq!(gather(&mut receiver).await.map(|b| b.len()), Some(1));
        for at in 0..4 {
            sender.try_send(records(1 + at * 900, 900)).expect("room");
        }
        let batch = gather(&mut receiver).await.expect("records");
        assert_eq!(
            batch.len(),
            2_700,
            "the vector that passes the bound is the last"
        );
        assert!(batch.iter().map(|r| r.next_offset).eq(2..2_702));
        assert_eq!(gather(&mut receiver).await.map(|b| b.len()), Some(900));
        drop(sender);
        assert_eq!(gather(&mut receiver).await, None);
    }

    #[test]
    fn pauses_grow_to_their_cap_and_start_anew() {
        let metrics = Metrics::default();
        let mut away = Away::new(&metrics);
        away.note(3, &hubbub_store::Error::NoUser);
        assert_eq!(metrics.waiting.get(), 1);
        let pauses: Vec<Duration> = (0..20).map(|_| away.pause()).collect();
        assert!(pauses[0] <= BACKOFF.0 && pauses[0] >= BACKOFF.0 / 2);
        assert!(pauses.iter().all(|pause| *pause <= BACKOFF.1));
        assert!(pauses[19] >= BACKOFF.1 / 2);
        away.back(3);
        assert_eq!(metrics.waiting.get(), 0);
        assert!(away.pause() <= BACKOFF.0);
        away.note(3, &hubbub_store::Error::NoUser);
        drop(away);
        assert_eq!(metrics.waiting.get(), 0, "a task that ends waits no more");
    }
}
