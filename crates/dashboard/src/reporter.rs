use std::collections::{BTreeMap, BTreeSet};

use hubbub_mutant::{Mutant, planted};
use hubbub_protocol::{ChannelLoad, PodId, Report, Snapshot, Unwatch, Watch, limits};
use uuid::Uuid;

/// A pod that is watched says something at least so often, though nothing has changed.
pub const HEARTBEAT_MS: u64 = 1_000;
/// Watchers that a pod knows, those that went a moment ago among them; further ones are not heard.
pub const WATCHERS: usize = 256;

/// What a pod has at the moment, beside its channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Has {
    /// Sockets.
    pub sockets: u64,
    /// What was accepted since the epoch began.
    pub messages: u64,
}

/// A watcher as a pod knows it.
#[derive(Debug)]
struct Watcher {
    generation: u64,
    reply_to: PodId,
    /// Forgotten then, whether it watches or not: a late word of an earlier generation is not
    /// believed before that.
    until_ms: u64,
    watches: bool,
}

/// Who watches a pod, and what it has to say to them. See the crate.
#[derive(Debug)]
pub struct Reporter {
    pod: PodId,
    region: String,
    watchers: BTreeMap<Uuid, Watcher>,
    /// Watchers to whom a snapshot is owed.
    due: BTreeSet<Uuid>,
    epoch: u64,
    number: u64,
    snapshots: u64,
    /// When the last report was made, and what it said.
    reported_ms: u64,
    reported: Option<Has>,
}

impl Reporter {
    /// Of a pod that nobody watches.
    pub fn new(pod: PodId, region: String) -> Self {
        Self {
            pod,
            region,
            watchers: BTreeMap::new(),
            due: BTreeSet::new(),
            epoch: 0,
            number: 0,
            snapshots: 0,
            reported_ms: 0,
            reported: None,
        }
    }

    /// Whether somebody watches, as of the last word or [`Reporter::expire`].
    pub fn is_watched(&self) -> bool {
        self.watchers.values().any(|watcher| watcher.watches)
    }

    /// How many watch.
    pub fn watchers(&self) -> usize {
        let watching = self.watchers.values().filter(|watcher| watcher.watches);
        watching.count()
    }

    /// The life of the counters that go into reports: where it has changed, they start from 0.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Somebody watches, or goes on watching. `epoch` is drawn at random, for the case that they
    /// are the first: then it is the reports' from here on.
    pub fn watch(&mut self, watch: &Watch, now_ms: u64, epoch: u64) {
        self.expire(now_ms);
        let was_watched = self.is_watched();
        let known = self.watchers.get(&watch.watcher);
        let is_late = known.is_some_and(|known| {
            watch.generation < known.generation
                || (watch.generation == known.generation && !known.watches)
        });
        if is_late || (known.is_none() && self.watchers.len() >= WATCHERS) {
            return;
        }
        let is_new = known.is_none_or(|known| known.generation != watch.generation);
        if watch.snapshot || is_new {
            self.due.insert(watch.watcher);
        }
        let watcher = Watcher {
            generation: watch.generation,
            reply_to: watch.reply_to.clone(),
            until_ms: now_ms + limits::WATCH_LEASE_MS,
            watches: true,
        };
        self.watchers.insert(watch.watcher, watcher);
        if !was_watched {
            self.epoch = epoch;
            self.number = 0;
            self.reported = None;
        }
    }

    /// Somebody watches no more.
    pub fn unwatch(&mut self, unwatch: &Unwatch, now_ms: u64) {
        if planted(Mutant::M14) {
            self.watchers.clear();
            self.due.clear();
            return;
        }
        if let Some(known) = self.watchers.get_mut(&unwatch.watcher)
            && known.generation <= unwatch.generation
        {
            known.generation = unwatch.generation;
            known.watches = false;
            known.until_ms = now_ms + limits::WATCH_LEASE_MS;
            self.due.remove(&unwatch.watcher);
        }
    }

    /// Forgets who has not been heard of for the length of a lease.
    pub fn expire(&mut self, now_ms: u64) {
        self.watchers.retain(|_, known| known.until_ms > now_ms);
        let watchers = &self.watchers;
        self.due.retain(|watcher| watchers.contains_key(watcher));
    }

    /// Where the next snapshot goes that is owed. It must be made and sent before the next report.
    pub fn next_snapshot(&mut self) -> Option<PodId> {
        let watcher = self.due.pop_first()?;
        let known = self.watchers.get(&watcher)?;
        Some(known.reply_to.clone())
    }

    /// A snapshot in parts, in the order in which they are to be sent. `channels` is everything
    /// that has connections or a count.
    pub fn snapshot(&mut self, has: Has, channels: &[ChannelLoad]) -> Vec<Snapshot> {
        self.snapshots += 1;
        let rows: Vec<&[ChannelLoad]> = if channels.is_empty() {
            vec![&[]]
        } else {
            channels.chunks(limits::REPORT_ROWS).collect()
        };
        let parts = u32::try_from(rows.len()).unwrap_or(u32::MAX);
        let part = |(part, rows): (u32, &[ChannelLoad])| Snapshot {
            pod: self.pod.clone(),
            region: self.region.clone(),
            epoch: self.epoch,
            number: self.number,
            snapshot: self.snapshots,
            part,
            parts,
            sockets: has.sockets,
            messages: has.messages,
            channels: rows.to_vec(),
        };
        (0..).zip(rows).map(part).collect()
    }

    /// The next report, if there is anything to say: `changed` is what has changed since the
    /// last one, at most [`limits::REPORT_ROWS`]. It counts as said, whether it is sent or not.
    pub fn report(&mut self, now_ms: u64, has: Has, changed: Vec<ChannelLoad>) -> Option<Report> {
        let quiet = changed.is_empty() && self.reported == Some(has);
        let silent_ms = now_ms.saturating_sub(self.reported_ms);
        if !self.is_watched() || (quiet && silent_ms < HEARTBEAT_MS) {
            return None;
        }
        self.number += 1;
        self.reported_ms = now_ms;
        self.reported = Some(has);
        Some(Report {
            pod: self.pod.clone(),
            epoch: self.epoch,
            number: self.number,
            sockets: has.sockets,
            messages: has.messages,
            channels: changed,
        })
    }
}

#[cfg(test)]
mod tests {
    use hubbub_protocol::{ChannelId, ChannelLetter};

    use super::*;

    const NOTHING: Has = Has {
        sockets: 0,
        messages: 0,
    };

    fn pod(name: &str) -> PodId {
        name.parse().expect("an id")
    }

    fn reporter() -> Reporter {
        Reporter::new(pod("edge-1"), "home".to_owned())
    }

    fn watch(watcher: u128, generation: u64, snapshot: bool) -> Watch {
        Watch {
            watcher: Uuid::from_u128(watcher),
            generation,
            reply_to: pod(&format!("api-{watcher}")),
            snapshot,
        }
    }

    fn unwatch(watcher: u128, generation: u64) -> Unwatch {
        Unwatch {
            watcher: Uuid::from_u128(watcher),
            generation,
        }
    }

    fn row(n: i64, connections: u64) -> ChannelLoad {
        ChannelLoad {
            channel: ChannelId::new(ChannelLetter::Channel, n).expect("from 1"),
            connections,
            messages: 0,
        }
    }

    #[test]
    fn unwatched_pod_says_nothing() {
        let mut reporter = reporter();
        assert_eq!(reporter.report(5_000, NOTHING, vec![row(1, 1)]), None);
        assert_eq!(reporter.next_snapshot(), None);
        reporter.watch(&watch(1, 1, true), 0, 7);
        assert_eq!(reporter.next_snapshot(), Some(pod("api-1")));
        reporter.unwatch(&unwatch(1, 1), 10);
        assert!(!reporter.is_watched());
        assert_eq!(reporter.report(5_000, NOTHING, vec![row(1, 1)]), None);
    }

    #[test]
    fn watched_pod_numbers_what_it_says_and_beats_when_quiet() {
        let mut reporter = reporter();
        reporter.watch(&watch(1, 1, true), 0, 7);
        let said = |reporter: &mut Reporter, now, rows| {
            let report = reporter.report(now, NOTHING, rows)?;
            Some((report.epoch, report.number, report.channels.len()))
        };
        assert_eq!(said(&mut reporter, 250, vec![]), Some((7, 1, 0)));
        assert_eq!(said(&mut reporter, 500, vec![]), None);
        assert_eq!(said(&mut reporter, 750, vec![row(1, 1)]), Some((7, 2, 1)));
        assert_eq!(said(&mut reporter, 1_749, vec![]), None);
        assert_eq!(said(&mut reporter, 1_750, vec![]), Some((7, 3, 0)));
        let has = Has {
            sockets: 1,
            messages: 0,
        };
        assert!(reporter.report(1_800, has, vec![]).is_some());
    }

    #[test]
    fn last_of_several_watchers_ends_it_and_a_killed_one_ends_by_its_lease() {
        let mut reporter = reporter();
        reporter.watch(&watch(1, 1, true), 0, 7);
        reporter.watch(&watch(2, 1, true), 3_000, 8);
        assert_eq!(reporter.watchers(), 2);
        reporter.unwatch(&unwatch(1, 1), 4_000);
        assert!(reporter.is_watched());
        reporter.expire(3_000 + limits::WATCH_LEASE_MS - 1);
        assert!(reporter.is_watched());
        let report = reporter.report(12_999, NOTHING, vec![]).expect("watched");
        assert_eq!(report.epoch, 7, "the epoch is that of the first");
        reporter.expire(3_000 + limits::WATCH_LEASE_MS);
        assert!(!reporter.is_watched());
        reporter.watch(&watch(2, 1, false), 20_000, 9);
        let report = reporter.report(20_000, NOTHING, vec![]).expect("watched");
        assert_eq!((report.epoch, report.number), (9, 1));
    }

    #[test]
    fn late_words_change_nothing() {
        let mut reporter = reporter();
        reporter.watch(&watch(1, 1, true), 0, 7);
        reporter.unwatch(&unwatch(1, 1), 10);
        reporter.watch(&watch(1, 1, true), 20, 8);
        assert!(!reporter.is_watched(), "a renewal behind its end");
        reporter.watch(&watch(1, 2, true), 30, 9);
        reporter.unwatch(&unwatch(1, 1), 40);
        assert!(reporter.is_watched(), "an end behind a new beginning");
    }

    #[test]
    fn new_watcher_is_given_a_snapshot_though_it_did_not_ask() {
        let mut reporter = reporter();
        reporter.watch(&watch(1, 1, false), 0, 7);
        assert_eq!(reporter.next_snapshot(), Some(pod("api-1")));
        reporter.watch(&watch(1, 1, false), 3_000, 8);
        assert_eq!(reporter.next_snapshot(), None);
        reporter.watch(&watch(1, 1, true), 3_100, 8);
        assert_eq!(reporter.next_snapshot(), Some(pod("api-1")));
        reporter.watch(&watch(1, 2, false), 3_200, 8);
        assert_eq!(reporter.next_snapshot(), Some(pod("api-1")));
    }

    #[test]
    fn big_snapshot_comes_in_bounded_parts() {
        let mut reporter = reporter();
        let rows: Vec<_> = (1..=1_201).map(|n| row(n, 1)).collect();
        let parts = reporter.snapshot(NOTHING, &rows);
        let sizes: Vec<_> = parts.iter().map(|part| part.channels.len()).collect();
        assert_eq!(sizes, [500, 500, 201]);
        assert!(parts.iter().all(|part| part.parts == 3));
        let empty = reporter.snapshot(NOTHING, &[]);
        assert_eq!((empty.len(), empty[0].parts, empty[0].snapshot), (1, 1, 2));
    }

    #[test]
    fn watchers_are_bounded() {
        let mut reporter = reporter();
        for n in 0..WATCHERS as u128 + 10 {
            reporter.watch(&watch(n, 1, true), 0, 7);
        }
        assert_eq!(reporter.watchers(), WATCHERS);
    }
}
