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
struct Outcome {
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Kind {
    kind: &'static str,
}

/// Every figure of this binary beside those of the log, the store and the bus.
#[derive(Debug, Clone)]
pub(crate) struct Metrics {
    records: Family<Kind, Counter>,
    batches: Family<Outcome, Counter>,
    announcements: Family<Outcome, Counter>,
    restarts: Family<Kind, Counter>,
    marks: Family<Kind, Counter>,
    receipts: Family<Outcome, Counter>,
    pub(crate) without_effect: Counter,
    pub(crate) batch_records: Histogram,
    pub(crate) batch_seconds: Histogram,
    pub(crate) in_flight: Gauge,
    pub(crate) waiting: Gauge,
    pub(crate) refused: Counter,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            records: Family::default(),
            batches: Family::default(),
            announcements: Family::default(),
            restarts: Family::default(),
            marks: Family::default(),
            receipts: Family::default(),
            without_effect: Counter::default(),
            batch_records: Histogram::new(exponential_buckets(1.0, 2.0, 11)),
            // 1 ms to 8 s: a commit takes about 3 ms, the write's deadline ends the rest.
            batch_seconds: Histogram::new(exponential_buckets(0.001, 2.0, 14)),
            in_flight: Gauge::default(),
            waiting: Gauge::default(),
            refused: Counter::default(),
        }
    }
}

impl Metrics {
    pub(crate) fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("consumer");
        registry.register(
            "records",
            "Records by what they became: row, duplicate, dead",
            self.records.clone(),
        );
        registry.register(
            "batches",
            "Transactions by outcome: ok, zombie, data, contradiction, store",
            self.batches.clone(),
        );
        registry.register(
            "announcements",
            "Announcements by outcome: offered, refused, lost by a test (the edges' sweep replaces those)",
            self.announcements.clone(),
        );
        registry.register(
            "restarts",
            "Partitions started again from the store's position: zombie, panic",
            self.restarts.clone(),
        );
        registry.register(
            "without_effect",
            "Rows that should have changed an earlier one and did not: replies, edits, deletions, reactions",
            self.without_effect.clone(),
        );
        registry.register(
            "marks",
            "Marks: read, moved (devices whose cursor went on), dead (dropped: cannot be read)",
            self.marks.clone(),
        );
        registry.register(
            "receipts",
            "Receipts told on the bus by outcome: offered, refused",
            self.receipts.clone(),
        );
        registry.register(
            "batch_records",
            "Records in a transaction",
            self.batch_records.clone(),
        );
        registry.register(
            "batch_seconds",
            "Duration of a transaction",
            self.batch_seconds.clone(),
        );
        registry.register(
            "batches_in_flight",
            "Batches taken from the log and not done with",
            self.in_flight.clone(),
        );
        registry.register(
            "waiting_partitions",
            "Partitions of either topic whose shard is away and whose batch is tried again",
            self.waiting.clone(),
        );
        registry.register(
            "refused_partitions",
            "Partitions of either topic that were stopped because the log does not fit the store",
            self.refused.clone(),
        );
    }

    pub(crate) fn records(&self, kind: &'static str, count: u64) {
        self.records.get_or_create(&Kind { kind }).inc_by(count);
    }

    pub(crate) fn marks(&self, kind: &'static str, count: u64) {
        self.marks.get_or_create(&Kind { kind }).inc_by(count);
    }

    pub(crate) fn receipt(&self, outcome: &'static str) {
        self.receipts.get_or_create(&Outcome { outcome }).inc();
    }

    pub(crate) fn batch(&self, outcome: &'static str) {
        self.batches.get_or_create(&Outcome { outcome }).inc();
    }

    pub(crate) fn announcement(&self, outcome: &'static str) {
        self.announcements.get_or_create(&Outcome { outcome }).inc();
    }

    pub(crate) fn restart(&self, kind: &'static str) {
        self.restarts.get_or_create(&Kind { kind }).inc();
    }
}

/// Counts one batch among those in flight, for as long as it lives.
#[derive(Debug)]
pub(crate) struct InFlight(Gauge);

impl InFlight {
    pub(crate) fn new(metrics: &Metrics) -> Self {
        metrics.in_flight.inc();
        Self(metrics.in_flight.clone())
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.dec();
    }
}
