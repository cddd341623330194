//! Whose presence the sockets of this pod watch, and what they were told. Pure.
//!
//! Per watched user: what each pod said last, and what the watchers were told. They are told when
//! the best of what the pods said changes, and only then, so each is told each change once. What
//! a pod publishes and what it answers come over one connection in its order, so the last one
//! stands. Three things mend what is lost: a question at every subscribe confirmation and now and
//! then, and the list of leases, which drops the pods that are gone.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use hubbub_protocol::{PodId, PresenceState, RequestId, UserId};

use super::best;
use crate::feed::SocketId;

/// A reply names who is known by then; the others are told of when they are.
pub(crate) const REPLY_WITHIN_MS: u64 = 1_000;
/// A user whom nobody watches any more is followed for so long, against churn.
const LINGER_MS: u64 = 2_000;
/// Pods that are remembered for one user; there are never so many with a lease.
const PODS: usize = 1_000;

/// What is left to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Do {
    /// Follow this user on the bus.
    Subscribe(UserId),
    /// Follow them no more.
    Unsubscribe(UserId),
    /// Answer a socket's `watch`.
    Reply {
        /// Whom.
        socket: SocketId,
        /// To what.
        id: RequestId,
        /// Who is known.
        states: Vec<(UserId, PresenceState)>,
    },
    /// Tell a watcher of a change.
    Tell {
        /// Whom.
        socket: SocketId,
        /// Of whom.
        user: UserId,
        /// What they are now.
        state: PresenceState,
    },
}

#[derive(Debug, Clone, Copy)]
struct Said {
    state: PresenceState,
    /// Number of the last listing of leases that had begun by then: that one may not know the pod.
    listing: u64,
}

#[derive(Debug, Default)]
struct Watched {
    watchers: BTreeSet<SocketId>,
    /// Active or away; a pod that said offline is not here.
    pods: BTreeMap<PodId, Said>,
    /// `None` until the pods were asked the first time.
    told: Option<PresenceState>,
    /// Asked since the subscription was confirmed: only then does an answer count.
    asked: bool,
    unwatched_since_ms: Option<u64>,
}

impl Watched {
    fn best(&self) -> PresenceState {
        best(self.pods.values().map(|said| said.state))
    }
}

#[derive(Debug)]
struct Pending {
    id: Option<RequestId>,
    deadline_ms: u64,
    unknown: usize,
}

#[derive(Debug)]
struct Watching {
    users: BTreeSet<UserId>,
    /// The reply that is owed. Until it goes out this socket is told nothing: it will be in it.
    pending: Option<Pending>,
}

/// See the module. Bounded by the sockets and what each may watch.
#[derive(Debug, Default)]
pub(crate) struct Watches {
    users: HashMap<UserId, Watched>,
    sockets: HashMap<SocketId, Watching>,
    /// To be asked about, each once.
    due: BTreeSet<UserId>,
    listings: u64,
    /// Pods with a lease at the last listing, while somebody watches.
    listed: Option<BTreeSet<PodId>>,
}

impl Watches {
    /// Whether nobody is followed.
    pub(crate) fn is_empty(&self) -> bool {
        self.users.is_empty()
    }

    /// Users that are followed.
    pub(crate) fn len(&self) -> usize {
        self.users.len()
    }

    /// A socket watches these users from now on, and no others.
    pub(crate) fn watch(
        &mut self,
        socket: SocketId,
        id: Option<RequestId>,
        users: BTreeSet<UserId>,
        now_ms: u64,
        todo: &mut Vec<Do>,
    ) {
        let before = match self.sockets.remove(&socket) {
            Some(mut earlier) => {
                // An earlier request is answered with what is known.
                self.reply(socket, &mut earlier, todo);
                earlier.users
            }
            None => BTreeSet::new(),
        };
        for user in before.difference(&users) {
            self.unwatch(socket, *user, now_ms);
        }
        let mut unknown = 0;
        for user in &users {
            let watched = self.users.entry(*user).or_insert_with(|| {
                todo.push(Do::Subscribe(*user));
                Watched::default()
            });
            watched.watchers.insert(socket);
            watched.unwatched_since_ms = None;
            unknown += usize::from(watched.told.is_none());
        }
        if users.is_empty() && id.is_none() {
            return;
        }
        let mut watching = Watching {
            users,
            pending: Some(Pending {
                id,
                deadline_ms: now_ms + REPLY_WITHIN_MS,
                unknown,
            }),
        };
        if unknown == 0 {
            self.reply(socket, &mut watching, todo);
        }
        if !watching.users.is_empty() {
            self.sockets.insert(socket, watching);
        }
    }

    /// A socket is gone.
    pub(crate) fn gone(&mut self, socket: SocketId, now_ms: u64) {
        if let Some(watching) = self.sockets.remove(&socket) {
            for user in watching.users {
                self.unwatch(socket, user, now_ms);
            }
        }
    }

    fn unwatch(&mut self, socket: SocketId, user: UserId, now_ms: u64) {
        if let Some(watched) = self.users.get_mut(&user) {
            watched.watchers.remove(&socket);
            if watched.watchers.is_empty() {
                watched.unwatched_since_ms = Some(now_ms);
            }
        }
    }

    /// The subscription of this user is confirmed, the first time or again: what was said before
    /// may have been missed.
    pub(crate) fn subscribed(&mut self, user: UserId) -> bool {
        let followed = self.users.contains_key(&user);
        if followed {
            self.due.insert(user);
        }
        followed
    }

    /// Everybody is to be asked about again.
    pub(crate) fn ask_all(&mut self) {
        // Those whose subscription is not confirmed yet are asked about when it is.
        let known = self.users.iter().filter(|(_, watched)| watched.asked);
        self.due.extend(known.map(|(user, _)| *user));
    }

    /// Takes users to ask all pods about, at most `most`.
    pub(crate) fn take_due(&mut self, most: usize) -> Vec<UserId> {
        let mut taken = Vec::new();
        while taken.len() < most
            && let Some(user) = self.due.pop_first()
        {
            if let Some(watched) = self.users.get_mut(&user) {
                watched.asked = true;
                taken.push(user);
            }
        }
        taken
    }

    /// The question could not be asked: they are due again.
    pub(crate) fn not_asked(&mut self, users: &[UserId]) {
        let followed = users.iter().filter(|user| self.users.contains_key(user));
        self.due.extend(followed);
    }

    /// What a pod says of a user, of itself or because it was asked.
    pub(crate) fn said(
        &mut self,
        user: UserId,
        pod: &PodId,
        state: PresenceState,
        todo: &mut Vec<Do>,
    ) {
        let listing = self.listings;
        let Some(watched) = self.users.get_mut(&user) else {
            return;
        };
        if state == PresenceState::Offline {
            watched.pods.remove(pod);
        } else if watched.pods.len() < PODS || watched.pods.contains_key(pod) {
            watched.pods.insert(pod.clone(), Said { state, listing });
        }
        self.settle(user, todo);
    }

    /// The pods have answered, or their time is over: what they said is in.
    pub(crate) fn surveyed(&mut self, users: &[UserId], todo: &mut Vec<Do>) {
        for user in users {
            let Some(watched) = self.users.get_mut(user) else {
                continue;
            };
            // One that was dropped and is followed anew waits for a question of its own.
            if !watched.asked || watched.told.is_some() {
                continue;
            }
            let state = watched.best();
            watched.told = Some(state);
            for socket in watched.watchers.clone() {
                let Some(mut watching) = self.sockets.remove(&socket) else {
                    continue;
                };
                match &mut watching.pending {
                    Some(pending) => {
                        pending.unknown = pending.unknown.saturating_sub(1);
                        if pending.unknown == 0 {
                            self.reply(socket, &mut watching, todo);
                        }
                    }
                    None => todo.push(Do::Tell {
                        socket,
                        user: *user,
                        state,
                    }),
                }
                self.sockets.insert(socket, watching);
            }
        }
    }

    /// The leases are about to be listed.
    pub(crate) fn listing_begins(&mut self) {
        self.listings += 1;
    }

    /// The pods that have a lease. One that is gone says nothing any more, so what it said last
    /// is dropped, unless it came while the leases were listed. One that came back (its lease had
    /// lapsed) is asked again, and so are all.
    pub(crate) fn listed(&mut self, pods: BTreeSet<PodId>, todo: &mut Vec<Do>) {
        let listing = self.listings;
        let mut changed = Vec::new();
        for (user, watched) in &mut self.users {
            let before = watched.pods.len();
            watched
                .pods
                .retain(|pod, said| pods.contains(pod) || said.listing >= listing);
            if watched.pods.len() != before {
                changed.push(*user);
            }
        }
        for user in changed {
            self.settle(user, todo);
        }
        let came = |listed: &BTreeSet<PodId>| pods.difference(listed).next().is_some();
        if self.listed.as_ref().is_some_and(came) {
            self.ask_all();
        }
        self.listed = Some(pods);
    }

    /// What time does.
    pub(crate) fn tick(&mut self, now_ms: u64, todo: &mut Vec<Do>) {
        let late = |watching: &Watching| {
            let pending = watching.pending.as_ref();
            pending.is_some_and(|pending| pending.deadline_ms <= now_ms)
        };
        let late: Vec<SocketId> = self
            .sockets
            .iter()
            .filter(|(_, watching)| late(watching))
            .map(|(socket, _)| *socket)
            .collect();
        for socket in late {
            if let Some(mut watching) = self.sockets.remove(&socket) {
                self.reply(socket, &mut watching, todo);
                self.sockets.insert(socket, watching);
            }
        }
        self.users.retain(|user, watched| {
            let over = watched
                .unwatched_since_ms
                .is_some_and(|since| since + LINGER_MS <= now_ms);
            if over {
                self.due.remove(user);
                todo.push(Do::Unsubscribe(*user));
            }
            !over
        });
        if self.users.is_empty() {
            self.listed = None;
        }
    }

    /// Answers what is owed to a socket, if anything is.
    fn reply(&self, socket: SocketId, watching: &mut Watching, todo: &mut Vec<Do>) {
        let Some(pending) = watching.pending.take() else {
            return;
        };
        let told = |user: &UserId| Some((*user, self.users.get(user)?.told?));
        let states: Vec<_> = watching.users.iter().filter_map(told).collect();
        match pending.id {
            Some(id) => todo.push(Do::Reply { socket, id, states }),
            // Nobody waits for a reply: what would be in it is told.
            None => todo.extend(states.into_iter().map(|(user, state)| Do::Tell {
                socket,
                user,
                state,
            })),
        }
    }

    /// Tells the watchers if the best of what the pods say is another one now.
    fn settle(&mut self, user: UserId, todo: &mut Vec<Do>) {
        let Some(watched) = self.users.get_mut(&user) else {
            return;
        };
        let state = watched.best();
        if watched.told.is_none_or(|told| told == state) {
            return;
        }
        watched.told = Some(state);
        for socket in &watched.watchers {
            let replied = self
                .sockets
                .get(socket)
                .is_some_and(|watching| watching.pending.is_none());
            if replied {
                todo.push(Do::Tell {
                    socket: *socket,
                    user,
                    state,
                });
            }
        }
    }

    /// What the watchers of a user were told last.
    #[cfg(test)]
    pub(crate) fn told(&self, user: UserId) -> Option<PresenceState> {
        self.users.get(&user).and_then(|watched| watched.told)
    }

    /// What must hold between any two calls.
    #[cfg(test)]
    pub(crate) fn check_invariants(&self) {
        for (socket, watching) in &self.sockets {
            let unknown = |user: &&UserId| self.users[*user].told.is_none();
            for user in &watching.users {
                assert!(
                    self.users[user].watchers.contains(socket),
                    "{user} is watched by {socket:?}"
                );
            }
            if let Some(pending) = &watching.pending {
                let count = watching.users.iter().filter(unknown).count();
                assert_eq!(pending.unknown, count, "unknown to {socket:?}");
                assert!(count > 0, "{socket:?} waits for nobody");
            }
        }
        for (user, watched) in &self.users {
            assert_eq!(
                watched.watchers.is_empty(),
                watched.unwatched_since_ms.is_some(),
                "linger of {user}"
            );
            for socket in &watched.watchers {
                assert!(self.sockets[socket].users.contains(user));
            }
            if let Some(told) = watched.told {
                assert_eq!(told, watched.best(), "{user} is settled");
            }
        }
        assert!(self.due.iter().all(|user| self.users.contains_key(user)));
    }
}
