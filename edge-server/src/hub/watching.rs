//! Watches under the hub's lock: what they leave to be done is done in the same step.

use std::collections::BTreeSet;

use hubbub_protocol::{
    BusChannel, PodId, PresenceState, RequestId, UserId, UserPresence, WatchReply, reply_ok,
};

use super::{Hub, Turn, people::Bus, state::State};
use crate::{feed::SocketId, people::watches::Do};

impl State {
    fn do_watches(&mut self, todo: Vec<Do>, bus: &impl Bus, turn: &mut Turn) {
        for one in todo {
            match one {
                Do::Subscribe(user) => bus.subscribe(BusChannel::Presence(user)),
                Do::Unsubscribe(user) => bus.unsubscribe(BusChannel::Presence(user)),
                Do::Reply { socket, id, states } => {
                    let users = states
                        .into_iter()
                        .map(|(user, state)| UserPresence { user, state })
                        .collect();
                    if let Some(entry) = self.sockets.get(&socket) {
                        let reply = reply_ok(&id, &WatchReply { users });
                        entry.socket.push_text(&reply);
                        turn.touch(&entry.socket);
                    }
                }
                Do::Tell {
                    socket,
                    user,
                    state,
                } => {
                    if let Some(entry) = self.sockets.get(&socket) {
                        let presence = UserPresence { user, state };
                        entry.socket.with_outbox(|outbox| outbox.tell(presence));
                        turn.touch(&entry.socket);
                    }
                }
            }
        }
    }

    pub(super) fn unwatch(&mut self, id: SocketId, now_ms: u64) {
        self.watches.gone(id, now_ms);
    }

    pub(super) fn watch_tick(&mut self, now_ms: u64, bus: &impl Bus, turn: &mut Turn) {
        let mut todo = Vec::new();
        self.watches.tick(now_ms, &mut todo);
        self.do_watches(todo, bus, turn);
    }
}

impl Hub {
    /// A socket watches these users from now on, and no others; the reply comes once all are
    /// known, or within about two seconds.
    pub(crate) fn watch(
        &self,
        socket: SocketId,
        id: Option<RequestId>,
        users: BTreeSet<UserId>,
        now_ms: u64,
        bus: &impl Bus,
    ) -> Turn {
        let mut turn = Turn::default();
        let mut state = self.state.lock();
        if state.sockets.contains_key(&socket) {
            let mut todo = Vec::new();
            state.watches.watch(socket, id, users, now_ms, &mut todo);
            state.do_watches(todo, bus, &mut turn);
        }
        turn
    }

    /// Redis confirmed `presence-<id>`; true: there is somebody to ask about.
    pub(crate) fn on_presence_subscribed(&self, user: UserId) -> bool {
        self.state.lock().watches.subscribed(user)
    }

    /// What a pod says of users, in the order in which the bus brought it.
    pub(crate) fn presence_said(
        &self,
        pod: &PodId,
        said: impl IntoIterator<Item = (UserId, PresenceState)>,
        bus: &impl Bus,
        turn: &mut Turn,
    ) {
        let mut state = self.state.lock();
        let mut todo = Vec::new();
        for (user, presence) in said {
            state.watches.said(user, pod, presence, &mut todo);
        }
        state.do_watches(todo, bus, turn);
    }

    /// Users to ask all pods about.
    pub(crate) fn users_to_ask(&self, most: usize) -> Vec<UserId> {
        self.state.lock().watches.take_due(most)
    }

    /// All that is watched is to be asked about again.
    pub(crate) fn ask_all_watched(&self) {
        self.state.lock().watches.ask_all();
    }

    /// The pods were asked about these users, and have answered or let their time pass.
    pub(crate) fn surveyed(&self, users: &[UserId], bus: &impl Bus) -> Turn {
        let mut turn = Turn::default();
        let mut state = self.state.lock();
        let mut todo = Vec::new();
        state.watches.surveyed(users, &mut todo);
        state.do_watches(todo, bus, &mut turn);
        turn
    }

    /// The pods could not be asked.
    pub(crate) fn not_asked(&self, users: &[UserId]) {
        self.state.lock().watches.not_asked(users);
    }

    /// Whether the leases are to be listed: only while somebody watches. What comes from a pod
    /// from here on is not held against a listing that does not know it.
    pub(crate) fn listing_begins(&self) -> bool {
        let mut state = self.state.lock();
        let watched = !state.watches.is_empty();
        if watched {
            state.watches.listing_begins();
        }
        watched
    }

    /// The pods with a lease.
    pub(crate) fn listed(&self, pods: BTreeSet<PodId>, bus: &impl Bus) -> Turn {
        let mut turn = Turn::default();
        let mut state = self.state.lock();
        let mut todo = Vec::new();
        state.watches.listed(pods, &mut todo);
        state.do_watches(todo, bus, &mut turn);
        turn
    }

    /// Users that are followed for watchers.
    pub(crate) fn watched_users(&self) -> usize {
        self.state.lock().watches.len()
    }
}
