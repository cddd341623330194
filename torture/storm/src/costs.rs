//! What a storm cost the store and the edges.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// An edge may have this much more memory than its sockets explain, or a tenth.
const RSS_SLACK: u64 = 16 * 1024 * 1024;

/// Questions of the edges to the store during a storm.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Queries {
    /// By kind: `range` (a page for joins that are behind, or a repair of a range), `head` (an
    /// edge opens a channel, or was told to look again), `rows` (a repair of single messages,
    /// which has nothing to do with those who come back).
    pub by_kind: BTreeMap<String, u64>,
    /// What feeds counted meanwhile: repairs among them.
    pub feed_events: BTreeMap<String, u64>,
    /// By kind, as many as the same time takes when nothing happens, at the rate that was
    /// measured before.
    pub ordinary: BTreeMap<String, f64>,
    /// Channels times edges.
    pub bound: u64,
}

impl Queries {
    /// Those of a kind that the storm caused: all, less the ordinary ones.
    pub fn caused(&self, kind: &str) -> f64 {
        let all = self.by_kind.get(kind).copied().unwrap_or(0) as f64;
        (all - self.ordinary.get(kind).copied().unwrap_or(0.0)).max(0.0)
    }

    /// Those who come back read from where they stood: at most once for each channel and edge.
    /// An edge that is new opens each channel once.
    pub(crate) fn failures(&self) -> Vec<String> {
        let most = self.bound as f64;
        let over = |kind| Some(self.caused(kind)).filter(|caused| *caused > most);
        let pages = over("range").map(|n| format!("{n:.0} catch-up questions to the store"));
        let heads = over("head").map(|n| format!("{n:.0} channels opened"));
        let all = pages.into_iter().chain(heads);
        all.map(|what| format!("{what}, not within {} (channels x edges)", self.bound))
            .collect()
    }
}

/// Memory of an edge when all is quiet again.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Rss {
    /// Which edge.
    pub process: String,
    /// Its sockets.
    pub sockets: u64,
    /// What it has.
    pub bytes: u64,
    /// The most sockets that this process was seen with.
    pub most_sockets: u64,
    /// What an edge with so many had in the beginning: an allocator gives little back, so that
    /// memory which its most sockets do not explain is what has leaked.
    pub expected: u64,
}

impl Rss {
    pub(crate) fn failure(&self) -> Option<String> {
        const MIB: f64 = 1024.0 * 1024.0;
        let most = self.expected + (self.expected / 10).max(RSS_SLACK);
        (self.bytes > most).then(|| {
            format!(
                "{}: {:.1} MiB with {} sockets ({} at most), {:.1} expected",
                self.process,
                self.bytes as f64 / MIB,
                self.sockets,
                self.most_sockets,
                self.expected as f64 / MIB
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_questions_are_not_the_storms() {
        let mut queries = Queries {
            by_kind: [("range".to_owned(), 10), ("head".to_owned(), 3)].into(),
            ordinary: [("range".to_owned(), 4.0), ("head".to_owned(), 9.0)].into(),
            bound: 6,
            ..Queries::default()
        };
        assert_eq!(
            (queries.caused("range"), queries.caused("head")),
            (6.0, 0.0)
        );
        assert_eq!(queries.caused("rows"), 0.0);
        assert_eq!(queries.failures().len(), 0);
        queries.bound = 5;
        assert_eq!(queries.failures().len(), 1);
        queries.ordinary.clear();
        queries.bound = 2;
        assert_eq!(queries.failures().len(), 2);
    }

    #[test]
    fn memory_may_grow_by_a_tenth_or_by_the_slack() {
        let rss = |expected_mib: u64, mib: u64| Rss {
            process: "edge-1".to_owned(),
            sockets: 1,
            most_sockets: 2,
            bytes: mib << 20,
            expected: expected_mib << 20,
        };
        assert_eq!(rss(100, 116).failure(), None);
        assert!(rss(100, 117).failure().is_some());
        assert_eq!(rss(1_000, 1_100).failure(), None);
        assert!(rss(1_000, 1_101).failure().is_some());
    }
}
