//! One pod: sockets, feeds, fan-out.
//!
//! Promises: what a socket is shown is already in the log (contract P1); a joined device gets
//! every record after its join point exactly once and by the rules of order (P4, P5); a hole is
//! noticed and repaired within 2 s (P7); a removed user gets nothing more once the removal was
//! answered (P8); every queue has a bound and a slow client costs at most 1 MiB here (P10); a
//! drain loses nothing (P11). It keeps nothing that another pod could not rebuild.
//!
//! Where to read: `pod` starts everything, `connection` is one socket, `hub` is who is here, `people`
//! what they see of one another, `feed` decides what each socket is given, `relay` brings the bus to
//! the feeds, `fetch` asks the store for them.

mod accept;
pub mod config;
mod connection;
mod control;
mod dashboard;
mod drain;
pub mod feed;
mod fetch;
#[cfg(test)]
mod footprint;
mod handshake;
mod hub;
mod metrics;
mod outbox;
mod people;
mod pod;
mod rate;
mod recheck;
mod relay;
mod socket;
mod start;
mod tasks;
mod wire;

use std::{
    num::NonZeroUsize,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use hubbub_bus::{Asker, LEASE, Leases, Publisher, Subscriber};
use hubbub_chat::{Chat, Questions};
use hubbub_protocol::{BusChannel, ChannelId, CloseCode, PodId, UserId};
use hubbub_service::{Lifecycle, Readiness, token::Verifier};
use hubbub_store::Store;
use lru::LruCache;
use parking_lot::Mutex;
use tokio::{sync::Notify, time::Instant};
use tokio_util::sync::CancellationToken;

pub use crate::{config::Config, pod::Pod};
use crate::{
    dashboard::Dashboard,
    feed::SocketId,
    fetch::Fetcher,
    hub::{Bus, Hub, JoinRefused, JoinRequest, Turn},
    metrics::Metrics,
    outbox::Outbox,
    people::errands::Errands,
    socket::{Flushed, Socket},
};

/// Subjects whose user is remembered; a subject never changes its user.
const SUBJECTS: NonZeroUsize = NonZeroUsize::new(10_000).expect("not zero");

/// What the parts of an edge share.
pub(crate) struct Edge {
    pub(crate) config: Config,
    pub(crate) pod: PodId,
    pub(crate) hub: Hub,
    pub(crate) chat: Chat,
    pub(crate) store: Store,
    pub(crate) publisher: Publisher,
    pub(crate) subscriber: Subscriber,
    pub(crate) leases: Leases,
    pub(crate) asker: Asker,
    pub(crate) fetcher: Fetcher,
    pub(crate) errands: Errands,
    pub(crate) dashboard: Dashboard,
    /// There may be watched users to ask about.
    pub(crate) presence_due: Notify,
    pub(crate) verifier: Verifier,
    pub(crate) metrics: Metrics,
    pub(crate) readiness: Readiness,
    /// No connection is taken any more.
    pub(crate) stop_accepting: CancellationToken,
    /// Nobody is here any more and all is flushed: the tasks may end.
    pub(crate) drained: CancellationToken,
    /// A socket has left the hub.
    pub(crate) unregistered: Notify,
    lifecycle: Lifecycle,
    subjects: Mutex<LruCache<String, UserId>>,
    /// Whose subjects the others are.
    questions: Questions<String, UserId>,
    started: Instant,
    /// Until when the lease is ours, milliseconds of this edge's clock.
    lease_until_ms: AtomicU64,
    /// When the last lease that we were given ends, though a loss of the bus may have ended our trust
    /// in it before; `u64::MAX` once that was acted on.
    lease_ends_ms: AtomicU64,
    /// Everything is held: there is no lease, or it may have been forgotten.
    suspended: AtomicBool,
    /// Counts losses of the bus: a renewal that began before one says nothing.
    losses: AtomicU64,
    /// The loss of the bus after which the lease was last renewed, and the first renewal after it.
    returned: Mutex<(u64, Option<Instant>)>,
    /// Wakes the lease's task: a renewal is wanted now.
    pub(crate) renew_now: Notify,
}

impl std::fmt::Debug for Edge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Edge")
            .field("pod", &self.pod)
            .field("hub", &self.hub)
            .finish_non_exhaustive()
    }
}

impl Edge {
    /// Milliseconds since the start, by a clock that never goes back.
    pub(crate) fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.stop_accepting.is_cancelled()
    }

    pub(crate) fn begin_drain(&self, reason: &str) {
        self.lifecycle.begin_drain(reason);
    }

    pub(crate) async fn user_of_subject(
        &self,
        subject: &str,
    ) -> Result<Option<UserId>, Arc<hubbub_store::Error>> {
        if let Some(user) = self.subjects.lock().get(subject) {
            return Ok(Some(*user));
        }
        let answer = self
            .questions
            .ask(subject.to_owned(), |asked| async move {
                self.store.users_by_subject(&asked).await
            })
            .await?;
        let found = match answer.found {
            None if self.config.provision_users => {
                Some(self.store.provision_user(subject, subject).await?.id)
            }
            found => found,
        };
        if let Some(user) = found {
            self.subjects.lock().put(subject.to_owned(), user);
        }
        Ok(found)
    }

    /// Begins a join whose membership was checked.
    pub(crate) fn join(&self, socket: SocketId, request: JoinRequest) -> Result<(), JoinRefused> {
        self.check_lease();
        let turn = self.hub.join(socket, request, self.now_ms(), |channel| {
            #[cfg(feature = "mutants")]
            if hubbub_mutant::planted(hubbub_mutant::Mutant::M17) {
                return self.subscribe_late(channel);
            }
            self.subscriber.subscribe(channel);
        })?;
        self.perform(turn);
        Ok(())
    }

    /// Planted mistake M17: the head is read first, and the time until the SUBSCRIBE goes out is
    /// wide enough to be met.
    #[cfg(feature = "mutants")]
    fn subscribe_late(&self, channel: BusChannel) {
        let subscriber = self.subscriber.clone();
        let late = async move {
            tokio::time::sleep(Duration::from_millis(200)).await;
            subscriber.subscribe(channel);
            Ok::<(), std::convert::Infallible>(())
        };
        self.lifecycle.spawn("late subscribe", OnError::Log, late);
    }

    pub(crate) fn leave(&self, socket: SocketId, channel: ChannelId) {
        let (turn, _) = self.hub.leave(socket, channel, self.now_ms());
        self.perform(turn);
    }

    /// Does what a turn of the hub left to be done: writes, and questions to the store.
    pub(crate) fn perform(&self, mut turn: Turn) {
        self.perform_all(&mut turn);
    }

    /// The same for a turn whose room is used again.
    pub(crate) fn perform_all(&self, turn: &mut Turn) {
        let now = self.now_ms();
        for socket in turn.dirty.drain(..) {
            if socket.is_left_to_its_task() {
                continue;
            }
            if self.flush_at(&socket, now) == Flushed::Gone {
                // Its task reads the end of the stream, or finds the same at its own flush.
                socket.wake.notify_one();
            }
        }
        for (channel, request) in turn.requests.drain(..) {
            self.fetcher
                .ask(self.store.shard_of(channel), channel, request);
        }
        for (user, added) in turn.directs.drain(..) {
            self.errands.directs(user, added);
        }
    }

    /// Writes what waits on a socket; a feed that waited for room goes on. Never waits.
    pub(crate) fn flush(&self, socket: &Arc<Socket>) -> Flushed {
        self.check_lease();
        self.flush_at(socket, self.now_ms())
    }

    /// The same for one of many: the clock is looked at once for all of them.
    fn flush_at(&self, socket: &Arc<Socket>, now_ms: u64) -> Flushed {
        loop {
            let flushed = socket.flush(now_ms);
            if flushed == Flushed::Gone || !socket.take_room() {
                return flushed;
            }
            self.check_lease();
            let turn = self.hub.on_room(socket.id, self.now_ms());
            // Another one whose room is not told of yet may have been served as well.
            for other in turn.dirty {
                if other.id != socket.id {
                    other.wake.notify_one();
                }
            }
            for (channel, request) in turn.requests {
                self.fetcher
                    .ask(self.store.shard_of(channel), channel, request);
            }
        }
    }

    pub(crate) fn lease_is_valid(&self) -> bool {
        self.now_ms() < self.lease_until_ms.load(Ordering::Acquire)
    }

    /// Holds every channel once the lease has lapsed: a removal is then answered without this
    /// pod's confirmation (contract P8).
    pub(crate) fn check_lease(&self) {
        if self.lease_is_valid() {
            return;
        }
        if !self.suspended.swap(true, Ordering::AcqRel) {
            self.metrics.lease_lapses.inc();
            tracing::warn!(pod = %self.pod, "the lease lapsed: nothing is relayed until it is back");
            self.hub.hold_all();
        }
        if self.lease_ends_ms.load(Ordering::Acquire) <= self.now_ms() {
            self.lease_ends_ms.store(u64::MAX, Ordering::Release);
            self.forsake_waiting();
        }
    }

    /// What waits for slow clients was relayed while this pod had its lease; now a removal may be
    /// answered without it. Their sockets are closed, and get it with their resume if they still may.
    fn forsake_waiting(&self) {
        for (socket, _) in self.hub.all_sockets() {
            if socket.is_blocked() && socket.with_outbox(Outbox::forsake) {
                let reason = "this server cannot hear of removals now: come back";
                socket.request_close(CloseCode::Slow, reason);
            }
        }
    }

    /// The bus was lost. A Redis that came back empty has forgotten the lease, and removals were
    /// answered without this pod: nothing is relayed before the lease is there again and the
    /// memberships were read again.
    pub(crate) fn bus_lost(&self) {
        self.losses.fetch_add(1, Ordering::AcqRel);
        self.lease_until_ms.store(0, Ordering::Release);
        self.suspended.store(true, Ordering::Release);
        self.hub.hold_all();
        self.renew_now.notify_one();
    }

    /// How often the bus was lost.
    pub(crate) fn losses(&self) -> u64 {
        self.losses.load(Ordering::Acquire)
    }

    /// Whether the pods' leases can be believed: none was forgotten with a Redis that came back
    /// empty. A pod that lives has renewed its own within the length of one after our own renewal.
    pub(crate) fn leases_are_known(&self) -> bool {
        let (losses, since) = *self.returned.lock();
        losses == self.losses() && since.is_none_or(|at| at.elapsed() >= LEASE)
    }

    /// A renewal that began after the `losses`-th loss of the bus succeeded.
    pub(crate) fn lease_renewed(&self, until: Instant, losses: u64) {
        if self.losses() != losses {
            return;
        }
        {
            let mut returned = self.returned.lock();
            if returned.0 != losses {
                *returned = (losses, Some(Instant::now()));
            }
        }
        // If it had lapsed before this renewal, everything was missed since.
        self.check_lease();
        let until_ms = until.saturating_duration_since(self.started).as_millis() as u64;
        self.lease_until_ms.store(until_ms, Ordering::Release);
        self.lease_ends_ms.store(until_ms, Ordering::Release);
        if self.suspended.swap(false, Ordering::AcqRel) {
            for channel in self.hub.resume_all() {
                self.subscriber.subscribe(BusChannel::Channel(channel));
            }
        }
    }

    /// Subscribes to every open channel of a shard again, for the head reads that follow.
    pub(crate) fn check_again(&self, shard: usize) {
        for channel in self.hub.open_channels() {
            if self.store.shard_of(channel) == shard {
                self.subscriber.subscribe(BusChannel::Channel(channel));
            }
        }
    }

    pub(crate) fn note_turn(&self, took: Duration) {
        self.metrics.turns.observe(took.as_secs_f64());
    }
}

impl Bus for Edge {
    fn subscribe(&self, channel: BusChannel) {
        self.subscriber.subscribe(channel);
    }

    fn unsubscribe(&self, channel: BusChannel) {
        self.subscriber.unsubscribe(channel);
    }

    fn publish(&self, to: &BusChannel, payload: Bytes) {
        if self.publisher.offer(to, payload).is_err() {
            self.metrics.bus_event("publish_refused");
        }
    }

    fn pod(&self) -> &PodId {
        &self.pod
    }
}
