//! Partitions that come and go.
use super::*;

/// A revocation that waits for tasks. The partitions are still assigned in librdkafka.
pub(super) struct Revoking {
    pub(super) assigned: Vec<i32>,
    pub(super) tasks: Vec<oneshot::Receiver<()>>,
    pub(super) until: Instant,
}

impl Revoking {
    pub(super) fn is_over(&mut self) -> bool {
        // A sender that was dropped or used is a task that is over.
        self.tasks
            .retain_mut(|task| task.try_recv() == Err(oneshot::error::TryRecvError::Empty));
        self.tasks.is_empty() || Instant::now() >= self.until
    }
}

impl Member {
    pub(super) fn serve_rebalances(&mut self) {
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

    pub(super) fn serve_joining(&mut self) {
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
    pub(super) fn end_tasks(
        &mut self,
        partitions: &[i32],
    ) -> (Vec<i32>, Vec<oneshot::Receiver<()>>) {
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

    pub(super) fn list(&self, partitions: &[i32]) -> TopicPartitionList {
        let mut list = TopicPartitionList::with_capacity(partitions.len());
        for partition in partitions {
            list.add_partition(&self.config.log.topic, *partition);
        }
        list
    }

    pub(super) fn unassign(&self, partitions: &[i32]) {
        let list = self.list(partitions);
        // librdkafka keeps a pause over an unassignment: the partition's next start would be deaf.
        log_failure("resume what is given up", self.consumer.resume(&list));
        if let Err(error) = self.consumer.incremental_unassign(&list) {
            tracing::warn!(%error, log.partitions = ?partitions, "give partitions up");
        }
    }
}
