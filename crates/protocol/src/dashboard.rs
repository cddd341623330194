//! What pods and API servers tell one another for the dashboard, while somebody watches it.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{ChannelId, PodId};

/// An API server watches: on `pods` to all, or on `pod-<id>` to one. Renewed while it lasts; it
/// ends by itself [`crate::limits::WATCH_LEASE_MS`] after the last renewal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watch {
    /// Who watches: drawn at the start of the process, so that nobody is taken for an earlier
    /// process of the same name.
    pub watcher: Uuid,
    /// Counts the times that the watcher began to watch. One below the last known is late.
    pub generation: u64,
    /// Snapshots go to `pod-<reply_to>`.
    pub reply_to: PodId,
    /// Whether a snapshot is wanted. A pod to which the watcher is new gives one in any case.
    pub snapshot: bool,
}

/// An API server watches no more: on `pods`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unwatch {
    /// Who.
    pub watcher: Uuid,
    /// The generation that is over.
    pub generation: u64,
}

/// What a pod has of one channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChannelLoad {
    /// Which channel.
    pub channel: ChannelId,
    /// Sockets that listen to it.
    pub connections: u64,
    /// What the log acknowledged to sockets of the pod since its epoch began.
    pub messages: u64,
}

/// A pod's report, on `dashboard`: what it has now of the channels that have changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Whose.
    pub pod: PodId,
    /// The life of the counters: another one each time the pod begins to report.
    pub epoch: u64,
    /// Counts the reports of the epoch, from 1, so that a lost one is noticed by the next.
    pub number: u64,
    /// Sockets of the pod.
    pub sockets: u64,
    /// Messages and changes that the log acknowledged to them since the epoch began.
    pub messages: u64,
    /// At most [`crate::limits::REPORT_ROWS`]; none where nothing has changed (a sign of life).
    pub channels: Vec<ChannelLoad>,
}

/// A part of a pod's snapshot, on `pod-<reply_to>`: everything that it has, as of one report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Whose.
    pub pod: PodId,
    /// The pod's region.
    pub region: String,
    /// As [`Report::epoch`].
    pub epoch: u64,
    /// The last report before the snapshot; 0 before the first.
    pub number: u64,
    /// Counts the pod's snapshots, so that parts of two are not put together.
    pub snapshot: u64,
    /// Which part, from 0.
    pub part: u32,
    /// How many there are, from 1.
    pub parts: u32,
    /// As [`Report::sockets`].
    pub sockets: u64,
    /// As [`Report::messages`].
    pub messages: u64,
    /// At most [`crate::limits::REPORT_ROWS`].
    pub channels: Vec<ChannelLoad>,
}

/// What arrives on `dashboard`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum DashboardEvent {
    /// A pod has just started and asks whether somebody watches.
    Started {
        /// Which pod.
        pod: PodId,
    },
    /// A pod reports.
    Report(Report),
}

impl DashboardEvent {
    /// The payload for `dashboard`.
    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("an event has only string keys")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PodMessage;

    #[test]
    fn messages_of_the_dashboard_survive_the_bus() {
        let pod: PodId = "edge-1".parse().expect("an id");
        let row = ChannelLoad {
            channel: "C000000005".parse().expect("an id"),
            connections: 2,
            messages: 7,
        };
        let report = Report {
            pod: pod.clone(),
            epoch: u64::MAX,
            number: 3,
            sockets: 2,
            messages: 9,
            channels: vec![row],
        };
        for event in [
            DashboardEvent::Started { pod: pod.clone() },
            DashboardEvent::Report(report),
        ] {
            let back: DashboardEvent =
                serde_json::from_slice(&event.encode()).expect("what was encoded");
            assert_eq!(back, event);
        }
        let watch = Watch {
            watcher: Uuid::from_u128(7),
            generation: 1,
            reply_to: pod.clone(),
            snapshot: true,
        };
        let unwatch = Unwatch {
            watcher: Uuid::from_u128(7),
            generation: 1,
        };
        let snapshot = Snapshot {
            pod,
            region: "home".to_owned(),
            epoch: 1,
            number: 0,
            snapshot: 1,
            part: 0,
            parts: 1,
            sockets: 2,
            messages: 9,
            channels: vec![row],
        };
        for message in [
            PodMessage::Watch(watch),
            PodMessage::Unwatch(unwatch),
            PodMessage::Snapshot(snapshot),
        ] {
            let back: PodMessage =
                serde_json::from_slice(&message.encode()).expect("what was encoded");
            assert_eq!(back, message);
        }
    }
}
