use std::sync::atomic::AtomicU64;

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::Registry,
};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Outcome {
    pub(crate) outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Kind {
    pub(crate) kind: &'static str,
}

/// The metrics of this crate, for an appender, a consumer or both. Cheap handle.
#[derive(Debug, Clone)]
pub struct Metrics {
    pub(crate) appends: Family<Outcome, Counter>,
    pub(crate) queue: Gauge,
    pub(crate) append_seconds: Histogram,
    pub(crate) producers_replaced: Counter,
    pub(crate) consumed: Counter,
    pub(crate) lag: Gauge,
    pub(crate) partitions: Gauge,
    pub(crate) pauses: Counter,
    pub(crate) rebalances: Family<Kind, Counter>,
    pub(crate) restarts: Counter,
    pub(crate) refused: Gauge,
    pub(crate) unresolved: Counter,
    pub(crate) refetches: Counter,
    pub(crate) consume_errors: Counter,
    pub(crate) commits: Family<Outcome, Counter>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            appends: Family::default(),
            queue: Gauge::default(),
            // 0.25 ms to 8 s: one in flight takes 0.6 ms, a record that times out 6 s and more.
            append_seconds: Histogram::new(exponential_buckets(0.000_25, 2.0, 16)),
            producers_replaced: Counter::default(),
            consumed: Counter::<u64, AtomicU64>::default(),
            lag: Gauge::default(),
            partitions: Gauge::default(),
            pauses: Counter::default(),
            rebalances: Family::default(),
            restarts: Counter::default(),
            refused: Gauge::default(),
            unresolved: Counter::default(),
            refetches: Counter::default(),
            consume_errors: Counter::default(),
            commits: Family::default(),
        }
    }
}

impl Metrics {
    /// Adds every metric to the registry, each with a name that begins with `log_`.
    pub fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("log");
        registry.register(
            "appends",
            "Records by what became of them: appended, unknown, full, invalid",
            self.appends.clone(),
        );
        registry.register(
            "append_queue",
            "Records handed to the producer that have no report yet",
            self.queue.clone(),
        );
        registry.register(
            "append_seconds",
            "From the hand-over of a record to its report",
            self.append_seconds.clone(),
        );
        registry.register(
            "producers_replaced",
            "Producers that ended by a fatal error and were replaced",
            self.producers_replaced.clone(),
        );
        registry.register(
            "consumed",
            "Records handed to the partitions' queues",
            self.consumed.clone(),
        );
        registry.register(
            "consume_lag",
            "Records of this process's partitions that are in the log and not yet stored",
            self.lag.clone(),
        );
        registry.register(
            "consume_partitions",
            "Partitions that this process reads",
            self.partitions.clone(),
        );
        registry.register(
            "consume_pauses",
            "Partitions paused because their queue was full",
            self.pauses.clone(),
        );
        registry.register(
            "rebalances",
            "Changes of the assignment: assigned, revoked, lost",
            self.rebalances.clone(),
        );
        registry.register(
            "consume_restarts",
            "Partitions started again from the position in the store",
            self.restarts.clone(),
        );
        registry.register(
            "consume_refused",
            "Partitions of this process that stand still because the log does not fit the store",
            self.refused.clone(),
        );
        registry.register(
            "consume_unresolved",
            "Attempts to find a partition's start that failed and are repeated",
            self.unresolved.clone(),
        );
        registry.register(
            "consume_refetches",
            "Partitions fetched again because a record did not follow the one before it",
            self.refetches.clone(),
        );
        registry.register(
            "consume_errors",
            "Errors that the consumer's client reported",
            self.consume_errors.clone(),
        );
        registry.register(
            "consume_commits",
            "Offsets committed for lag tools: ok, failed",
            self.commits.clone(),
        );
    }

    pub(crate) fn append(&self, outcome: &'static str) {
        self.appends.get_or_create(&Outcome { outcome }).inc();
    }

    pub(crate) fn rebalance(&self, kind: &'static str) {
        self.rebalances.get_or_create(&Kind { kind }).inc();
    }
}
