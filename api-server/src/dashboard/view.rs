//! What one caller is shown, and what has changed in it. No I/O.

use std::{cmp::Reverse, collections::HashMap};

use hubbub_dashboard::Sum;
use hubbub_protocol::{
    PodId, UserId,
    events::{ChannelRow, DashboardChange, DashboardSnapshot, Group, PodRow, RowId, Totals},
    http::ChannelKind,
};

use super::frames::{Frame, per_s};

/// What one caller is shown.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct View {
    complete: bool,
    missing: Vec<PodId>,
    totals: Totals,
    pods: Vec<PodRow>,
    more_pods: u64,
    channels: Vec<ChannelRow>,
    more: u64,
}

fn tenths(row: &ChannelRow) -> u64 {
    (row.messages_per_s * 10.0).round() as u64
}

/// Channels that are put together; nothing where there are none.
fn group(group: Group, kind: ChannelKind, sum: Sum) -> Option<ChannelRow> {
    (sum.channels > 0).then(|| ChannelRow {
        channel: RowId::Group(group),
        name: None,
        kind,
        connections: sum.connections,
        messages_per_s: per_s(sum.tenths),
        channels: Some(sum.channels),
    })
}

impl View {
    /// What `user` may see of a frame, with the `top` channels that have most connections.
    pub(super) fn of(frame: &Frame, user: UserId, top: usize) -> Self {
        let mine = frame.private.iter();
        let mine: Vec<&ChannelRow> = mine
            .filter(|(channel, _)| frame.access.contains(&(*channel, user)))
            .map(|(_, row)| row)
            .collect();
        let visible = frame.public_count + mine.len() as u64;
        let mut others = frame.hidden;
        for row in &mine {
            others.channels = others.channels.saturating_sub(1);
            others.connections = others.connections.saturating_sub(row.connections);
            others.tenths = others.tenths.saturating_sub(tenths(row));
        }
        let mut rows: Vec<&ChannelRow> = frame.public.iter().chain(mine).collect();
        rows.sort_by_key(|row| (Reverse(row.connections), row.channel));
        rows.truncate(top);
        let more = visible.saturating_sub(rows.len() as u64);
        let mut channels: Vec<ChannelRow> = rows.into_iter().cloned().collect();
        channels.extend(group(Group::Private, ChannelKind::Private, others));
        channels.extend(group(Group::Direct, ChannelKind::Direct, frame.direct));
        Self {
            complete: frame.complete,
            missing: frame.missing.clone(),
            totals: frame.totals.clone(),
            pods: frame.pods.clone(),
            more_pods: frame.more_pods,
            channels,
            more,
        }
    }

    /// All of it.
    pub(super) fn snapshot(&self, at_ms: i64) -> DashboardSnapshot {
        DashboardSnapshot {
            at_ms,
            complete: self.complete,
            missing: self.missing.clone(),
            totals: self.totals.clone(),
            pods: self.pods.clone(),
            more_pods: self.more_pods,
            channels: self.channels.clone(),
            more: self.more,
        }
    }

    /// What is new since `before`; `None` where nothing is.
    pub(super) fn change(&self, before: &Self, at_ms: i64) -> Option<DashboardChange> {
        if self == before {
            return None;
        }
        let (pods, pods_gone) = changed(&before.pods, &self.pods, |row| row.pod.clone());
        let (channels, channels_gone) =
            changed(&before.channels, &self.channels, |row| row.channel);
        Some(DashboardChange {
            at_ms,
            complete: self.complete,
            missing: self.missing.clone(),
            totals: self.totals.clone(),
            pods,
            pods_gone,
            more_pods: self.more_pods,
            channels,
            channels_gone,
            more: self.more,
        })
    }
}

/// Rows that are new or another than before, and the keys of those that are gone.
fn changed<R: Clone + PartialEq, K: Eq + std::hash::Hash>(
    before: &[R],
    after: &[R],
    key: impl Fn(&R) -> K,
) -> (Vec<R>, Vec<K>) {
    let mut old: HashMap<K, &R> = before.iter().map(|row| (key(row), row)).collect();
    let mut changed = Vec::new();
    for row in after {
        if old.remove(&key(row)) != Some(row) {
            changed.push(row.clone());
        }
    }
    (changed, old.into_keys().collect())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use hubbub_protocol::{ChannelId, ChannelLetter};
    use proptest::prelude::*;

    use super::*;

    fn user(n: i64) -> UserId {
        UserId::new(n).expect("from 1")
    }

    fn channel(n: i64) -> ChannelId {
        ChannelId::new(ChannelLetter::Channel, n).expect("from 1")
    }

    fn row(n: i64, kind: ChannelKind, connections: u64) -> ChannelRow {
        ChannelRow {
            channel: RowId::Channel(channel(n)),
            name: Some(format!("number {n}")),
            kind,
            connections,
            messages_per_s: connections as f64 / 10.0,
            channels: None,
        }
    }

    /// Channels 1 to 6; the even ones are private, and user 1 belongs to 2, user 2 to none.
    fn frame(connections: &[u64]) -> Frame {
        let mut frame = Frame {
            direct: Sum {
                channels: 3,
                connections: 4,
                tenths: 0,
            },
            ..Frame::default()
        };
        for (n, connections) in (1..).zip(connections.iter().copied()) {
            if connections == 0 {
                continue;
            }
            if n % 2 == 0 {
                frame.hidden.channels += 1;
                frame.hidden.connections += connections;
                frame.hidden.tenths += connections;
                let row = row(n, ChannelKind::Private, connections);
                frame.private.push((channel(n), row));
            } else {
                frame.public_count += 1;
                frame.public.push(row(n, ChannelKind::Public, connections));
            }
        }
        frame
            .public
            .sort_by_key(|row| (Reverse(row.connections), row.channel));
        frame.access.insert((channel(2), user(1)));
        frame
    }

    #[test]
    fn foreign_private_channels_are_one_row_without_a_name() {
        let frame = frame(&[1, 2, 3, 4, 5, 6]);
        let member = View::of(&frame, user(1), 10);
        let shown: Vec<_> = member.channels.iter().map(|row| row.connections).collect();
        assert_eq!(shown, [5, 3, 2, 1, 10, 4]);
        assert_eq!(member.channels[4].channels, Some(2));
        let stranger = View::of(&frame, user(2), 2);
        let shown: Vec<_> = stranger
            .channels
            .iter()
            .map(|row| row.connections)
            .collect();
        assert_eq!((shown, stranger.more), (vec![5, 3, 12, 4], 1));
        let text = serde_json::to_string(&stranger.snapshot(0)).expect("only string keys");
        assert!(
            !text.contains("number 2") && !text.contains("C000000002"),
            "{text}"
        );
    }

    proptest! {
        /// Whoever takes the changes in turn has what a snapshot would show.
        #[test]
        fn changes_add_up(
            looks in proptest::collection::vec(proptest::collection::vec(0..4u64, 6), 1..12),
            top in 1..5usize,
        ) {
            let mut shown: BTreeMap<RowId, ChannelRow> = BTreeMap::new();
            let mut last: Option<View> = None;
            for look in looks {
                let view = View::of(&frame(&look), user(1), top);
                match &last {
                    None => shown.extend(view.channels.iter().map(|row| (row.channel, row.clone()))),
                    Some(before) => match view.change(before, 0) {
                        None => prop_assert_eq!(before, &view),
                        Some(change) => {
                            for gone in change.channels_gone {
                                prop_assert!(shown.remove(&gone).is_some());
                            }
                            shown.extend(change.channels.into_iter().map(|row| (row.channel, row)));
                        }
                    },
                }
                let truth: BTreeMap<_, _> =
                    view.channels.iter().map(|row| (row.channel, row.clone())).collect();
                prop_assert_eq!(&shown, &truth);
                last = Some(view);
            }
        }
    }
}
