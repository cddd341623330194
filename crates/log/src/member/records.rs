//! Records on their way to the partitions' tasks.
use rdkafka::{
    Message as _,
    error::{KafkaError, RDKafkaErrorCode},
};

use super::*;
use crate::{
    LogRecord,
    slot::{Next, Taken},
};

/// Records taken in one turn before orders and rebalances have theirs.
const TURN_RECORDS: usize = 2_000;

impl Member {
    pub(super) fn take_records(&mut self) {
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

    pub(super) fn hand_over(&mut self) {
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
}
