//! The task of one partition: gathers a batch, writes it, announces it.
use std::{sync::Arc, time::Duration};

use hubbub_bus::Publisher;
use hubbub_log::{ConsumerHandle, LogRecord};
use hubbub_store::{Incoming, Store, Touched, WriteError, Written};
use rand::RngExt as _;
use tokio::{sync::mpsc, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{
    announce::announcement,
    batch::{Piece, Pieces},
    metrics::{InFlight, Metrics},
};

/// Records in one transaction, about: gathering stops here. More brings nothing (measured).
pub(crate) const BATCH_RECORDS: usize = 500;
/// First and longest wait before a batch is tried again whose shard is away.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

/// What all partitions' tasks share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) store: Store,
    pub(crate) publisher: Publisher,
    pub(crate) log: ConsumerHandle,
    pub(crate) metrics: Metrics,
}

/// Why a partition's task ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// It was told to stop, or its records ended.
    Over,
    /// Somebody else moved the position: start again from it.
    Zombie,
}

/// One partition from one start on. Everything that it knows is forgotten with it.
pub(crate) struct Partition {
    pub(crate) shared: Arc<Shared>,
    pub(crate) number: i32,
    /// The position in the store, as far as this task knows.
    pub(crate) position: i64,
    /// Stop after the transaction under way.
    pub(crate) stop: CancellationToken,
    /// Planted mistake: announcements that go out late.
    #[cfg(feature = "mutants")]
    pub(crate) held_back: Vec<Touched>,
}

impl Partition {
    /// Ends when it is told to, when `records` ends, or as a zombie. A transaction under way is
    /// finished, within the store's deadline for it.
    pub(crate) async fn run(mut self, mut records: mpsc::Receiver<Vec<LogRecord>>) -> Ended {
        loop {
            // Waits for records, or for the order to stop. Biased: who was told to stop takes no
            // more. Dropping `gather` loses nothing: its only await is its first step.
            let batch = tokio::select! {
                biased;
                () = self.stop.cancelled() => return Ended::Over,
                batch = gather(&mut records) => batch,
            };
            let Some(batch) = batch else {
                return Ended::Over;
            };
            if let Err(ended) = self.store(batch).await {
                return ended;
            }
        }
    }

    async fn store(&mut self, batch: Vec<LogRecord>) -> Result<(), Ended> {
        let _in_flight = InFlight::new(&self.shared.metrics);
        let partitions = self.shared.store.log_identity().partitions;
        let mut pieces = Pieces::new(Piece::read(self.number, partitions, batch));
        let mut away = Away::new(&self.shared.metrics);
        while let Some(piece) = pieces.next() {
            let Some(next_offset) = piece.next_offset() else {
                continue;
            };
            #[cfg(feature = "mutants")]
            for touched in crate::planted::early(&piece.records) {
                self.announce_one(touched);
            }
            match self.write(&piece, next_offset).await {
                Ok(written) => {
                    away.back(self.number);
                    self.position = next_offset;
                    self.note_dead(&piece);
                    self.announce(written);
                    self.shared
                        .log
                        .commit_for_lag_tools(self.number, next_offset);
                }
                Err(WriteError::Zombie) => return Err(Ended::Zombie),
                Err(error @ WriteError::Contradiction(_)) => {
                    let (number, position) = (self.number, self.position);
                    // Before the records' receiver is dropped, which would start it again. The
                    // refusal comes back as an event, which is logged and counted.
                    self.shared.log.refuse(
                        number,
                        format!(
                            "partition {number} at offset {position}: {error}; if the topic was \
                             recreated, `hubbub admin new-log` starts a new log above every stored seq"
                        ),
                    );
                    return Err(Ended::Over);
                }
                Err(WriteError::Data(reason)) => {
                    let single = piece.records.len() == 1;
                    let buried = pieces.refused(piece, &reason);
                    if single && !buried {
                        // A dead letter that is refused: nothing is left to try but patience.
                        tracing::error!(
                            log.partition = self.number,
                            "dead letter refused: {reason}"
                        );
                        self.wait(&mut away).await?;
                    }
                }
                Err(WriteError::Store(error)) => {
                    away.note(self.number, &error);
                    pieces.again(piece);
                    self.wait(&mut away).await?;
                }
            }
        }
        Ok(())
    }

    async fn write(&self, piece: &Piece, next_offset: i64) -> Result<Written, WriteError> {
        let began = Instant::now();
        let before_commit = || {
            fail::fail_point!("consumer::after_insert_before_commit", |_| {
                std::process::abort()
            });
        };
        let result = self
            .shared
            .store
            .write_batch(
                self.number,
                self.position,
                next_offset,
                &piece.records,
                before_commit,
            )
            .await;
        let metrics = &self.shared.metrics;
        metrics.batch_seconds.observe(began.elapsed().as_secs_f64());
        match &result {
            Ok(written) => {
                metrics.batch("ok");
                metrics.records("row", written.rows);
                metrics.records("duplicate", written.duplicates);
                metrics.records("dead", written.dead);
                #[expect(clippy::cast_precision_loss, reason = "a batch is small")]
                metrics.batch_records.observe(piece.records.len() as f64);
            }
            Err(error) => metrics.batch(error.metric_label()),
        }
        result
    }

    /// A dead letter is never the work of an edge: somebody must look.
    fn note_dead(&self, piece: &Piece) {
        for record in &piece.records {
            if let Incoming::Dead {
                seq,
                channel,
                error,
                ..
            } = record
            {
                let channel = channel.map(|channel| channel.to_string());
                tracing::warn!(
                    log.partition = self.number,
                    log.seq = seq.0,
                    channel.id = channel,
                    "dead letter: {error}"
                );
            }
        }
    }

    /// Once, never waiting; what is lost the edges' sweep replaces.
    fn announce(&mut self, written: Written) {
        fail::fail_point!("consumer::after_commit_before_announce", |_| {
            std::process::abort()
        });
        let touched = written.touched;
        #[cfg(feature = "mutants")]
        let touched = crate::planted::now(&mut self.held_back, touched);
        for touched in touched {
            self.announce_one(touched);
        }
    }

    fn announce_one(&self, touched: Touched) {
        fail::fail_point!("consumer::before_announce", |_| {
            self.shared.metrics.announcement("lost");
        });
        let (to, payload) = announcement(touched);
        let outcome = match self.shared.publisher.offer(&to, payload) {
            Ok(()) => "offered",
            Err(error) => {
                tracing::debug!(%error, bus.channel = %to, "announcement dropped");
                "refused"
            }
        };
        self.shared.metrics.announcement(outcome);
    }

    /// `Err` if the task is told to stop meanwhile: the batch is abandoned, the next owner or
    /// start has it.
    async fn wait(&self, away: &mut Away) -> Result<(), Ended> {
        // Waits for the end of the pause, or for the order to stop.
        tokio::select! {
            () = tokio::time::sleep(away.pause()) => Ok(()),
            () = self.stop.cancelled() => Err(Ended::Over),
        }
    }
}

/// Takes what is there: never waits for more than the first vector. `None`: no more will come.
async fn gather(records: &mut mpsc::Receiver<Vec<LogRecord>>) -> Option<Vec<LogRecord>> {
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
struct Away {
    metrics: Metrics,
    attempts: u32,
    since: Option<Instant>,
}

impl Away {
    fn new(metrics: &Metrics) -> Self {
        Self {
            metrics: metrics.clone(),
            attempts: 0,
            since: None,
        }
    }

    fn note(&mut self, partition: i32, error: &hubbub_store::Error) {
        if self.since.is_none() {
            self.since = Some(Instant::now());
            self.metrics.waiting.inc();
            tracing::warn!(%error, log.partition = partition, "batch not written: tried again until the shard is back");
        }
    }

    fn back(&mut self, partition: i32) {
        self.attempts = 0;
        if let Some(since) = self.since.take() {
            self.metrics.waiting.dec();
            let away_ms = since.elapsed().as_millis();
            tracing::info!(log.partition = partition, away_ms, "shard is back");
        }
    }

    /// Doubles from 0.1 to 2 s, less up to a half by chance.
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
            sender.try_send(records(1 + at * 200, 200)).expect("room");
        }
        let batch = gather(&mut receiver).await.expect("records");
        assert_eq!(
            batch.len(),
            600,
            "the vector that passes the bound is the last"
        );
        assert!(batch.iter().map(|r| r.next_offset).eq(2..602));
        assert_eq!(gather(&mut receiver).await.map(|b| b.len()), Some(200));
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
