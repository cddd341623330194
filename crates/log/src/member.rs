//! The thread behind a consumer: librdkafka's calls, and which partition is in which stage.
//!
//! Nothing here waits for the store, a broker or a partition's task: starts are asked for on the
//! runtime's blocking threads, a rebalance that waits for tasks is looked at again in each turn,
//! and a full queue pauses its partition.
use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use rand::RngExt as _;
use rdkafka::{
    ClientContext, Message as _, Offset, Statistics, TopicPartitionList,
    config::{FromClientConfigAndContext as _, RDKafkaLogLevel},
    consumer::{BaseConsumer, CommitMode, Consumer as _, ConsumerContext},
    error::{KafkaError, KafkaResult, RDKafkaErrorCode},
    types::RDKafkaRespErr,
};
use tokio::{
    runtime::Handle,
    sync::{mpsc, oneshot},
    task::JoinSet,
    time::Instant,
};

use crate::{
    ConsumerConfig, ConsumerEvent, Error, LogRecord, Metrics, Misfit, Positions,
    client::{log_error, log_line},
    consumer::Orders,
    farewell,
    joining::Joining,
    metrics::Outcome,
    resolve::{Start, resolve},
    slot::{Next, Slot, Stage, Taken},
};

/// Longest poll: what an order waits at most.
const POLL: Duration = Duration::from_millis(50);
/// Poll while something is under way that no record announces.
const POLL_BUSY: Duration = Duration::from_millis(5);
/// Records taken in one turn before orders and rebalances have theirs.
const TURN_RECORDS: usize = 2_000;
/// How long a rebalance waits for the tasks of revoked partitions.
const REVOKE: Duration = Duration::from_secs(2);
/// How often positions are committed for lag tools and the lag is computed.
const COMMIT_EVERY: Duration = Duration::from_secs(1);

/// A change of the assignment as librdkafka announced it.
#[derive(Debug)]
enum Rebalance {
    Assign(Vec<i32>),
    Revoke { partitions: Vec<i32>, lost: bool },
}

/// Notes what librdkafka calls back with, all on the member's thread; the member acts on it when
/// the poll has returned. (librdkafka goes on with a rebalance when the assignment is changed, in
/// or after the callback.)
struct Context {
    metrics: Metrics,
    rebalances: Mutex<VecDeque<Rebalance>>,
    /// The high watermarks that the fetches have seen.
    ends: Mutex<HashMap<i32, i64>>,
    topic: String,
    /// The member is over: nobody will act on what is noted.
    closing: AtomicBool,
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        log_line(level, facility, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        log_error(&error, reason);
    }

    fn stats(&self, statistics: Statistics) {
        let Some(topic) = statistics.topics.get(&self.topic) else {
            return;
        };
        let ends = topic.partitions.values();
        *self.ends.lock() = ends.map(|p| (p.partition, p.hi_offset)).collect();
    }
}

impl ConsumerContext for Context {
    fn rebalance(
        &self,
        consumer: &BaseConsumer<Self>,
        what: RDKafkaRespErr,
        list: &mut TopicPartitionList,
    ) {
        let partitions = list.elements().iter().map(|p| p.partition()).collect();
        let assigned = what == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS;
        if self.closing.load(Ordering::Acquire) {
            let none = TopicPartitionList::new();
            let answered = if assigned {
                consumer.incremental_assign(&none)
            } else {
                consumer.incremental_unassign(&none)
            };
            if let Err(error) = answered {
                tracing::debug!(%error, "rebalance while closing");
            }
            return;
        }
        let rebalance = if assigned {
            Rebalance::Assign(partitions)
        } else {
            let lost = consumer.assignment_lost();
            Rebalance::Revoke { partitions, lost }
        };
        self.rebalances.lock().push_back(rebalance);
    }

    fn commit_callback(&self, result: KafkaResult<()>, _offsets: &TopicPartitionList) {
        let outcome = if result.is_ok() { "ok" } else { "failed" };
        let commits = &self.metrics.commits;
        commits.get_or_create(&Outcome { outcome }).inc();
        if let Err(error) = result {
            tracing::debug!(%error, "commit for lag tools");
        }
    }
}

/// A revocation that waits for tasks. The partitions are still assigned in librdkafka.
struct Revoking {
    assigned: Vec<i32>,
    tasks: Vec<oneshot::Receiver<()>>,
    until: Instant,
}

impl Revoking {
    fn is_over(&mut self) -> bool {
        // A sender that was dropped or used is a task that is over.
        self.tasks
            .retain_mut(|task| task.try_recv() == Err(oneshot::error::TryRecvError::Empty));
        self.tasks.is_empty() || Instant::now() >= self.until
    }
}

/// The answer to the question where a partition starts.
struct Answer {
    partition: i32,
    generation: u64,
    start: Start,
}

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

    // === rebalances ===

    fn serve_rebalances(&mut self) {
        loop {
            if let Some(revoking) = &mut self.revoking {
                if !revoking.is_over() {
                    return;
                }
                let assigned = std::mem::take(&mut revoking.assigned);
                self.revoking = None;
                self.unassign(&assigned);
            }
            let next = self.consumer.context().rebalances.lock().pop_front();
            match next {
                None => return,
                Some(Rebalance::Assign(partitions)) => self.assigned(&partitions),
                Some(Rebalance::Revoke { partitions, lost }) => self.revoked(&partitions, lost),
            }
        }
    }

    fn serve_joining(&mut self) {
        // What is revoked is given up before: the rebalance is under way as long.
        if let (Some(joining), None) = (&mut self.joining, &self.revoking) {
            let place = (&*self.config.group, &*self.config.log.topic);
            let joined = joining.serve(&self.consumer, place, &self.runtime);
            log_failure("join the group anew", joined);
        }
    }

    fn assigned(&mut self, partitions: &[i32]) {
        self.joining = None;
        self.metrics.rebalance("assigned");
        tracing::info!(log.partitions = ?partitions, "partitions assigned");
        for partition in partitions {
            self.generation += 1;
            self.slots.insert(*partition, Slot::new(self.generation));
        }
        // Lets the group go on; each partition follows when its start is known.
        if let Err(error) = self.consumer.incremental_assign(&TopicPartitionList::new()) {
            tracing::warn!(%error, "accept an assignment");
        }
    }

    fn revoked(&mut self, partitions: &[i32], lost: bool) {
        self.metrics
            .rebalance(if lost { "lost" } else { "revoked" });
        tracing::info!(log.partitions = ?partitions, lost, "partitions revoked");
        if lost {
            self.joining = Some(Joining::begin());
        }
        let (assigned, tasks) = self.end_tasks(partitions);
        // Of what was lost others may have taken possession: do not hold the group up.
        let wait = if lost { Duration::ZERO } else { REVOKE };
        let until = Instant::now() + wait;
        self.revoking = Some(Revoking {
            assigned,
            tasks,
            until,
        });
    }

    /// Forgets partitions. Gives those that are assigned in librdkafka, and the ends of their
    /// tasks.
    fn end_tasks(&mut self, partitions: &[i32]) -> (Vec<i32>, Vec<oneshot::Receiver<()>>) {
        let mut assigned = Vec::new();
        let mut tasks = Vec::new();
        for partition in partitions {
            let slot = self.slots.remove(partition);
            // Dropping the slot ends the queue of its records.
            if slot.is_some_and(|slot| matches!(slot.stage, Stage::Reading(_))) {
                let (done, task) = oneshot::channel();
                assigned.push(*partition);
                tasks.push(task);
                self.emit(ConsumerEvent::Revoked {
                    partition: *partition,
                    done,
                });
            }
        }
        (assigned, tasks)
    }

    fn list(&self, partitions: &[i32]) -> TopicPartitionList {
        let mut list = TopicPartitionList::with_capacity(partitions.len());
        for partition in partitions {
            list.add_partition(&self.config.log.topic, *partition);
        }
        list
    }

    fn unassign(&self, partitions: &[i32]) {
        let list = self.list(partitions);
        // librdkafka keeps a pause over an unassignment: the partition's next start would be deaf.
        log_failure("resume what is given up", self.consumer.resume(&list));
        if let Err(error) = self.consumer.incremental_unassign(&list) {
            tracing::warn!(%error, log.partitions = ?partitions, "give partitions up");
        }
    }

    // === starts ===

    fn restart_ordered(&mut self) {
        // In a rebalance the call that ends it must come from the rebalance alone.
        if self.revoking.is_some() {
            return;
        }
        let (restarts, refusals) = {
            let mut orders = self.orders.lock();
            (
                std::mem::take(&mut orders.restarts),
                std::mem::take(&mut orders.refusals),
            )
        };
        for partition in restarts {
            self.metrics.restarts.inc();
            self.restart(partition);
            if let Some(slot) = self.slots.get_mut(&partition) {
                slot.restarted(rand::rng().random_range(0.5..=1.0));
            }
        }
        for (partition, error) in refusals {
            if self.slots.contains_key(&partition) {
                // Whatever stage it is in: nothing is read or asked for any more.
                self.restart(partition);
                self.refuse(partition, error);
            }
        }
    }

    fn restart(&mut self, partition: i32) {
        let Some(slot) = self.slots.get_mut(&partition) else {
            return;
        };
        self.generation += 1;
        slot.generation = self.generation;
        let before = std::mem::replace(&mut slot.stage, Stage::Waiting(Instant::now()));
        if matches!(before, Stage::Reading(_)) {
            self.unassign(&[partition]);
        }
    }

    fn ask_for_starts(&mut self) {
        let now = Instant::now();
        for (partition, slot) in &mut self.slots {
            if !slot.is_due(now) {
                continue;
            }
            slot.stage = Stage::Asking;
            let (partition, generation) = (*partition, slot.generation);
            let config = self.config.log.clone();
            let consumer = Arc::clone(&self.consumer);
            let positions = Arc::clone(&self.positions);
            let misfit = self.config.misfit;
            let question = move || Answer {
                partition,
                generation,
                start: resolve(&config, &consumer, &*positions, partition, misfit),
            };
            self.questions.spawn_blocking_on(question, &self.runtime);
        }
    }

    fn take_answers(&mut self) {
        while let Some(answer) = self.questions.try_join_next() {
            match answer {
                Ok(answer) => self.answered(answer),
                Err(error) => {
                    // Only a panic in `Positions` or a runtime that ends: no partition is named,
                    // so nothing can be retried.
                    tracing::error!(%error, "the question for a partition's start failed");
                    self.over = true;
                }
            }
        }
    }

    fn answered(&mut self, answer: Answer) {
        let partition = answer.partition;
        let Some(slot) = self.slots.get_mut(&partition) else {
            return;
        };
        if slot.generation != answer.generation {
            return;
        }
        match answer.start {
            Start::At(offset) => self.read_from(partition, offset),
            Start::Short { error, low } => match (slot.is_short(), self.config.misfit) {
                (false, _) => {}
                (true, Misfit::Refuse) => self.refuse(partition, error),
                (true, Misfit::Begin) => {
                    let topic = &self.config.log.topic;
                    tracing::warn!(
                        log.partition = partition,
                        low,
                        "topic {topic} ends below the position: it is read from its beginning"
                    );
                    self.read_from(partition, low);
                }
            },
            Start::Refused(error) => self.refuse(partition, error),
            Start::Unknown(error) => {
                self.metrics.unresolved.inc();
                if slot.failed(rand::rng().random_range(0.5..=1.0)) {
                    tracing::warn!(log.partition = partition, "start not known yet: {error}");
                }
            }
        }
    }

    fn read_from(&mut self, partition: i32, next_offset: i64) {
        let mut list = TopicPartitionList::with_capacity(1);
        let start = Offset::Offset(next_offset);
        let assigned = list
            .add_partition_offset(&self.config.log.topic, partition, start)
            .and_then(|()| self.consumer.incremental_assign(&list));
        let Some(slot) = self.slots.get_mut(&partition) else {
            return;
        };
        if let Err(error) = assigned {
            tracing::warn!(%error, log.partition = partition, "assign a partition");
            slot.failed(1.0);
            return;
        }
        let records = slot.read_from(next_offset, self.config.batch_records);
        tracing::debug!(log.partition = partition, next_offset, "partition starts");
        self.emit(ConsumerEvent::Assigned {
            partition,
            next_offset,
            records,
        });
    }

    fn refuse(&mut self, partition: i32, error: String) {
        if let Some(slot) = self.slots.get_mut(&partition) {
            slot.stage = Stage::Refused;
        }
        self.emit(ConsumerEvent::Refused { partition, error });
    }

    // === records ===

    fn take_records(&mut self) {
        let consumer = Arc::clone(&self.consumer);
        let mut patience = self.patience();
        for _ in 0..TURN_RECORDS {
            match consumer.poll(patience) {
                None => return,
                Some(Ok(message)) => {
                    let record = LogRecord::read(&self.config.log, &message);
                    self.take(message.partition(), record);
                }
                Some(Err(error)) => return self.failed(&error),
            }
            patience = Duration::ZERO;
        }
    }

    fn patience(&self) -> Duration {
        let busy = self.revoking.is_some()
            || !self.questions.is_empty()
            || self.slots.values().any(|slot| match &slot.stage {
                Stage::Reading(reading) => reading.is_waiting() || reading.paused,
                _ => false,
            });
        if busy { POLL_BUSY } else { POLL }
    }

    fn take(&mut self, partition: i32, record: LogRecord) {
        let Some(slot) = self.slots.get_mut(&partition) else {
            return;
        };
        match slot.take(record) {
            Taken::Old => {}
            Taken::Kept => {
                let full = matches!(&slot.stage, Stage::Reading(reading) if reading.is_full());
                if full {
                    self.hand_over_one(partition);
                }
            }
            Taken::Hole => {
                self.metrics.refetches.inc();
                tracing::warn!(
                    log.partition = partition,
                    "records are missing: fetched again"
                );
                self.restart(partition);
            }
        }
    }

    fn failed(&mut self, error: &KafkaError) {
        self.metrics.consume_errors.inc();
        match error {
            KafkaError::MessageConsumptionFatal(_) => self.begin_anew(error),
            // A position that is not in the log. The error does not say whose: ask for every
            // start again, and the partition at fault will be refused.
            KafkaError::MessageConsumption(
                RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange,
            ) => {
                tracing::warn!(%error, "a position is not in the log: all are looked up again");
                let all: Vec<i32> = self.slots.keys().copied().collect();
                self.orders.lock().restarts.extend(all);
            }
            _ => tracing::warn!(%error, "consume"),
        }
    }

    /// Replaces a client that failed for good. When Kafka had been away, librdkafka tries a commit
    /// again under the member id of before; the broker says that somebody else has its name
    /// (`FENCED_INSTANCE_ID`), which was itself, and librdkafka takes that for a fatal error.
    fn begin_anew(&mut self, error: &KafkaError) {
        // Within a session, what befell it would befall the next one, too.
        if self.since.elapsed() < self.config.session_timeout {
            tracing::error!(%error, "the consumer's client failed for good as soon as it was there");
            self.over = true;
            return;
        }
        let next = match client(&self.config, &self.metrics, &self.name) {
            Ok(next) => next,
            Err(refused) => {
                tracing::error!(%error, %refused, "the consumer's client failed for good");
                self.over = true;
                return;
            }
        };
        tracing::warn!(%error, "the consumer's client failed for good: the next one joins the group");
        self.metrics.rebalance("lost");
        let all: Vec<i32> = self.slots.keys().copied().collect();
        // Others may have the partitions by now: nobody waits for the tasks.
        self.end_tasks(&all);
        self.revoking = None;
        self.since = Instant::now();
        let failed = std::mem::replace(&mut self.consumer, next);
        self.joining = Some(Joining::begin());
        failed.context().closing.store(true, Ordering::Release);
        farewell::discard(failed, self.config.group.clone(), self.name.clone());
    }

    fn hand_over(&mut self) {
        let partitions: Vec<i32> = self.slots.keys().copied().collect();
        for partition in partitions {
            self.hand_over_one(partition);
        }
    }

    fn hand_over_one(&mut self, partition: i32) {
        let Some(slot) = self.slots.get_mut(&partition) else {
            return;
        };
        let Stage::Reading(reading) = &mut slot.stage else {
            return;
        };
        let flushed = reading.flush();
        let count = u64::try_from(flushed.records).unwrap_or(u64::MAX);
        self.metrics.consumed.inc_by(count);
        match flushed.next {
            Next::Continue => {}
            Next::Pause => {
                reading.paused = true;
                self.metrics.pauses.inc();
                let list = self.list(&[partition]);
                log_failure("pause a partition", self.consumer.pause(&list));
            }
            Next::Resume => {
                reading.paused = false;
                let list = self.list(&[partition]);
                log_failure("resume a partition", self.consumer.resume(&list));
            }
            Next::Closed if self.revoking.is_none() => {
                tracing::debug!(log.partition = partition, "nobody takes the records");
                self.restart(partition);
                if let Some(slot) = self.slots.get_mut(&partition) {
                    slot.failed(1.0);
                }
            }
            Next::Closed => {}
        }
    }

    // === the rest ===

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

/// A client that joins the group.
fn client(
    config: &ConsumerConfig,
    metrics: &Metrics,
    name: &str,
) -> KafkaResult<Arc<BaseConsumer<Context>>> {
    let context = Context {
        metrics: metrics.clone(),
        rebalances: Mutex::default(),
        ends: Mutex::default(),
        topic: config.log.topic.clone(),
        closing: AtomicBool::new(false),
    };
    let consumer = BaseConsumer::from_config_and_context(&config.client(name), context)?;
    consumer.subscribe(&[&config.log.topic])?;
    Ok(Arc::new(consumer))
}

fn log_failure(what: &str, result: KafkaResult<()>) {
    if let Err(error) = result {
        tracing::warn!(%error, "{what}");
    }
}
