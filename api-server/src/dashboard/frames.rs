//! Frames: the picture with names, cut to what may be shown, made once for all streams.

use std::{collections::HashSet, sync::Arc, time::Duration};

use hubbub_dashboard::{ChannelState, Sum};
use hubbub_protocol::{
    ChannelId, PodId, UserId,
    events::{ChannelRow, PodRow, PodStanding, RowId, Totals},
    http::ChannelKind,
    limits,
};
use hubbub_service::wall_clock_ms;
use tokio::time::{Instant, sleep_until, timeout};

use super::{Dashboard, State, names::Names};

/// Between frames: at most four a second.
const EVERY: Duration = Duration::from_millis(250);
/// The first frame waits so long for all pods.
const COMPLETE_WITHIN: Duration = Duration::from_millis(500);
/// Without a change a frame is made anew so often: who belongs to what is read again.
const REFRESH: Duration = Duration::from_secs(1);
/// Names that are read with one statement, and statements for one frame.
const NAMES_AT_ONCE: usize = 1_000;
const NAME_READS: usize = 5;
/// Private channels with most connections, which are looked at for each viewer.
pub(super) const PRIVATE: usize = 1_000;
/// A read of who belongs to what may take so long.
const ACCESS_WITHIN: Duration = Duration::from_secs(1);
/// Who belongs to what is believed for so long.
const BELIEVED: Duration = Duration::from_secs(2);

/// What may be shown at one moment.
#[derive(Debug, Default)]
pub(super) struct Frame {
    pub(super) at_ms: i64,
    pub(super) complete: bool,
    pub(super) missing: Vec<PodId>,
    pub(super) totals: Totals,
    pub(super) pods: Vec<PodRow>,
    pub(super) more_pods: u64,
    /// The public channels with most connections.
    pub(super) public: Vec<ChannelRow>,
    pub(super) public_count: u64,
    /// The private channels with most connections.
    pub(super) private: Vec<(ChannelId, ChannelRow)>,
    /// All private channels, and those of whom nothing is known.
    pub(super) hidden: Sum,
    pub(super) direct: Sum,
    /// Which viewers belong to which of the private channels.
    pub(super) access: HashSet<(ChannelId, UserId)>,
    /// Viewers up to this number were looked at.
    pub(super) newest: u64,
    /// When the memberships were asked for; `None` where that is of no account.
    pub(super) as_of: Option<Instant>,
}

impl Frame {
    /// Whether it may still be shown: what it says of memberships is not too old.
    pub(super) fn is_believed(&self) -> bool {
        self.as_of.is_none_or(|as_of| as_of.elapsed() <= BELIEVED)
    }
}

pub(super) fn per_s(tenths: u64) -> f64 {
    tenths as f64 / 10.0
}

/// A row of one channel.
pub(super) fn row(state: ChannelState, kind: ChannelKind, name: Option<&str>) -> ChannelRow {
    ChannelRow {
        channel: RowId::Channel(state.channel),
        name: name.map(str::to_owned),
        kind,
        connections: state.connections,
        messages_per_s: per_s(state.tenths),
        channels: None,
    }
}

impl Dashboard {
    /// Makes frames. Never ends.
    pub(super) async fn make_frames(&self) {
        let complete_by = Instant::now() + COMPLETE_WITHIN;
        loop {
            let is_complete = self.shared.state.lock().picture.is_complete();
            if is_complete || Instant::now() >= complete_by {
                break;
            }
            // Waits for the end of the patience, or for the last pod. Both are cancel-safe.
            tokio::select! {
                () = sleep_until(complete_by) => {}
                () = self.shared.look.notified() => {}
            }
        }
        let mut last: Option<(u64, u64, Instant)> = None;
        loop {
            let begun = Instant::now();
            let (version, newest) = {
                let state = self.shared.state.lock();
                (state.picture.version(), state.newest)
            };
            let is_due = last.is_none_or(|(shown, seen, at)| {
                shown != version || seen != newest || at.elapsed() >= REFRESH
            });
            if is_due {
                let frame = self.frame().await;
                self.shared.frames.send_replace(Some(Arc::new(frame)));
                last = Some((version, newest, begun));
            }
            sleep_until(begun + EVERY).await;
        }
    }

    async fn frame(&self) -> Frame {
        self.read_names().await;
        let (users, newest, private) = {
            let state = self.shared.state.lock();
            let names = self.shared.names.lock();
            let users: HashSet<UserId> = state.viewers.values().map(|looks| looks.user).collect();
            (users, state.newest, private_channels(&state, &names))
        };
        let users: Vec<UserId> = users.into_iter().collect();
        let as_of = Instant::now();
        let read = timeout(ACCESS_WITHIN, self.memberships(&users, &private)).await;
        // Without an answer private channels are shown to nobody, and all else to everybody.
        let access = read.unwrap_or_else(|_| {
            tracing::debug!("read memberships for the dashboard: no answer in time");
            HashSet::new()
        });
        let state = self.shared.state.lock();
        let names = self.shared.names.lock();
        Frame {
            newest,
            as_of: (!access.is_empty()).then_some(as_of),
            access,
            ..compose(&state, &names)
        }
    }

    /// Who of the users belongs to which of the channels; nobody while that cannot be read.
    pub(super) async fn memberships(
        &self,
        users: &[UserId],
        channels: &[ChannelId],
    ) -> HashSet<(ChannelId, UserId)> {
        if users.is_empty() || channels.is_empty() {
            return HashSet::new();
        }
        let found = self.shared.store.memberships_among(users, channels).await;
        found.unwrap_or_else(|error| {
            tracing::debug!(%error, "read memberships for the dashboard");
            HashSet::new()
        })
    }

    /// Reads names that are not known yet. Without them a channel is nobody's to see.
    pub(super) async fn read_names(&self) {
        for _ in 0..NAME_READS {
            let unknown = {
                let state = self.shared.state.lock();
                let ids = state.picture.channels().map(|channel| channel.channel);
                self.shared.names.lock().unknown(ids, NAMES_AT_ONCE)
            };
            if unknown.is_empty() {
                return;
            }
            match self.shared.store.channel_names(&unknown).await {
                Ok(said) => self.shared.names.lock().learn(&unknown, said),
                Err(error) => {
                    tracing::debug!(%error, "read names for the dashboard");
                    return;
                }
            }
        }
    }

    /// The private channels with most connections, of those whose names are known.
    pub(super) fn private_channels(&self) -> Vec<ChannelId> {
        let state = self.shared.state.lock();
        private_channels(&state, &self.shared.names.lock())
    }
}

fn private_channels(state: &State, names: &Names) -> Vec<ChannelId> {
    let is_private = |channel: &ChannelState| {
        let known = names.get(channel.channel);
        known.is_some_and(|known| known.kind == ChannelKind::Private && known.name.is_some())
    };
    let channels = state.picture.channels().filter(is_private);
    channels
        .map(|channel| channel.channel)
        .take(PRIVATE)
        .collect()
}

fn compose(state: &State, names: &Names) -> Frame {
    let picture = &state.picture;
    let mut frame = Frame {
        at_ms: wall_clock_ms(),
        complete: picture.is_complete(),
        missing: picture.missing(),
        direct: picture.direct(),
        ..Frame::default()
    };
    frame.missing.truncate(limits::DASHBOARD_ROWS);
    for pod in picture.pods() {
        frame.totals.pods += 1;
        if frame.pods.len() >= limits::DASHBOARD_ROWS {
            frame.more_pods += 1;
            continue;
        }
        frame.pods.push(PodRow {
            pod: pod.pod,
            region: pod.region,
            sockets: pod.sockets,
            channels: pod.channels,
            messages_per_s: per_s(pod.tenths),
            state: if pod.reports {
                PodStanding::Reporting
            } else {
                PodStanding::Silent
            },
        });
    }
    let mut open = frame.direct.channels;
    for channel in picture.channels() {
        open += u64::from(channel.connections > 0);
        match names.get(channel.channel) {
            Some(known) if known.kind == ChannelKind::Public => {
                frame.public_count += 1;
                if frame.public.len() < limits::DASHBOARD_ROWS {
                    frame
                        .public
                        .push(row(channel, known.kind, known.name.as_deref()));
                }
            }
            known => {
                frame.hidden.channels += 1;
                frame.hidden.connections += channel.connections;
                frame.hidden.tenths += channel.tenths;
                if let Some(known) = known
                    && let Some(name) = &known.name
                    && frame.private.len() < PRIVATE
                {
                    let row = row(channel, known.kind, Some(name));
                    frame.private.push((channel.channel, row));
                }
            }
        }
    }
    frame.totals.sockets = picture.sockets();
    frame.totals.channels = open;
    frame.totals.messages_per_s = per_s(picture.tenths());
    frame
}
