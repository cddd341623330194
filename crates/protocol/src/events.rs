//! What the dashboard shows: the events of `GET /api/events`, and `GET /api/connections`.

use serde::{Deserialize, Serialize};

use crate::{ChannelId, PodId, http::ChannelKind, http::Listener};

/// Channels that are shown as one row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Group {
    /// Private channels that the caller does not belong to.
    Private,
    /// Direct channels, whoever's.
    Direct,
}

/// What a row is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(untagged)]
pub enum RowId {
    /// One channel.
    Channel(ChannelId),
    /// Several.
    Group(Group),
}

/// A row of the dashboard's channels.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ChannelRow {
    /// The channel; `private` or `direct` for those that are put together.
    pub channel: RowId,
    /// Its name; absent for several.
    pub name: Option<String>,
    /// What it is.
    pub kind: ChannelKind,
    /// Sockets that listen to it, on all pods.
    pub connections: u64,
    /// What the log acknowledged to sockets, a second, over the last five.
    pub messages_per_s: f64,
    /// How many channels were put together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channels: Option<u64>,
}

/// Whether a pod is heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PodStanding {
    /// It reports.
    Reporting,
    /// It has not told yet, or has said nothing for some seconds.
    Silent,
}

/// A row of the dashboard's pods.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PodRow {
    /// Which.
    pub pod: PodId,
    /// Where it is; empty until it has told.
    pub region: String,
    /// Sockets.
    pub sockets: u64,
    /// Channels that somebody listens to there.
    pub channels: u64,
    /// What the log acknowledged to its sockets, a second, over the last five.
    pub messages_per_s: f64,
    /// Whether it is heard.
    pub state: PodStanding,
}

/// Everything together.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Totals {
    /// Pods.
    pub pods: u64,
    /// Sockets on all of them.
    pub sockets: u64,
    /// Channels that somebody listens to.
    pub channels: u64,
    /// As in the rows, over all of them.
    pub messages_per_s: f64,
}

/// The event `snapshot`: everything that this caller is shown.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DashboardSnapshot {
    /// When it was made, milliseconds since 1970.
    pub at_ms: i64,
    /// Whether every pod with a lease has told and is heard.
    pub complete: bool,
    /// Those that have not, or are not.
    pub missing: Vec<PodId>,
    /// Everything together, whatever is shown of it.
    pub totals: Totals,
    /// By name, at most [`crate::limits::DASHBOARD_ROWS`].
    pub pods: Vec<PodRow>,
    /// Pods that are not shown.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub more_pods: u64,
    /// Those with most connections, by connections, then by id; groups come last.
    pub channels: Vec<ChannelRow>,
    /// Channels that the caller may see and that are not among the rows.
    pub more: u64,
}

/// The event `change`: the same where it has changed since the event before.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DashboardChange {
    /// As in the snapshot, like `complete`, `missing`, `totals`, `more_pods` and `more`.
    pub at_ms: i64,
    /// See there.
    pub complete: bool,
    /// See there.
    pub missing: Vec<PodId>,
    /// See there.
    pub totals: Totals,
    /// Rows that are new or have changed, in no order.
    pub pods: Vec<PodRow>,
    /// Pods whose row is gone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pods_gone: Vec<PodId>,
    /// See there.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub more_pods: u64,
    /// Rows that are new or have changed, in no order.
    pub channels: Vec<ChannelRow>,
    /// Channels whose row is gone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub channels_gone: Vec<RowId>,
    /// See there.
    pub more: u64,
}

/// The event `live`: who listens to the channel that was chosen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LiveChannel {
    /// Which.
    pub channel: ChannelId,
    /// At most [`crate::limits::DASHBOARD_ROWS`].
    pub listeners: Vec<Listener>,
    /// Listeners that are not named.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub more: u64,
    /// Whether every pod with a lease answered.
    pub complete: bool,
    /// Those that did not.
    pub missing: Vec<PodId>,
}

/// The events `missed` (records of the channel may have passed unseen) and `left` (the caller is
/// no member any more, and nothing more of the channel comes).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OfChannel {
    /// Which.
    pub channel: ChannelId,
}

/// The event `goodbye`: the server restarts, and the stream ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventsGoodbye {
    /// The least time to wait, in milliseconds.
    pub reconnect_after_ms: u64,
}

/// `GET /api/connections`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ConnectionsPage {
    /// Channels that the caller may see, by connections, then by id.
    pub items: Vec<ChannelRow>,
    /// How many there are on all pages.
    pub total: u64,
    /// As in the snapshot.
    pub complete: bool,
    /// As in the snapshot.
    pub missing: Vec<PodId>,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_of_a_channel_or_of_a_group() {
        let channel: ChannelId = "C000000005".parse().expect("an id");
        for (id, text) in [
            (RowId::Channel(channel), r#""C000000005""#),
            (RowId::Group(Group::Private), r#""private""#),
            (RowId::Group(Group::Direct), r#""direct""#),
        ] {
            assert_eq!(serde_json::to_string(&id).expect("a string"), text);
            assert_eq!(serde_json::from_str::<RowId>(text).expect("an id"), id);
        }
        assert!(serde_json::from_str::<RowId>("\"other\"").is_err());
    }
}
