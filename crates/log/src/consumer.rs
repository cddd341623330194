use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt,
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};

use crate::{ConsumerConfig, Error, LogRecord, Metrics, member::Member};

/// How long [`Consumer::stop`] waits for the thread: 2 s for the partitions' tasks, 6 s for a
/// broker that does not answer the farewell, and a reserve.
pub const CONSUMER_STOP: Duration = Duration::from_secs(12);

/// Target of the lines in which rdkafka says, as an error, that a consumer which it drops is closed
/// already. It has to be: rdkafka's own closing has no deadline. Leave these lines out.
pub const CLOSED_TWICE: &str = "rdkafka::consumer::base_consumer";

/// Where each partition goes on.
pub trait Positions: Send + Sync + 'static {
    /// `next_offset` per partition; a partition without an entry has none yet (it starts at 0,
    /// and only where the low watermark is 0). Blocks; called on a thread where that is allowed,
    /// for one partition at a time, so that a shard that is away delays its own partitions only.
    /// It should give up within a few seconds.
    ///
    /// # Errors
    /// The position cannot be read now: the partition stays this member's, and the question is
    /// asked again after 0.1 to 2 s.
    fn positions(&self, partitions: &[i32]) -> Result<HashMap<i32, i64>, String>;
}

/// What happens to the partitions of this member.
#[derive(Debug)]
pub enum ConsumerEvent {
    /// The partition is read from `next_offset` on. Comes again after a restart.
    Assigned {
        /// Which one.
        partition: i32,
        /// Offset of the first record that will come.
        next_offset: i64,
        /// Its records in order, in vectors of at most `batch_records` and about 1 MiB. It is
        /// bounded; full, it pauses this partition alone. It ends when the partition is revoked,
        /// restarted, or the consumer stops; dropped, the partition is started again.
        records: mpsc::Receiver<Vec<LogRecord>>,
    },
    /// Finish or abandon the batch. The rebalance waits at most 2 s for that.
    Revoked {
        /// Which one.
        partition: i32,
        /// To be dropped when the partition's task is over.
        done: oneshot::Sender<()>,
    },
    /// The log does not fit the store. The partition stays stopped until it is revoked or
    /// restarted.
    Refused {
        /// Which one.
        partition: i32,
        /// What does not fit, with the remedy.
        error: String,
    },
}

/// What the thread is to do.
#[derive(Debug, Default)]
pub(crate) struct Orders {
    pub(crate) stop: bool,
    pub(crate) restarts: BTreeSet<i32>,
    pub(crate) refusals: BTreeMap<i32, String>,
    /// The newest position of each partition that was not committed yet.
    pub(crate) commits: BTreeMap<i32, i64>,
}

/// Gives orders to a running consumer; never waits. Cheap handle.
#[derive(Debug, Clone)]
pub struct ConsumerHandle {
    orders: Arc<Mutex<Orders>>,
}

impl ConsumerHandle {
    /// Starts a partition again whose task failed: from the position in the store. The queue of
    /// the old start ends, and another [`ConsumerEvent::Assigned`] comes, after 0.1 to 2 s: the
    /// longer, the more starts there were since the last position was noted.
    pub fn restart(&self, partition: i32) {
        self.orders.lock().restarts.insert(partition);
    }

    /// Stops a partition whose records the store contradicts; call it before its receiver is
    /// dropped. [`ConsumerEvent::Refused`] comes with `error`, once for each assignment.
    pub fn refuse(&self, partition: i32, error: String) {
        self.orders.lock().refusals.insert(partition, error);
    }

    /// Notes the position of a partition, to be committed in Kafka within a second or two, for
    /// lag tools only: nothing reads it.
    pub fn commit_for_lag_tools(&self, partition: i32, next_offset: i64) {
        self.orders.lock().commits.insert(partition, next_offset);
    }
}

/// A member of a consumer group, with a thread of its own.
///
/// Partitions are shared by the classic protocol, cooperative-sticky. A member has a name of its own
/// (KIP-345), under which it has its partitions again at once when Kafka was away. A client of
/// librdkafka that fails for good is replaced by another, unless it was younger than a session. An
/// assigned partition is read only when its position is known; until then it stays this member's
/// and costs its neighbours nothing. Dropped, it leaves the group in its own time; see [`Consumer::stop`].
pub struct Consumer {
    handle: ConsumerHandle,
    thread: Option<JoinHandle<()>>,
}

impl fmt::Debug for Consumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consumer")
            .field("orders", &self.handle.orders)
            .finish_non_exhaustive()
    }
}

impl Consumer {
    /// Joins the group on a thread of its own; no broker needs to be there yet. Events come in
    /// order; their channel holds some for every partition, and a receiver that lets it fill up,
    /// or is dropped, makes the member leave. The channel ends when the thread does. Must be
    /// called within a tokio runtime, whose blocking threads ask for positions.
    ///
    /// # Errors
    /// A setting that librdkafka refuses, or no thread to be had.
    pub fn start(
        config: ConsumerConfig,
        metrics: &Metrics,
        positions: Arc<dyn Positions>,
    ) -> Result<(Self, mpsc::Receiver<ConsumerEvent>), Error> {
        let handle = ConsumerHandle {
            orders: Arc::default(),
        };
        let room = usize::try_from(config.log.partitions).unwrap_or(usize::MAX / 8) * 4 + 16;
        let (events, receiver) = mpsc::channel(room);
        let orders = Arc::clone(&handle.orders);
        let member = Member::join(config, metrics.clone(), positions, orders, events)?;
        let thread = thread::Builder::new()
            .name("log-consumer".to_owned())
            .spawn(move || member.run())
            .map_err(|error| Error::Thread(error.to_string()))?;
        let thread = Some(thread);
        Ok((Self { handle, thread }, receiver))
    }

    /// A handle to give orders with.
    pub fn handle(&self) -> ConsumerHandle {
        self.handle.clone()
    }

    /// See [`ConsumerHandle::restart`].
    pub fn restart(&self, partition: i32) {
        self.handle.restart(partition);
    }

    /// See [`ConsumerHandle::commit_for_lag_tools`].
    pub fn commit_for_lag_tools(&self, partition: i32, next_offset: i64) {
        self.handle.commit_for_lag_tools(partition, next_offset);
    }

    /// Revokes every partition, leaves the group and joins the thread, within 12 s. Go on
    /// receiving events meanwhile, or drop their receiver before.
    pub async fn stop(mut self) {
        self.handle.orders.lock().stop = true;
        let Some(thread) = self.thread.take() else {
            return;
        };
        let joined = tokio::task::spawn_blocking(move || thread.join());
        match tokio::time::timeout(CONSUMER_STOP, joined).await {
            Ok(Ok(Ok(()))) => {}
            Ok(_) => tracing::error!("the log's consumer thread panicked"),
            Err(_) => tracing::warn!("the log's consumer did not leave its group in time"),
        }
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.handle.orders.lock().stop = true;
    }
}
