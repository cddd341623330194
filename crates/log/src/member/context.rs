//! What librdkafka calls back with, and the client that does.
use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use parking_lot::Mutex;
use rdkafka::{
    ClientContext, Statistics, TopicPartitionList,
    config::{FromClientConfigAndContext as _, RDKafkaLogLevel},
    consumer::{BaseConsumer, Consumer as _, ConsumerContext},
    error::{KafkaError, KafkaResult},
    types::RDKafkaRespErr,
};

use crate::{
    ConsumerConfig, Metrics,
    client::{log_error, log_line},
    metrics::Outcome,
};

/// A change of the assignment as librdkafka announced it.
#[derive(Debug)]
pub(super) enum Rebalance {
    Assign(Vec<i32>),
    Revoke { partitions: Vec<i32>, lost: bool },
}

/// Notes what librdkafka calls back with, all on the member's thread; the member acts on it when
/// the poll has returned. (librdkafka goes on with a rebalance when the assignment is changed, in
/// or after the callback.)
pub(super) struct Context {
    pub(super) metrics: Metrics,
    pub(super) rebalances: Mutex<VecDeque<Rebalance>>,
    /// The high watermarks that the fetches have seen.
    pub(super) ends: Mutex<HashMap<i32, i64>>,
    pub(super) topic: String,
    /// The member is over: nobody will act on what is noted.
    pub(super) closing: AtomicBool,
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
/// A client that joins the group.
pub(super) fn client(
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
