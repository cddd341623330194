//! The live dashboard: while somebody looks, this server watches the pods and keeps a picture of
//! what they have; each caller's stream is given what has changed in it since it was last written.
//!
//! `watch` speaks to the pods, `frames` turns the picture into what may be shown, `view` is what
//! one caller is shown, `stream` writes it, `channels` has the records of channels as they pass.
//! Nothing of it costs anything while nobody looks.

mod channels;
mod frames;
mod names;
mod page;
mod parked;
mod stream;
mod view;
mod watch;

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use hubbub_bus::{LEASE, Leases, Publisher, Subscriber};
use hubbub_dashboard::Picture;
use hubbub_protocol::{
    BusChannel, ChannelId, DashboardEvent, ErrorBody, ErrorCode, PodId, Snapshot, UserId,
};
use hubbub_store::Store;
use parking_lot::{Mutex, MutexGuard};
use tokio::{
    sync::{Notify, watch as latest},
    time::Instant,
};
use uuid::Uuid;

use crate::metrics::Metrics;

pub(crate) use self::stream::{Asked, Stream, body};
use self::{channels::Channels, frames::Frame, names::Names, parked::Parked};

/// Streams at one time; further ones are refused.
pub(crate) const STREAMS: usize = 200;
/// Of them, so many of one user: nobody takes everybody's places.
const STREAMS_OF_USER: usize = 10;
/// What a refused caller is told to wait.
const RETRY_AFTER_MS: u64 = 5_000;
/// A page of connections on a server without streams watches so much longer: whoever turns pages
/// does so within seconds.
pub(crate) const LINGER: Duration = Duration::from_secs(2);

/// Cheap handle.
#[derive(Clone)]
pub(crate) struct Dashboard {
    shared: Arc<Shared>,
}

struct Shared {
    pod: PodId,
    /// Names this process to the pods, and its events to their readers.
    watcher: Uuid,
    publisher: Publisher,
    subscriber: Subscriber,
    leases: Leases,
    store: Store,
    metrics: Metrics,
    started: Instant,
    state: Mutex<State>,
    names: Mutex<Names>,
    parked: Mutex<Parked>,
    channels: Channels,
    /// What may be shown now; `None` while nobody looks.
    frames: latest::Sender<Option<Arc<Frame>>>,
    /// Numbers the events of all streams.
    events: AtomicU64,
    /// For the task that watches: somebody came or went.
    wanted: Notify,
    /// For its part that speaks to the pods: there is something to ask.
    ask: Notify,
    /// For its part that makes frames: somebody came, or the picture is complete.
    look: Notify,
}

#[derive(Default)]
struct State {
    picture: Picture,
    watching: bool,
    generation: u64,
    /// `dashboard` was confirmed: all pods are to be asked.
    ask_all: bool,
    /// When the bus was last lost: for the length of a lease a listing says nothing.
    lost: Option<Instant>,
    /// Who looks, by number.
    viewers: BTreeMap<u64, Looks>,
    /// The number of the viewer who came last.
    newest: u64,
}

/// Who looks, and how.
struct Looks {
    user: UserId,
    /// For as long as they like, and not at one page.
    is_stream: bool,
}

/// Somebody looks, for as long as this is here.
pub(crate) struct Viewer {
    dashboard: Dashboard,
    number: u64,
}

impl Drop for Viewer {
    fn drop(&mut self) {
        let shared = &self.dashboard.shared;
        let mut state = shared.state.lock();
        state.viewers.remove(&self.number);
        shared.metrics.streams.set(state.streams().count() as u64);
        let was_last = state.viewers.is_empty();
        drop(state);
        if was_last {
            shared.wanted.notify_one();
        }
    }
}

impl State {
    /// The users of the streams, each as often as they have one.
    fn streams(&self) -> impl Iterator<Item = UserId> {
        let streams = self.viewers.values().filter(|looks| looks.is_stream);
        streams.map(|looks| looks.user)
    }

    /// Whether there is a place for one more stream.
    fn has_place(&self, user: UserId) -> Result<(), ErrorBody> {
        let of_user = self.streams().filter(|other| *other == user).count();
        let (message, limit) = if self.streams().count() >= STREAMS {
            ("too many look at the dashboard here", STREAMS)
        } else if of_user >= STREAMS_OF_USER {
            let message = "you look at the dashboard here too many times";
            (message, STREAMS_OF_USER)
        } else {
            return Ok(());
        };
        let error = ErrorBody::new(ErrorCode::Overloaded, message);
        Err(error.limit(limit as u64).retry_after_ms(RETRY_AFTER_MS))
    }
}

impl Dashboard {
    pub(crate) fn new(
        pod: PodId,
        store: Store,
        publisher: Publisher,
        subscriber: Subscriber,
        metrics: Metrics,
    ) -> Self {
        let shared = Shared {
            pod,
            watcher: Uuid::new_v4(),
            leases: Leases::new(&publisher),
            publisher,
            channels: Channels::new(subscriber.clone()),
            subscriber,
            store,
            metrics,
            started: Instant::now(),
            state: Mutex::default(),
            names: Mutex::default(),
            parked: Mutex::default(),
            frames: latest::Sender::new(None),
            events: AtomicU64::new(0),
            wanted: Notify::new(),
            ask: Notify::new(),
            look: Notify::new(),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// Somebody opens a stream.
    pub(crate) fn stream(&self, user: UserId) -> Result<Viewer, ErrorBody> {
        let state = self.shared.state.lock();
        if let Err(error) = state.has_place(user) {
            self.shared.metrics.streams_refused.inc();
            return Err(error);
        }
        Ok(self.view(state, user, true))
    }

    /// Somebody asks for a page.
    pub(crate) fn glance(&self, user: UserId) -> Viewer {
        self.view(self.shared.state.lock(), user, false)
    }

    fn view(&self, mut state: MutexGuard<'_, State>, user: UserId, is_stream: bool) -> Viewer {
        let shared = &self.shared;
        state.newest += 1;
        let number = state.newest;
        state.viewers.insert(number, Looks { user, is_stream });
        shared.metrics.streams.set(state.streams().count() as u64);
        drop(state);
        shared.wanted.notify_one();
        shared.look.notify_one();
        Viewer {
            dashboard: self.clone(),
            number,
        }
    }

    fn now_ms(&self) -> u64 {
        let since = self.shared.started.elapsed().as_millis();
        u64::try_from(since).unwrap_or(u64::MAX)
    }

    fn next_event(&self) -> u64 {
        self.shared.events.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Runs `f` on the picture, if there is one, and wakes whoever waits for what it changed.
    fn on_picture(&self, f: impl FnOnce(&mut Picture, u64)) {
        let now = self.now_ms();
        let mut state = self.shared.state.lock();
        if !state.watching {
            return;
        }
        let was_complete = state.picture.is_complete();
        f(&mut state.picture, now);
        let completed = !was_complete && state.picture.is_complete();
        drop(state);
        if completed {
            self.shared.look.notify_one();
        }
    }

    /// A part of a pod's snapshot, from this process's own channel.
    pub(crate) fn on_snapshot(&self, part: Snapshot) {
        self.shared.channels.on_rows(&part.pod, &part.channels);
        self.on_picture(|picture, now| picture.snapshot(part, now));
    }

    /// What came on `dashboard`; false if it cannot be read.
    pub(crate) fn on_event(&self, payload: &[u8]) -> bool {
        match serde_json::from_slice(payload) {
            Ok(DashboardEvent::Started { pod }) => {
                self.on_picture(|picture, now| picture.started(&pod, now));
                self.shared.ask.notify_one();
            }
            Ok(DashboardEvent::Report(report)) => {
                let channels = &self.shared.channels;
                channels.on_rows(&report.pod, &report.channels);
                let mut follows = true;
                self.on_picture(|picture, now| follows = picture.report(report, now));
                if !follows {
                    self.shared.metrics.dashboard_gaps.inc();
                    self.shared.ask.notify_one();
                }
            }
            Err(_) => return false,
        }
        true
    }

    /// A record or something else passes by on a channel that somebody has chosen.
    pub(crate) fn on_channel(&self, channel: ChannelId, payload: &bytes::Bytes) {
        self.shared.channels.on_payload(channel, payload);
    }

    /// Redis confirmed a subscription.
    pub(crate) fn on_subscribed(&self, to: &BusChannel) {
        match to {
            BusChannel::Dashboard => {
                self.shared.state.lock().ask_all = true;
                self.shared.ask.notify_one();
            }
            BusChannel::Channel(channel) => self.shared.channels.on_subscribed(*channel),
            _ => {}
        }
    }

    /// The bus was lost; what is wanted will be confirmed again.
    pub(crate) fn on_lost(&self) {
        self.shared.state.lock().lost = Some(Instant::now());
        self.shared.channels.on_lost();
    }

    /// Whether a Redis that came back empty may have forgotten leases.
    fn leases_may_be_forgotten(&self) -> bool {
        let lost = self.shared.state.lock().lost;
        lost.is_some_and(|at| at.elapsed() < LEASE)
    }
}
