//! Which partitions this process has, and their tasks.
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use hubbub_log::{ConsumerEvent, ConsumerHandle, LogRecord};
use parking_lot::Mutex;
use tokio::{
    sync::{mpsc, oneshot},
    task::{Id, JoinError, JoinSet},
};
use tokio_util::sync::CancellationToken;

use crate::{
    metrics::Metrics,
    work::{Ended, Part, Work},
};

/// How long the tasks may take to finish their batches in a drain: the store ends every write
/// within its deadline.
pub(crate) const FINISH: Duration = Duration::from_secs(8);

/// What `/debug/state` shows of each partition.
pub(crate) type Shown = Arc<Mutex<BTreeMap<i32, String>>>;

/// The tasks of the partitions of one topic, by partition.
pub(crate) struct Partitions<W> {
    work: W,
    log: ConsumerHandle,
    metrics: Metrics,
    tasks: JoinSet<Ended>,
    running: HashMap<Id, Running>,
    current: HashMap<i32, Id>,
    shown: Shown,
}

struct Running {
    partition: i32,
    stop: CancellationToken,
    /// Dropped with the task: a rebalance waits for it.
    done: Option<oneshot::Sender<()>>,
}

impl<W: Work> Partitions<W> {
    pub(crate) fn new(work: W, log: ConsumerHandle, metrics: Metrics, shown: Shown) -> Self {
        Self {
            work,
            log,
            metrics,
            tasks: JoinSet::new(),
            running: HashMap::new(),
            current: HashMap::new(),
            shown,
        }
    }

    /// Serves events until `stop`, then finishes the batches. `Err` when the events end before,
    /// which they do only when the log's consumer failed.
    pub(crate) async fn run(
        mut self,
        events: &mut mpsc::Receiver<ConsumerEvent>,
        stop: &CancellationToken,
    ) -> Result<(), ()> {
        let ended = loop {
            // Waits for the drain, for the log, or for the end of a task. All are cancel-safe.
            // Biased: nothing new is begun in a drain.
            tokio::select! {
                biased;
                () = stop.cancelled() => break Ok(()),
                event = events.recv() => match event {
                    Some(event) => self.serve(event),
                    None => break Err(()),
                },
                Some(task) = self.tasks.join_next_with_id() => self.task_ended(task),
            }
        };
        self.finish().await;
        ended
    }

    fn serve(&mut self, event: ConsumerEvent) {
        match event {
            ConsumerEvent::Assigned {
                partition,
                next_offset,
                records,
            } => self.start(partition, next_offset, records),
            ConsumerEvent::Revoked { partition, done } => self.revoke(partition, done),
            ConsumerEvent::Refused { partition, error } => {
                self.metrics.refused.inc();
                tracing::error!(log.partition = partition, "partition refused: {error}");
                let mut shown = self.shown.lock();
                shown.insert(partition, format!("refused: {error}"));
            }
        }
    }

    fn start(&mut self, number: i32, position: i64, records: mpsc::Receiver<Vec<LogRecord>>) {
        // A task of an earlier start sees the end of its records; it must not write beside ours,
        // and the compare-and-set would catch it if it did.
        self.stop(number);
        let stop = CancellationToken::new();
        let part = Part {
            number,
            position,
            stop: stop.clone(),
        };
        let id = self.tasks.spawn(self.work.run(part, records)).id();
        let running = Running {
            partition: number,
            stop,
            done: None,
        };
        self.running.insert(id, running);
        self.current.insert(number, id);
        let text = format!("reading from offset {position}");
        self.shown.lock().insert(number, text);
    }

    fn revoke(&mut self, partition: i32, done: oneshot::Sender<()>) {
        self.shown.lock().remove(&partition);
        let id = self.stop(partition);
        // Without a task `done` is dropped here, which says the same.
        if let Some(running) = id.and_then(|id| self.running.get_mut(&id)) {
            running.done = Some(done);
        }
    }

    fn stop(&mut self, partition: i32) -> Option<Id> {
        let id = self.current.remove(&partition)?;
        self.running.get(&id)?.stop.cancel();
        Some(id)
    }

    fn task_ended(&mut self, task: Result<(Id, Ended), JoinError>) {
        let (id, restart) = match task {
            Ok((id, Ended::Over)) => (id, None),
            Ok((id, Ended::Zombie)) => (id, Some("zombie")),
            Err(error) => {
                tracing::error!(%error, "a partition's task failed");
                (error.id(), Some("panic"))
            }
        };
        let Some(running) = self.running.remove(&id) else {
            return;
        };
        if self.current.get(&running.partition) != Some(&id) {
            return;
        }
        self.current.remove(&running.partition);
        if let Some(kind) = restart {
            self.metrics.restart(kind);
            tracing::info!(
                log.partition = running.partition,
                kind,
                "partition starts again from the store's position"
            );
            self.log.restart(running.partition);
        }
    }

    async fn finish(&mut self) {
        for running in self.running.values() {
            running.stop.cancel();
        }
        let all = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(FINISH, all).await.is_err() {
            // Their transactions are rolled back, and the next owner writes the batches.
            tracing::warn!("batches were abandoned: their shard does not answer");
            self.tasks.shutdown().await;
        }
        self.shown.lock().clear();
    }
}
