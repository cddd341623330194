//! Every metric of the edge, in one place. Labels have few values, all known here.

use hubbub_protocol::{CloseCode, ErrorCode};
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

use crate::feed::Counts;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Label {
    kind: &'static str,
}

type Family1 = Family<Label, Counter>;

/// Counters and gauges; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Metrics {
    handshakes: Family1,
    closes: Family1,
    refusals: Family1,
    feed: Family1,
    bus_events: Family1,
    store_requests: Family1,
    dashboard: Family1,
    /// Accepts that failed.
    pub(crate) accept_errors: Counter,
    /// Tasks of connections that panicked.
    pub(crate) panics: Counter,
    /// Text frames from clients.
    pub(crate) frames_in: Counter,
    /// Times that the lease lapsed and everything was held.
    pub(crate) lease_lapses: Counter,
    /// Renewals of the lease that failed.
    pub(crate) lease_failures: Counter,
    /// Sweeps that failed.
    pub(crate) sweep_failures: Counter,
    /// Evictions that were asked of this pod.
    pub(crate) evictions: Counter,
    /// Sockets now.
    pub(crate) sockets: Gauge,
    /// Channels open now.
    pub(crate) channels: Gauge,
    /// Questions to the store that wait for their turn.
    pub(crate) store_queue: Gauge,
    /// Users whose presence is followed.
    pub(crate) watched_users: Gauge,
    /// API servers that watch for the dashboard.
    pub(crate) watchers: Gauge,
    /// Bytes in all outboxes.
    pub(crate) outbox_bytes: Gauge<i64>,
    /// Seconds that the turns of the fan-out took.
    pub(crate) turns: Histogram,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            handshakes: Default::default(),
            closes: Default::default(),
            refusals: Default::default(),
            feed: Default::default(),
            bus_events: Default::default(),
            store_requests: Default::default(),
            dashboard: Default::default(),
            accept_errors: Default::default(),
            panics: Default::default(),
            frames_in: Default::default(),
            lease_lapses: Default::default(),
            lease_failures: Default::default(),
            sweep_failures: Default::default(),
            evictions: Default::default(),
            sockets: Default::default(),
            channels: Default::default(),
            store_queue: Default::default(),
            watched_users: Default::default(),
            watchers: Default::default(),
            outbox_bytes: Default::default(),
            // 50 us to 1.6 s.
            turns: Histogram::new(exponential_buckets(50e-6, 2.0, 16)),
        }
    }
}

impl Metrics {
    /// Registers everything under `hubbub_edge_`.
    pub(crate) fn register(&self, registry: &mut Registry) {
        let r = registry.sub_registry_with_prefix("hubbub_edge");
        r.register(
            "handshakes",
            "Handshakes by result",
            self.handshakes.clone(),
        );
        r.register(
            "closes",
            "Closed sockets by close code",
            self.closes.clone(),
        );
        r.register(
            "refusals",
            "Requests refused by error code",
            self.refusals.clone(),
        );
        r.register(
            "feed_events",
            "Repairs, drops and detachments of feeds by kind",
            self.feed.clone(),
        );
        r.register(
            "bus_events",
            "Events from the bus by kind",
            self.bus_events.clone(),
        );
        r.register(
            "store_requests",
            "Questions of feeds to the store by kind",
            self.store_requests.clone(),
        );
        r.register(
            "accept_errors",
            "Accepts that failed",
            self.accept_errors.clone(),
        );
        r.register(
            "panics",
            "Connection tasks that panicked",
            self.panics.clone(),
        );
        r.register(
            "frames_in",
            "Text frames from clients",
            self.frames_in.clone(),
        );
        r.register(
            "lease_lapses",
            "Times the lease lapsed",
            self.lease_lapses.clone(),
        );
        r.register(
            "lease_failures",
            "Lease renewals that failed",
            self.lease_failures.clone(),
        );
        r.register(
            "sweep_failures",
            "Sweeps that failed",
            self.sweep_failures.clone(),
        );
        r.register(
            "evictions",
            "Evictions asked of this pod",
            self.evictions.clone(),
        );
        r.register("sockets", "Sockets now", self.sockets.clone());
        r.register("channels", "Channels open now", self.channels.clone());
        r.register(
            "store_queue",
            "Questions to the store that wait",
            self.store_queue.clone(),
        );
        r.register(
            "watched_users",
            "Users whose presence is followed for watchers",
            self.watched_users.clone(),
        );
        r.register(
            "dashboard_watchers",
            "API servers that watch for the dashboard",
            self.watchers.clone(),
        );
        r.register(
            "dashboard",
            "What was said to the dashboard by kind",
            self.dashboard.clone(),
        );
        r.register(
            "outbox_bytes",
            "Bytes in all outboxes",
            self.outbox_bytes.clone(),
        );
        r.register(
            "turn_seconds",
            "Time that turns of the fan-out took",
            self.turns.clone(),
        );
    }

    /// Counts a handshake: `ok`, or why not.
    pub(crate) fn handshake(&self, kind: &'static str) {
        self.handshakes.get_or_create(&Label { kind }).inc();
    }

    /// Counts an ended connection.
    pub(crate) fn closed(&self, code: CloseCode) {
        self.closes
            .get_or_create(&Label { kind: code.label() })
            .inc();
    }

    /// Counts an error reply.
    pub(crate) fn refused(&self, code: ErrorCode) {
        self.refusals
            .get_or_create(&Label {
                kind: code.as_str(),
            })
            .inc();
    }

    /// Counts an event of the bus.
    pub(crate) fn bus_event(&self, kind: &'static str) {
        self.bus_events(kind, 1);
    }

    /// Counts events of the bus.
    pub(crate) fn bus_events(&self, kind: &'static str, count: usize) {
        self.bus_events
            .get_or_create(&Label { kind })
            .inc_by(count as u64);
    }

    /// Counts a question of a feed to the store.
    pub(crate) fn store_request(&self, kind: &'static str) {
        self.store_requests.get_or_create(&Label { kind }).inc();
    }

    /// Counts what was said to the dashboard.
    pub(crate) fn dashboard(&self, kind: &'static str) {
        self.dashboard.get_or_create(&Label { kind }).inc();
    }

    /// Adds what the feeds did.
    pub(crate) fn feed_counts(&self, counts: Counts) {
        for (kind, count) in [
            ("repeated", counts.repeated),
            ("resent", counts.resent),
            ("unkept", counts.unkept),
            ("repaired", counts.repaired),
            ("repaired_by_sweep", counts.repaired_by_sweep),
            ("repaired_by_announcement", counts.repaired_by_announcement),
            ("repaired_by_head", counts.repaired_by_head),
            ("behind_at_subscribe", counts.behind_at_subscribe),
            ("behind_at_sweep", counts.behind_at_sweep),
            ("merged", counts.merged),
            ("detached", counts.detached),
            ("unrecovered", counts.unrecovered),
            ("closed", counts.closed),
            ("failed", counts.failed),
            ("page_from_memory", counts.pages_from_memory),
        ] {
            if count > 0 {
                self.feed.get_or_create(&Label { kind }).inc_by(count);
            }
        }
    }
}
