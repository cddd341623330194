use std::sync::atomic::AtomicU64;

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{
        counter::Counter,
        family::{Family, MetricConstructor},
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::Registry,
};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Answered {
    pub(crate) route: &'static str,
    pub(crate) status: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Served {
    pub(crate) route: &'static str,
}

/// Half a millisecond to 16 s, by doubling.
#[derive(Debug, Clone)]
pub(crate) struct Buckets;

impl MetricConstructor<Histogram> for Buckets {
    fn new_metric(&self) -> Histogram {
        Histogram::new(exponential_buckets(0.000_5, 2.0, 16))
    }
}

/// Everything that this binary counts itself.
#[derive(Debug, Clone)]
pub(crate) struct Metrics {
    pub(crate) requests: Family<Answered, Counter>,
    pub(crate) seconds: Family<Served, Histogram, Buckets>,
    pub(crate) waiters: Gauge<u64, AtomicU64>,
    pub(crate) waiters_refused: Counter,
    pub(crate) head_failures: Counter,
    pub(crate) panics: Counter,
    pub(crate) bad_pod_messages: Counter,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            requests: Family::default(),
            seconds: Family::new_with_constructor(Buckets),
            waiters: Gauge::default(),
            waiters_refused: Counter::default(),
            head_failures: Counter::default(),
            panics: Counter::default(),
            bad_pod_messages: Counter::default(),
        }
    }
}

impl Metrics {
    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register(
            "hubbub_api_requests",
            "Requests by operation and status",
            self.requests.clone(),
        );
        registry.register(
            "hubbub_api_request_seconds",
            "Time from a request's head to its answer, by operation",
            self.seconds.clone(),
        );
        registry.register(
            "hubbub_api_waiters",
            "Requests that wait for a channel's head (at_least)",
            self.waiters.clone(),
        );
        registry.register(
            "hubbub_api_waiters_refused",
            "Requests that could not wait because too many did",
            self.waiters_refused.clone(),
        );
        registry.register(
            "hubbub_api_head_failures",
            "Questions for heads that a shard did not answer",
            self.head_failures.clone(),
        );
        registry.register(
            "hubbub_api_panics",
            "Handlers that panicked",
            self.panics.clone(),
        );
        registry.register(
            "hubbub_api_bad_pod_messages",
            "Messages to this process on the bus that could not be read",
            self.bad_pod_messages.clone(),
        );
    }
}
