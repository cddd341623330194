//! What this pod tells the dashboard, while somebody watches it. The rules are in
//! `hubbub-dashboard`; here they are given what the hub has, and what they say is published.
//!
//! While nobody watches, all that is left of this is one flag that is looked at when a message was
//! accepted, and an empty place in the hub where a socket joins or leaves a channel.

use std::{
    collections::HashMap,
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use hubbub_dashboard::{Accepted, Has, Reporter};
use hubbub_protocol::{
    BusChannel, ChannelId, ChannelLoad, DashboardEvent, PodId, PodMessage, Report, Snapshot,
    Unwatch, Watch, limits,
};
use parking_lot::Mutex;
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};

use crate::{
    Edge,
    hub::{Hub, Loads},
};

/// Between reports while something changes: four a second look live.
const REPORT_EVERY: Duration = Duration::from_millis(250);
/// Reports in a row, where more has changed than one may hold; the rest comes the next time.
const REPORTS_AT_ONCE: usize = 64;

/// Who watches, and what is counted for them.
#[derive(Debug)]
pub(crate) struct Dashboard {
    /// Somebody watches.
    watched: AtomicBool,
    inner: Mutex<Inner>,
    /// For the task: a watcher has said something.
    due: Notify,
}

#[derive(Debug)]
struct Inner {
    reporter: Reporter,
    accepted: Accepted,
}

impl Dashboard {
    pub(crate) fn new(pod: PodId, region: String) -> Self {
        Self {
            watched: AtomicBool::new(false),
            inner: Mutex::new(Inner {
                reporter: Reporter::new(pod, region),
                accepted: Accepted::default(),
            }),
            due: Notify::new(),
        }
    }

    fn is_watched(&self) -> bool {
        self.watched.load(Ordering::Relaxed)
    }

    /// The log acknowledged something to one of this pod's sockets.
    pub(crate) fn accepted(&self, channel: ChannelId) {
        if self.is_watched() {
            self.inner.lock().accepted.add(channel);
        }
    }

    /// An API server watches.
    pub(crate) fn watch(&self, watch: &Watch, now_ms: u64) {
        let mut inner = self.inner.lock();
        let before = inner.reporter.epoch();
        inner.reporter.watch(watch, now_ms, rand::random());
        if inner.reporter.epoch() != before {
            inner.accepted.clear();
        }
        let watched = inner.reporter.is_watched();
        self.watched.store(watched, Ordering::Relaxed);
        drop(inner);
        self.due.notify_one();
    }

    /// It does so no more.
    pub(crate) fn unwatch(&self, unwatch: &Unwatch, now_ms: u64) {
        let mut inner = self.inner.lock();
        inner.reporter.unwatch(unwatch, now_ms);
        let watched = inner.reporter.is_watched();
        self.watched.store(watched, Ordering::Relaxed);
        drop(inner);
        self.due.notify_one();
    }

    /// Lets time pass; how many watch now.
    fn expire(&self, now_ms: u64) -> usize {
        let mut inner = self.inner.lock();
        inner.reporter.expire(now_ms);
        let watchers = inner.reporter.watchers();
        self.watched.store(watchers > 0, Ordering::Relaxed);
        watchers
    }

    fn next_snapshot(&self) -> Option<PodId> {
        self.inner.lock().reporter.next_snapshot()
    }

    /// Everything, in parts.
    fn snapshot(&self, hub: &Hub) -> Vec<Snapshot> {
        let loads = hub.all_loads();
        let mut inner = self.inner.lock();
        let mut connections: HashMap<ChannelId, u64> = loads.channels.into_iter().collect();
        for channel in inner.accepted.channels() {
            connections.entry(channel).or_default();
        }
        let rows: Vec<ChannelLoad> = connections.into_iter().map(|row| inner.load(row)).collect();
        let has = inner.has(loads.sockets);
        inner.reporter.snapshot(has, &rows)
    }

    /// What has changed, if there is anything to say; and whether there is more.
    fn report(&self, hub: &Hub, now_ms: u64) -> Option<(Report, bool)> {
        let mut inner = self.inner.lock();
        let also = inner.accepted.take_changed(limits::REPORT_ROWS / 2);
        let full = also.len() == limits::REPORT_ROWS / 2;
        let Loads {
            sockets,
            channels,
            more,
        } = hub.take_loads(limits::REPORT_ROWS - also.len(), &also);
        let rows = channels.into_iter().map(|row| inner.load(row)).collect();
        let has = inner.has(sockets);
        let report = inner.reporter.report(now_ms, has, rows)?;
        Some((report, more || full))
    }
}

impl Inner {
    fn load(&self, (channel, connections): (ChannelId, u64)) -> ChannelLoad {
        ChannelLoad {
            channel,
            connections,
            messages: self.accepted.of(channel),
        }
    }

    fn has(&self, sockets: u64) -> Has {
        Has {
            sockets,
            messages: self.accepted.total(),
        }
    }
}

/// Asks whether somebody watches: once, when the pod can hear the answer. One that is lost is made
/// up for by the watchers' next renewal.
pub(crate) fn ask(edge: &Edge) {
    let started = DashboardEvent::Started {
        pod: edge.pod.clone(),
    };
    let payload = Bytes::from(started.encode());
    if edge
        .publisher
        .offer(&BusChannel::Dashboard, payload)
        .is_err()
    {
        edge.metrics.dashboard("refused");
    }
}

/// Reports while somebody watches. Runs until cancelled.
pub(crate) async fn run(edge: Arc<Edge>) -> Result<(), Infallible> {
    let dashboard = &edge.dashboard;
    let mut next = Instant::now();
    let mut follows = false;
    loop {
        if dashboard.is_watched() {
            // Waits for the next report, or for a word of a watcher. Both are cancel-safe.
            tokio::select! {
                () = sleep_until(next) => {}
                () = dashboard.due.notified() => {}
            }
        } else {
            dashboard.due.notified().await;
        }
        let watchers = dashboard.expire(edge.now_ms());
        edge.metrics.watchers.set(watchers as i64);
        // Before the first snapshot, so that nothing falls between the two.
        if follows != (watchers > 0) {
            follows = watchers > 0;
            edge.hub.follow_loads(follows);
        }
        if !follows {
            continue;
        }
        while let Some(to) = dashboard.next_snapshot() {
            send_snapshot(&edge, to).await;
        }
        if Instant::now() >= next {
            let jitter = 0.9 + rand::random::<f64>() * 0.2;
            next = Instant::now() + REPORT_EVERY.mul_f64(jitter);
            send_reports(&edge).await;
        }
    }
}

/// The parts one after another: each waits for the answer of the one before, so that a big one
/// does not fill the queue to the bus. One that fails is asked for again.
async fn send_snapshot(edge: &Edge, to: PodId) {
    edge.metrics.dashboard("snapshot");
    let to = BusChannel::Pod(to);
    for part in edge.dashboard.snapshot(&edge.hub) {
        let payload = Bytes::from(PodMessage::Snapshot(part).encode());
        if let Err(error) = edge.publisher.publish(&to, payload).await {
            edge.metrics.dashboard("failed");
            tracing::debug!(error = %error, "send a snapshot to the dashboard");
            return;
        }
    }
}

async fn send_reports(edge: &Edge) {
    for _ in 0..REPORTS_AT_ONCE {
        let Some((report, more)) = edge.dashboard.report(&edge.hub, edge.now_ms()) else {
            return;
        };
        edge.metrics.dashboard("report");
        let payload = Bytes::from(DashboardEvent::Report(report).encode());
        // One that is lost leaves a gap in the numbers.
        if let Err(error) = edge
            .publisher
            .publish(&BusChannel::Dashboard, payload)
            .await
        {
            edge.metrics.dashboard("failed");
            tracing::debug!(error = %error, "report to the dashboard");
        }
        if !more {
            return;
        }
    }
}
