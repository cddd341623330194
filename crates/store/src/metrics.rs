use std::sync::Arc;

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};
use tokio::time::Instant;

/// From half a millisecond, which a warm page of history takes, to the deadline of a batch.
const SECONDS: [f64; 12] = [
    0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0,
];

/// Which call it was. Bounded: a name in this crate's source times the configured databases.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CallLabels {
    database: Arc<String>,
    query: &'static str,
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TimeLabels {
    database: Arc<String>,
    query: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ConnectionLabels {
    database: Arc<String>,
    event: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DatabaseLabels {
    database: Arc<String>,
}

/// The store's counters: calls, their time, and what happened to connections. Cheap to clone; the
/// clones share the figures.
#[derive(Debug, Clone)]
pub struct Metrics {
    calls: Family<CallLabels, Counter>,
    seconds: Family<TimeLabels, Histogram, fn() -> Histogram>,
    connections: Family<ConnectionLabels, Counter>,
    open: Family<DatabaseLabels, Gauge>,
    max: Family<DatabaseLabels, Gauge>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            calls: Family::default(),
            seconds: Family::new_with_constructor(|| Histogram::new(SECONDS)),
            connections: Family::default(),
            open: Family::default(),
            max: Family::default(),
        }
    }
}

impl Metrics {
    /// Adds the figures to `registry`; once per registry.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "store_calls",
            "Calls to Postgres by database, query and outcome (ok, error, deadline, away)",
            self.calls.clone(),
        );
        registry.register(
            "store_call_seconds",
            "Time of a call that was answered, waiting for a connection included",
            self.seconds.clone(),
        );
        registry.register(
            "store_connections",
            "Connections opened, lost, replaced (a stale one), refused (the wrong database)",
            self.connections.clone(),
        );
        registry.register(
            "store_connections_open",
            "Connections that are open, in use or not, at most store_connections_max",
            self.open.clone(),
        );
        registry.register(
            "store_connections_max",
            "Connections that the process may have to the database",
            self.max.clone(),
        );
    }

    /// Shows a pool of at most `connections`; what it counts its open ones with.
    pub(crate) fn pool(&self, database: &Arc<String>, connections: u32) -> Gauge {
        let labels = DatabaseLabels {
            database: database.clone(),
        };
        self.max.get_or_create(&labels).set(connections.into());
        self.open.get_or_create_owned(&labels)
    }

    pub(crate) fn call(
        &self,
        database: &Arc<String>,
        query: &'static str,
        outcome: &'static str,
        started: Instant,
    ) {
        let labels = CallLabels {
            database: database.clone(),
            query,
            outcome,
        };
        self.calls.get_or_create(&labels).inc();
        if outcome == "ok" {
            let labels = TimeLabels {
                database: database.clone(),
                query,
            };
            self.seconds
                .get_or_create(&labels)
                .observe(started.elapsed().as_secs_f64());
        }
    }

    pub(crate) fn connection(&self, database: &Arc<String>, event: &'static str) {
        let labels = ConnectionLabels {
            database: database.clone(),
            event,
        };
        self.connections.get_or_create(&labels).inc();
    }
}
