//! The thread behind a consumer: librdkafka's calls, and which partition is in which stage.
//!
//! Nothing here waits for the store, a broker or a partition's task: starts are asked for on the
//! runtime's blocking threads, a rebalance that waits for tasks is looked at again in each turn,
//! and a full queue pauses its partition.
mod context;
mod rebalances;
mod records;
mod starts;

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use parking_lot::Mutex;
use rdkafka::{
    Offset, TopicPartitionList,
    consumer::{BaseConsumer, CommitMode, Consumer as _},
    error::KafkaResult,
};
use tokio::{
    runtime::Handle,
    sync::{mpsc, oneshot},
    task::JoinSet,
    time::Instant,
};

use self::{
    context::{Context, Rebalance, client},
    rebalances::Revoking,
    starts::Answer,
};
use crate::{
    ConsumerConfig, ConsumerEvent, Error, Metrics, Positions,
    consumer::Orders,
    farewell,
    joining::Joining,
    slot::{Slot, Stage},
};

/// Longest poll: what an order waits at most.
const POLL: Duration = Duration::from_millis(50);
/// Poll while something is under way that no record announces.
const POLL_BUSY: Duration = Duration::from_millis(5);
/// How long a rebalance waits for the tasks of revoked partitions.
const REVOKE: Duration = Duration::from_secs(2);
/// How often positions are committed for lag tools and the lag is computed.
const COMMIT_EVERY: Duration = Duration::from_secs(1);

/// A member on its thread.
pub(crate) struct Member {
    config: ConsumerConfig,
    metrics: Metrics,
    positions: Arc<dyn Positions>,
    orders: Arc<Mutex<Orders>>,
    events: mpsc::Sender<ConsumerEvent>,
    /// Its name in the group.
    name: String,
    consumer: Arc<BaseConsumer<Context>>,
    /// Since when this client is the member's.
    since: Instant,
    /// Until there is an assignment, though it be empty.
    joining: Option<Joining>,
    runtime: Handle,
    questions: JoinSet<Answer>,
    slots: BTreeMap<i32, Slot>,
    revoking: Option<Revoking>,
    generation: u64,
    next_commit: Instant,
    /// The events' receiver is gone or stuck, or the client failed for good.
    over: bool,
}

impl Member {
    pub(crate) fn join(
        config: ConsumerConfig,
        metrics: Metrics,
        positions: Arc<dyn Positions>,
        orders: Arc<Mutex<Orders>>,
        events: mpsc::Sender<ConsumerEvent>,
    ) -> Result<Self, Error> {
        let runtime = Handle::try_current().map_err(|error| Error::Thread(error.to_string()))?;
        let name = format!("{}.{:016x}", config.log.client_id, rand::random::<u64>());
        let consumer = client(&config, &metrics, &name)?;
        Ok(Self {
            consumer,
            since: Instant::now(),
            joining: Some(Joining::begin()),
            name,
            config,
            metrics,
            positions,
            orders,
            events,
            runtime,
            questions: JoinSet::new(),
            slots: BTreeMap::new(),
            revoking: None,
            generation: 0,
            next_commit: Instant::now() + COMMIT_EVERY,
            over: false,
        })
    }

    pub(crate) fn run(mut self) {
        while !self.over && !self.orders.lock().stop {
            self.serve_rebalances();
            self.serve_joining();
            self.restart_ordered();
            self.take_answers();
            self.ask_for_starts();
            self.take_records();
            self.hand_over();
            self.commit();
        }
        self.leave();
    }

    fn emit(&mut self, event: ConsumerEvent) {
        match self.events.try_send(event) {
            Ok(()) => {}
            Err(mpsc::error::TrySendError::Closed(_)) => self.over = true,
            Err(mpsc::error::TrySendError::Full(_)) => {
                tracing::error!("nobody takes the consumer's events: leaving the group");
                self.over = true;
            }
        }
    }

    fn commit(&mut self) {
        let now = Instant::now();
        if now < self.next_commit {
            return;
        }
        self.next_commit = now + COMMIT_EVERY;
        let commits = std::mem::take(&mut self.orders.lock().commits);
        let mut list = TopicPartitionList::new();
        for (partition, next_offset) in commits {
            let Some(slot) = self.slots.get_mut(&partition) else {
                continue;
            };
            let Stage::Reading(reading) = &mut slot.stage else {
                continue;
            };
            let progress = next_offset > reading.stored;
            reading.stored = reading.stored.max(next_offset);
            let offset = Offset::Offset(next_offset);
            let added = list.add_partition_offset(&self.config.log.topic, partition, offset);
            log_failure("note an offset", added);
            if progress {
                slot.restarts = 0;
            }
        }
        if list.count() > 0 {
            let sent = self.consumer.commit(&list, CommitMode::Async);
            log_failure("commit for lag tools", sent);
        }
        self.show();
    }

    fn show(&self) {
        let ends = self.consumer.context().ends.lock();
        let (mut lag, mut reading, mut refused) = (0, 0, 0);
        for (partition, slot) in &self.slots {
            match &slot.stage {
                Stage::Reading(read) => {
                    reading += 1;
                    let end = ends.get(partition).copied().unwrap_or(0);
                    lag += (end - read.stored).max(0);
                }
                Stage::Refused => refused += 1,
                Stage::Waiting(_) | Stage::Asking => {}
            }
        }
        self.metrics.lag.set(lag);
        self.metrics.partitions.set(reading);
        self.metrics.refused.set(refused);
    }

    /// Ends the tasks, leaves the group, and with it the thread. rdkafka closes the consumer again
    /// when it is dropped, without a deadline if ours were not first: see [`crate::CLOSED_TWICE`].
    fn leave(mut self) {
        let all: Vec<i32> = self.slots.keys().copied().collect();
        let (assigned, tasks) = self.end_tasks(&all);
        let mut revoking = Revoking {
            assigned,
            tasks,
            until: Instant::now() + REVOKE,
        };
        self.consumer
            .context()
            .closing
            .store(true, Ordering::Release);
        while !revoking.is_over() {
            // What still comes was not asked for: it is the next owner's.
            drop(self.consumer.poll(POLL_BUSY));
        }
        self.give_up(revoking.assigned);
        farewell::leave(&self.consumer, &self.config.group, &self.name);
        self.slots.clear();
        self.show();
        tracing::info!("left the group");
    }

    /// Gives up what is assigned and answers the rebalances that wait: librdkafka leaves after the
    /// answer only.
    fn give_up(&mut self, mut assigned: Vec<i32>) {
        let waiting = std::mem::take(&mut *self.consumer.context().rebalances.lock());
        for rebalance in waiting {
            if let Rebalance::Assign(_) = rebalance {
                let accepted = self.consumer.incremental_assign(&TopicPartitionList::new());
                log_failure("accept an assignment", accepted);
            }
        }
        if let Some(revoking) = self.revoking.take() {
            assigned.extend(revoking.assigned);
        }
        self.unassign(&assigned);
    }
}

fn log_failure(what: &str, result: KafkaResult<()>) {
    if let Err(error) = result {
        tracing::warn!(%error, "{what}");
    }
}
