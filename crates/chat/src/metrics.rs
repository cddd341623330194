use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

/// Label of [`Metrics::sends`] and [`Metrics::marks`].
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Answered {
    pub(crate) outcome: &'static str,
}

/// Counters of this crate; the binary registers them.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    pub(crate) sends: Family<Answered, Counter>,
    pub(crate) marks: Family<Answered, Counter>,
    pub(crate) in_flight: Gauge,
    pub(crate) late_reports: Counter,
    pub(crate) publish_refused: Counter,
    pub(crate) unrecorded_changes: Counter,
    pub(crate) unconfirmed_removals: Counter,
}

impl Metrics {
    /// Names the counters in the registry.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "hubbub_chat_sends",
            "Sends by what their sender was told",
            self.sends.clone(),
        );
        registry.register(
            "hubbub_chat_marks",
            "Marks by what became of them: a lost one is made up for by the device's next",
            self.marks.clone(),
        );
        registry.register(
            "hubbub_chat_sends_in_flight",
            "Sends whose sender waits for the answer now",
            self.in_flight.clone(),
        );
        registry.register(
            "hubbub_chat_late_reports",
            "Records that the log acknowledged after the sender's deadline: not published",
            self.late_reports.clone(),
        );
        registry.register(
            "hubbub_chat_publish_refused",
            "Records that the bus could not queue, or that a test lost: the feeds repair them",
            self.publish_refused.clone(),
        );
        registry.register(
            "hubbub_chat_unrecorded_changes",
            "Membership changes whose record is not known to be in the log",
            self.unrecorded_changes.clone(),
        );
        registry.register(
            "hubbub_chat_unconfirmed_removals",
            "Removals that not every pod confirmed in time",
            self.unconfirmed_removals.clone(),
        );
    }

    pub(crate) fn answered(&self, outcome: &'static str) {
        self.sends.get_or_create(&Answered { outcome }).inc();
    }

    pub(crate) fn marked(&self, outcome: &'static str) {
        self.marks.get_or_create(&Answered { outcome }).inc();
    }
}

/// Counts one send among those in flight, for as long as it lives.
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
