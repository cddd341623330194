//! Looks at every process from time to time: memory, descriptors, metrics, lag.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context, Result};
use futures_util::future::join_all;
use hubbub_checker::Event;
use tokio::time::timeout;

use crate::{quiet::lag, recorder::Recorder, system::System};

/// A frozen process is not waited for.
const LOOK: Duration = Duration::from_secs(1);
/// The broker's name in the stack.
const KAFKA: &str = "kafka";
/// Shards and Kafka may be away.
const LAG: Duration = Duration::from_secs(2);

/// Takes samples of a run's processes.
#[derive(Debug)]
pub struct Sampler {
    client: reqwest::Client,
    recorder: Recorder,
}

impl Sampler {
    /// Into a history.
    ///
    /// # Errors
    /// When the HTTP client cannot be made.
    pub fn new(recorder: Recorder) -> Result<Self> {
        let client = reqwest::Client::builder().timeout(LOOK).no_proxy();
        Ok(Self {
            client: client.build().context("make an HTTP client")?,
            recorder,
        })
    }

    /// Samples every process that runs and answers.
    pub async fn sample(&self, system: &System) {
        let stack = system.stack();
        for server in stack.servers() {
            if let Some(pid) = server.pid() {
                let name = server.name();
                // A Java heap grows to its limit when nobody needs the memory, and says nothing
                // about what is held: Kafka is started with a limit (`-Xmx`) instead.
                if name != KAFKA {
                    self.gauge(&name, pid, "rss_bytes", rss_bytes(pid));
                }
                self.gauge(&name, pid, "descriptors", descriptors(pid));
            }
        }
        let services = stack.edges().iter().chain(stack.apis());
        let services = services.chain(stack.consumers());
        let metrics = services
            .chain(stack.spare_consumers())
            .filter_map(|service| {
                let (name, pid, ops) = (service.name(), service.pid()?, service.ops_addr());
                Some(async move {
                    for (series, value) in self.metrics(ops).await.unwrap_or_default() {
                        self.gauge(&name, pid, &series, Some(value));
                    }
                })
            });
        let lag = async {
            if let Ok(Ok(records)) = timeout(LAG, lag(system)).await {
                self.gauge("consumers", 0, "consumer_lag_records", Some(records as f64));
            }
        };
        tokio::join!(join_all(metrics), lag);
    }

    fn gauge(&self, process: &str, pid: u32, name: &str, value: Option<f64>) {
        if let Some(value) = value {
            self.recorder.record(Event::Gauge {
                process: process.to_owned(),
                pid,
                name: name.to_owned(),
                value,
            });
        }
    }

    /// Series and values of what a process shows of itself; `None` if it does not answer.
    pub(crate) async fn metrics(&self, ops: SocketAddr) -> Option<Vec<(String, f64)>> {
        let url = format!("http://{ops}/metrics");
        let page = self.client.get(url).send().await.ok()?;
        Some(series(&page.text().await.ok()?))
    }
}

/// Series and values of a metrics page (OpenMetrics text), without the buckets of histograms.
fn series(page: &str) -> Vec<(String, f64)> {
    let lines = page.lines().filter(|line| !line.starts_with('#'));
    let pairs = lines.filter_map(|line| {
        // The value is the first word after the labels, which may hold spaces.
        let end = line.rfind('}').map_or(0, |at| at + 1);
        let space = line[end..].find(' ')? + end;
        let value = line[space + 1..].split(' ').next()?.parse().ok()?;
        Some((line[..space].to_owned(), value))
    });
    pairs
        .filter(|(name, _)| !name.contains("_bucket"))
        .collect()
}

fn rss_bytes(pid: u32) -> Option<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: f64 = line.trim().trim_end_matches(" kB").parse().ok()?;
    Some(kib * 1_024.0)
}

fn descriptors(pid: u32) -> Option<f64> {
    let count = std::fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count();
    Some(count as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metrics_page_becomes_series() {
        let page = "# TYPE a counter\n\
            a_total{kind=\"x y\"} 3\n\
            rss 1.5e3\n\
            wait_seconds_bucket{le=\"0.1\"} 9\n\
            wait_seconds_sum 0.25\n\
            # EOF\n";
        assert_eq!(
            series(page),
            [
                ("a_total{kind=\"x y\"}".to_owned(), 3.0),
                ("rss".to_owned(), 1_500.0),
                ("wait_seconds_sum".to_owned(), 0.25),
            ]
        );
    }

    #[test]
    fn this_process_has_memory_and_descriptors() {
        let pid = std::process::id();
        assert!(rss_bytes(pid).is_some_and(|bytes| bytes > 1e6));
        assert!(descriptors(pid).is_some_and(|count| count >= 3.0));
    }
}
