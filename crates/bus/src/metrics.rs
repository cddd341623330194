use prometheus_client::{
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

type Labelled = Family<[(&'static str, &'static str); 1], Counter>;

/// Metrics of this crate; registered by the binary. Cheap handle.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    publishes: Labelled,
    connects: Labelled,
    losses: Labelled,
    /// Probes that came back, that did not, and that could not be sent.
    probes: Labelled,
    pub(crate) publish_queue: Gauge,
    pub(crate) inbox_depth: Gauge,
    pub(crate) inbox_dropped: Counter,
    pub(crate) foreign: Counter,
    pub(crate) wanted: Gauge,
    pub(crate) confirmations: Counter,
    pub(crate) late_replies: Counter,
}

/// What became of a publish.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Published {
    Ok,
    /// Refused by Redis, or the connection broke before the answer.
    Failed,
    /// Too old when a connection was there.
    Stale,
    /// Refused at the queue.
    Full,
}

/// Which connection was made.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Connection {
    Publisher,
    Subscriber,
    Probe,
}

/// Why messages may have been missed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Loss {
    /// The connection ended, or a command on it failed.
    Disconnected,
    /// A probe was published and did not come back.
    Deaf,
    /// The inbox was full.
    Overflow,
    /// No probe could be sent for so long that nobody knows.
    Unheard,
}

impl Loss {
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Disconnected => "disconnected",
            Self::Deaf => "deaf",
            Self::Overflow => "overflow",
            Self::Unheard => "unheard",
        }
    }
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Probe {
    Heard,
    Failed,
    Unsent,
}

impl Metrics {
    /// Registers everything under the prefix `bus`.
    pub fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("bus");
        registry.register(
            "publishes",
            "Publishes by result: ok, failed, stale (too old when a connection was there), full",
            self.publishes.clone(),
        );
        registry.register(
            "connects",
            "Connections made to Redis, by use",
            self.connects.clone(),
        );
        registry.register(
            "losses",
            "Times that messages may have been missed and all was subscribed again, by reason",
            self.losses.clone(),
        );
        registry.register(
            "probes",
            "Messages of this process to itself: heard, failed (published and not heard), unsent",
            self.probes.clone(),
        );
        registry.register(
            "publish_queue",
            "Commands, publishes above all, that wait to be written to Redis",
            self.publish_queue.clone(),
        );
        registry.register(
            "inbox_depth",
            "Events that wait in the inbox",
            self.inbox_depth.clone(),
        );
        registry.register(
            "inbox_dropped",
            "Messages dropped because the inbox was full",
            self.inbox_dropped.clone(),
        );
        registry.register(
            "foreign",
            "Pushes of Redis that are none of ours",
            self.foreign.clone(),
        );
        registry.register(
            "subscriptions",
            "Channels that are wanted now",
            self.wanted.clone(),
        );
        registry.register(
            "confirmations",
            "Subscriptions confirmed by Redis",
            self.confirmations.clone(),
        );
        registry.register(
            "late_replies",
            "Answers to questions that were over",
            self.late_replies.clone(),
        );
    }

    pub(crate) fn published(&self, result: Published, count: usize) {
        let label = match result {
            Published::Ok => "ok",
            Published::Failed => "failed",
            Published::Stale => "stale",
            Published::Full => "full",
        };
        let count = u64::try_from(count).unwrap_or(u64::MAX);
        self.publishes
            .get_or_create(&[("result", label)])
            .inc_by(count);
    }

    pub(crate) fn connected(&self, connection: Connection) {
        let label = match connection {
            Connection::Publisher => "publisher",
            Connection::Subscriber => "subscriber",
            Connection::Probe => "probe",
        };
        self.connects.get_or_create(&[("connection", label)]).inc();
    }

    pub(crate) fn lost(&self, loss: Loss) {
        self.losses.get_or_create(&[("reason", loss.label())]).inc();
    }

    pub(crate) fn probed(&self, probe: Probe) {
        let label = match probe {
            Probe::Heard => "heard",
            Probe::Failed => "failed",
            Probe::Unsent => "unsent",
        };
        self.probes.get_or_create(&[("result", label)]).inc();
    }
}
