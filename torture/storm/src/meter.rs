//! What the edges' own metrics and the kernel say.

use std::{collections::BTreeMap, time::Duration};

use anyhow::Context;
use hubbub_stack::{Service, Stack};

/// One look at a metrics page.
const SCRAPE: Duration = Duration::from_secs(5);

/// Counters of edges, added up over restarts: a new process begins at zero.
#[derive(Debug)]
pub(crate) struct Meter {
    http: reqwest::Client,
    /// By edge and series: pid and value of the newest look.
    last: BTreeMap<(String, String), (u32, u64)>,
    /// By series, over all edges and processes.
    sums: BTreeMap<String, u64>,
    /// By edge: pid, and the most sockets that this process was seen with.
    most: BTreeMap<String, (u32, u64)>,
}

/// Families that are added up.
const FAMILIES: [&str; 3] = [
    "hubbub_edge_store_requests_total",
    "hubbub_edge_feed_events_total",
    "hubbub_edge_handshakes_total",
];

/// One process now.
#[derive(Debug, Clone)]
pub(crate) struct Process {
    pub(crate) name: String,
    pub(crate) rss: u64,
    pub(crate) sockets: u64,
    /// The most that it was seen with: what the allocator got for them it keeps.
    pub(crate) most_sockets: u64,
}

impl Meter {
    pub(crate) fn new() -> anyhow::Result<Self> {
        let http = reqwest::Client::builder().timeout(SCRAPE).build()?;
        Ok(Self {
            http,
            last: BTreeMap::new(),
            sums: BTreeMap::new(),
            most: BTreeMap::new(),
        })
    }

    /// Looks at all edges that run. To be called before a process is ended, too: what it counted
    /// since the look before would be missing.
    pub(crate) async fn look(&mut self, stack: &Stack) -> anyhow::Result<Vec<Process>> {
        let mut found = Vec::new();
        for edge in stack.edges() {
            found.push(self.look_at(edge).await?);
        }
        Ok(found)
    }

    pub(crate) async fn look_at(&mut self, edge: &Service) -> anyhow::Result<Process> {
        let name = edge.name();
        let pid = edge.pid().with_context(|| format!("{name} runs"))?;
        let url = format!("http://{}/metrics", edge.ops_addr());
        let page = self.http.get(url).send().await?.text().await?;
        let mut sockets = 0;
        for (series, value) in page.lines().filter_map(sample) {
            if series == "hubbub_edge_sockets" {
                sockets = value;
            }
            if FAMILIES.iter().any(|family| series.starts_with(family)) {
                self.count(&name, series, pid, value);
            }
        }
        let rss = rss(pid)?;
        let most_sockets = self.peak(&name, pid, sockets);
        Ok(Process {
            name,
            rss,
            sockets,
            most_sockets,
        })
    }

    fn peak(&mut self, edge: &str, pid: u32, sockets: u64) -> u64 {
        let (last, most) = self.most.entry(edge.to_owned()).or_insert((pid, 0));
        if std::mem::replace(last, pid) != pid {
            *most = 0;
        }
        *most = sockets.max(*most);
        *most
    }

    fn count(&mut self, edge: &str, series: &str, pid: u32, value: u64) {
        let last = self
            .last
            .insert((edge.to_owned(), series.to_owned()), (pid, value));
        let more = match last {
            Some((same, before)) if same == pid => value.saturating_sub(before),
            _ => value,
        };
        *self.sums.entry(series.to_owned()).or_default() += more;
    }

    /// All sums of a family, by `kind`.
    pub(crate) fn family(&self, family: &str) -> BTreeMap<String, u64> {
        let kind = |series: &str| {
            let labels = series.strip_prefix(family)?;
            let kind = labels.strip_prefix("{kind=\"")?.strip_suffix("\"}")?;
            Some(kind.to_owned())
        };
        let all = self.sums.iter();
        all.filter_map(|(series, sum)| Some((kind(series)?, *sum)))
            .collect()
    }
}

/// Resident memory of a process, in bytes.
pub(crate) fn rss(pid: u32) -> anyhow::Result<u64> {
    let path = format!("/proc/{pid}/status");
    let status = std::fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.context("no VmRSS")?.trim().trim_end_matches(" kB");
    Ok(kib.parse::<u64>()? * 1_024)
}

/// A line of the metrics page: series and value. Comments have none.
fn sample(line: &str) -> Option<(&str, u64)> {
    let (series, value) = line.rsplit_once(' ')?;
    if series.starts_with('#') {
        return None;
    }
    Some((series, value.parse::<f64>().ok()? as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn restarted_process_counts_from_zero() {
        const HEAD: &str = "f{kind=\"head\"}";
        let mut meter = Meter::new().expect("a client");
        for (edge, pid, value) in [
            ("a", 1, 10),
            ("b", 2, 5),
            ("a", 1, 12),
            // A new process, and a look at it that finds no more.
            ("a", 3, 4),
            ("a", 3, 4),
            ("b", 2, 6),
        ] {
            meter.count(edge, HEAD, pid, value);
        }
        meter.count("a", "f{kind=\"rows\"}", 3, 1);
        meter.count("a", "ff{kind=\"rows\"}", 3, 9);
        let family = meter.family("f");
        assert_eq!(
            family.into_iter().collect::<Vec<_>>(),
            [("head".to_owned(), 12 + 4 + 6), ("rows".to_owned(), 1)]
        );
    }

    #[test]
    fn peak_is_that_of_the_process() {
        let mut meter = Meter::new().expect("a client");
        assert_eq!(meter.peak("a", 1, 5), 5);
        assert_eq!(meter.peak("a", 1, 3), 5);
        assert_eq!(meter.peak("b", 2, 4), 4);
        assert_eq!(meter.peak("a", 1, 7), 7);
        assert_eq!(meter.peak("a", 3, 2), 2);
    }

    #[test]
    fn samples_are_read_and_comments_are_not() {
        assert_eq!(
            sample("a_total{kind=\"x\"} 12"),
            Some(("a_total{kind=\"x\"}", 12))
        );
        assert_eq!(sample("a 1.0"), Some(("a", 1)));
        assert_eq!(sample("# TYPE a counter"), None);
        assert_eq!(sample("# HELP a 3"), None);
    }

    #[test]
    fn own_memory_can_be_read() {
        assert!(rss(std::process::id()).expect("own status") > 1024 * 1024);
    }
}
