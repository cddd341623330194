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
pub(crate) struct Kind {
    kind: &'static str,
}

/// What happened on the dashboard's streams.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Event {
    Snapshot,
    Change,
    Live,
    Record,
    /// Records passed unseen.
    Missed,
    /// A reader took nothing and lost its stream.
    Slow,
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
    pub(crate) streams: Gauge<u64, AtomicU64>,
    pub(crate) streams_refused: Counter,
    pub(crate) dashboard_gaps: Counter,
    pub(crate) dashboard_asks: Counter,
    events: Family<Kind, Counter>,
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
            streams: Gauge::default(),
            streams_refused: Counter::default(),
            dashboard_gaps: Counter::default(),
            dashboard_asks: Counter::default(),
            events: Family::default(),
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
        registry.register(
            "hubbub_api_dashboard_streams",
            "Streams of the dashboard",
            self.streams.clone(),
        );
        registry.register(
            "hubbub_api_dashboard_streams_refused",
            "Streams refused because too many were open",
            self.streams_refused.clone(),
        );
        registry.register(
            "hubbub_api_dashboard_gaps",
            "Reports of pods that did not follow the one before",
            self.dashboard_gaps.clone(),
        );
        registry.register(
            "hubbub_api_dashboard_asks",
            "Snapshots asked of single pods: after a gap, a loss of the bus, or silence",
            self.dashboard_asks.clone(),
        );
        registry.register(
            "hubbub_api_dashboard_events",
            "What was written to streams of the dashboard, by kind",
            self.events.clone(),
        );
    }
    /// Counts what happened on a stream.
    pub(crate) fn event(&self, event: Event) {
        let kind = match event {
            Event::Snapshot => "snapshot",
            Event::Change => "change",
            Event::Live => "live",
            Event::Record => "record",
            Event::Missed => "missed",
            Event::Slow => "slow",
        };
        self.events.get_or_create(&Kind { kind }).inc();
    }
}
