//! The task of one partition of the records: gathers a batch, writes it, announces it.
use std::{future::Future, sync::Arc};

use hubbub_bus::Publisher;
use hubbub_log::{ConsumerHandle, LogRecord};
use hubbub_store::{Incoming, Store, Touched, WriteError, Written};
use tokio::{sync::mpsc, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{
    announce::announcement,
    batch::{Piece, Pieces},
    metrics::{InFlight, Metrics},
    work::{Away, Ended, Part, Work, gather},
};

/// What the tasks of all partitions share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) store: Store,
    pub(crate) publisher: Publisher,
    pub(crate) log: ConsumerHandle,
    pub(crate) metrics: Metrics,
}

impl Work for Arc<Shared> {
    fn run(
        &self,
        part: Part,
        records: mpsc::Receiver<Vec<LogRecord>>,
    ) -> impl Future<Output = Ended> + Send + 'static {
        let partition = Partition {
            shared: Arc::clone(self),
            number: part.number,
            position: part.position,
            stop: part.stop,
            #[cfg(feature = "mutants")]
            held_back: Vec::new(),
        };
        partition.run(records)
    }
}

/// One partition from one start on. Everything that it knows is forgotten with it.
struct Partition {
    shared: Arc<Shared>,
    number: i32,
    /// The position in the store, as far as this task knows.
    position: i64,
    /// Stop after the transaction under way.
    stop: CancellationToken,
    /// Planted mistake: announcements that go out late.
    #[cfg(feature = "mutants")]
    held_back: Vec<Touched>,
}

impl Partition {
    /// Ends when it is told to, when `records` ends, or as a zombie. A transaction under way is
    /// finished, within the store's deadline for it.
    async fn run(mut self, mut records: mpsc::Receiver<Vec<LogRecord>>) -> Ended {
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
                        away.wait(&self.stop).await?;
                    }
                }
                Err(WriteError::Store(error)) => {
                    away.note(self.number, &error);
                    // If it was committed unseen, the next try meets a position that has moved.
                    if error.is_too_slow() {
                        pieces.too_slow(piece);
                    } else {
                        pieces.again(piece);
                    }
                    away.wait(&self.stop).await?;
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
                metrics.without_effect.inc_by(written.without_effect);
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
}
