//! What the processes themselves count, added up over their restarts.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use anyhow::{Context, Result};
use futures_util::future::join_all;
use hubbub_stack::{Service, Stack};
use parking_lot::Mutex;

/// A frozen process answers nothing; the others are not kept waiting for it.
const PATIENCE: Duration = Duration::from_millis(400);
/// The series that tell of faults, by the beginnings of their names.
const KEPT: [&str; 21] = [
    "bus_connects_total",
    "bus_losses_total",
    "bus_probes_total",
    "bus_publishes_total",
    "consumer_announcements_total",
    "consumer_batches_total",
    "consumer_records_total",
    "consumer_restarts_total",
    "consumer_waiting_partitions",
    "hubbub_chat_",
    "hubbub_edge_closes_total",
    "hubbub_edge_feed_events_total",
    "hubbub_edge_lease",
    "hubbub_edge_sweep_failures_total",
    "log_append_seconds",
    "log_appends_total",
    "log_consume_errors_total",
    "log_rebalances_total",
    "store_call_seconds",
    "store_calls_total",
    "store_connections_total",
];

/// Of histograms, these buckets alone: what is quick for an append, and for a call to a shard.
const BUCKETS: [&str; 2] = ["le=\"0.256\"", "le=\"1.0\""];

/// (process, series) -> how much it has risen since the first look.
pub(crate) type Risen = BTreeMap<(String, String), f64>;

/// Reads the metrics of edges, API servers and consumers again and again.
#[derive(Debug)]
pub(crate) struct Meters {
    client: reqwest::Client,
    book: Mutex<Book>,
}

#[derive(Debug, Default)]
struct Book {
    risen: Risen,
    /// The pid and the figures of each process when it was last read.
    last: BTreeMap<String, (u32, BTreeMap<String, f64>)>,
}

impl Meters {
    pub(crate) fn new() -> Result<Self> {
        let client = reqwest::Client::builder().timeout(PATIENCE).no_proxy();
        Ok(Self {
            client: client.build().context("make an HTTP client")?,
            book: Mutex::default(),
        })
    }

    /// Reads everybody once. Who does not answer is left out this time.
    pub(crate) async fn read(&self, stack: &Stack) {
        let services = stack.edges().iter().chain(stack.apis());
        let services = services
            .chain(stack.consumers())
            .chain(stack.spare_consumers());
        let running = services.filter(|service| service.is_running());
        join_all(running.map(|service| self.read_one(service))).await;
    }

    async fn read_one(&self, service: &Service) {
        let Some(pid) = service.pid() else {
            return;
        };
        let Ok(page) = self.page(service.ops_addr()).await else {
            return;
        };
        // Another process by now: which of the two has answered is not known.
        if service.pid() == Some(pid) {
            self.book.lock().enter(&service.name(), pid, figures(&page));
        }
    }

    async fn page(&self, ops: SocketAddr) -> reqwest::Result<String> {
        let page = self.client.get(format!("http://{ops}/metrics")).send();
        page.await?.error_for_status()?.text().await
    }

    pub(crate) fn risen(&self) -> Risen {
        self.book.lock().risen.clone()
    }
}

impl Book {
    fn enter(&mut self, process: &str, pid: u32, figures: BTreeMap<String, f64>) {
        let known = self.last.get(process);
        for (series, value) in &figures {
            // A process that is seen for the first time may have counted for long: that is not
            // news. One that was restarted began at zero, and so does a series that is new.
            let before = match known {
                None => *value,
                Some((last_pid, last)) if *last_pid == pid => {
                    last.get(series).copied().unwrap_or(0.0)
                }
                Some(_) => 0.0,
            };
            if *value > before {
                let key = (process.to_owned(), series.clone());
                *self.risen.entry(key).or_default() += value - before;
            }
        }
        self.last.insert(process.to_owned(), (pid, figures));
    }
}

fn figures(page: &str) -> BTreeMap<String, f64> {
    let lines = page.lines().filter(|line| !line.starts_with('#'));
    let kept = lines.filter(|line| KEPT.iter().any(|name| line.starts_with(name)));
    let told = |line: &&str| {
        !line.contains("_bucket{") || BUCKETS.iter().any(|bucket| line.contains(bucket))
    };
    let read = kept.filter(told).filter_map(|line| {
        let (series, value) = line.rsplit_once(' ')?;
        Some((series.to_owned(), value.parse().ok()?))
    });
    read.collect()
}

/// How much the series rose between two looks, whose process begins with `process` and whose name
/// and labels contain all of `words`.
pub(crate) fn rise(before: &Risen, now: &Risen, process: &str, words: &[&str]) -> f64 {
    let wanted = now.iter().filter(|((of, series), _)| {
        of.starts_with(process) && words.iter().all(|word| series.contains(word))
    });
    wanted
        .map(|(key, value)| value - before.get(key).copied().unwrap_or(0.0))
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(deaf: u32, unknown: u32) -> BTreeMap<String, f64> {
        figures(&format!(
            "# HELP bus_losses Times\nbus_losses_total{{reason=\"deaf\"}} {deaf}\n\
             log_appends_total{{result=\"unknown\"}} {unknown}\nsomething_else 7\n"
        ))
    }

    #[test]
    fn rises_are_added_up_over_restarts() {
        let mut book = Book::default();
        book.enter("edge-1", 10, page(5, 1));
        assert!(book.risen.is_empty(), "what was there before is not news");
        book.enter("edge-1", 10, page(7, 1));
        let before = book.risen.clone();
        // Restarted: 3 more, though the figure is lower.
        book.enter("edge-1", 11, page(3, 1));
        book.enter("consumer-1", 12, page(9, 9));
        assert_eq!(
            rise(
                &Risen::new(),
                &book.risen,
                "edge-1",
                &["bus_losses", "deaf"]
            ),
            5.0
        );
        assert_eq!(
            rise(&before, &book.risen, "edge", &["bus_losses", "deaf"]),
            3.0
        );
        assert_eq!(rise(&before, &book.risen, "edge", &["unknown"]), 1.0);
        assert_eq!(rise(&before, &book.risen, "consumer", &["unknown"]), 0.0);
    }

    #[test]
    fn only_what_tells_of_faults_is_kept() {
        let figures = page(1, 2);
        assert_eq!(figures.len(), 2);
        assert_eq!(figures["bus_losses_total{reason=\"deaf\"}"], 1.0);
    }
}
