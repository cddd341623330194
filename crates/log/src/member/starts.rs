//! Where a partition is read from, and from which offset on.
use rand::RngExt as _;

use super::*;
use crate::{
    Misfit,
    resolve::{Start, resolve},
};

/// The answer to the question where a partition starts.
pub(super) struct Answer {
    partition: i32,
    generation: u64,
    start: Start,
}

impl Member {
    pub(super) fn restart_ordered(&mut self) {
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

    pub(super) fn restart(&mut self, partition: i32) {
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

    pub(super) fn ask_for_starts(&mut self) {
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

    pub(super) fn take_answers(&mut self) {
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
}
