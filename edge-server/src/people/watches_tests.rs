//! Watches in a small world: pods that publish, answer, lose their lease, die; a Redis that
//! forgets who subscribed; publishes that get lost.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use hubbub_protocol::{PodId, PresenceState, RequestId, UserId};
use proptest::prelude::*;

use super::{
    best,
    watches::{Do, REPLY_WITHIN_MS, Watches},
};
use crate::feed::SocketId;

const USERS: usize = 3;
const PODS: usize = 3;
const SOCKETS: usize = 4;

#[derive(Debug, Clone)]
enum Step {
    Watch {
        socket: usize,
        users: Vec<usize>,
    },
    Gone(usize),
    Change {
        pod: usize,
        user: usize,
        state: PresenceState,
    },
    /// A pod's oldest publish reaches Redis, or is lost on its way.
    Publish {
        pod: usize,
        lost: bool,
    },
    Deliver,
    /// Redis takes the oldest SUBSCRIBE or UNSUBSCRIBE.
    Order,
    /// The connection breaks: what is on its way is gone, and so are the subscriptions.
    Lost,
    Ask,
    AskAll,
    /// The time of the oldest question is over, whoever has answered.
    Surveyed,
    BeginListing,
    EndListing,
    Kill(usize),
    /// A lease runs out: of a dead pod for ever, of a live one until it is renewed.
    Lapse(usize),
    Renew(usize),
    Tick(u64),
}

fn state() -> impl Strategy<Value = PresenceState> {
    prop_oneof![
        Just(PresenceState::Active),
        Just(PresenceState::Away),
        Just(PresenceState::Offline)
    ]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let (user, pod, socket) = (0..USERS, 0..PODS, 0..SOCKETS);
    let step = prop_oneof![
        4 => (socket.clone(), prop::collection::vec(user.clone(), 0..3))
            .prop_map(|(socket, users)| Step::Watch { socket, users }),
        1 => socket.prop_map(Step::Gone),
        8 => (pod.clone(), user, state())
            .prop_map(|(pod, user, state)| Step::Change { pod, user, state }),
        8 => (pod.clone(), prop::bool::weighted(0.1))
            .prop_map(|(pod, lost)| Step::Publish { pod, lost }),
        10 => Just(Step::Deliver),
        5 => Just(Step::Order),
        1 => Just(Step::Lost),
        4 => Just(Step::Ask),
        1 => Just(Step::AskAll),
        4 => Just(Step::Surveyed),
        2 => Just(Step::BeginListing),
        3 => Just(Step::EndListing),
        1 => pod.clone().prop_map(Step::Kill),
        1 => pod.clone().prop_map(Step::Lapse),
        2 => pod.prop_map(Step::Renew),
        2 => (0_u64..3_000).prop_map(Step::Tick),
    ];
    prop::collection::vec(step, 1..120)
}

#[derive(Debug, Clone)]
enum Sent {
    Event(UserId, PresenceState),
    Answer(Vec<(UserId, PresenceState)>),
}

#[derive(Debug)]
enum Inbox {
    Confirmed(UserId),
    From(usize, Sent),
}

#[derive(Debug, Default)]
struct Pod {
    users: BTreeMap<UserId, PresenceState>,
    outbox: VecDeque<Sent>,
    dead: bool,
    lapsed: bool,
}

/// What a client knows, from the replies and frames that it got.
#[derive(Debug, Default)]
struct Client {
    asked: Option<RequestId>,
    users: BTreeSet<UserId>,
    knows: HashMap<UserId, PresenceState>,
}

#[derive(Debug, Default)]
struct World {
    watches: Watches,
    pods: [Pod; PODS],
    clients: [Client; SOCKETS],
    now_ms: u64,
    requests: i64,
    /// What this edge has ordered and Redis has not taken yet; and what it is subscribed to.
    orders: VecDeque<(UserId, bool)>,
    wanted: BTreeSet<UserId>,
    subscribed: BTreeSet<UserId>,
    inbox: VecDeque<Inbox>,
    surveys: VecDeque<Vec<UserId>>,
    listing: Option<BTreeSet<PodId>>,
}

fn user(n: usize) -> UserId {
    UserId::new(n as i64 + 1).expect("from 1")
}

fn pod_id(n: usize) -> PodId {
    format!("edge-{n}").parse().expect("an id")
}

impl World {
    fn leased(&self) -> BTreeSet<PodId> {
        let leased = (0..PODS).filter(|n| !self.pods[*n].lapsed);
        leased.map(pod_id).collect()
    }

    fn truth(&self, user: UserId) -> PresenceState {
        let live = self.pods.iter().filter(|pod| !pod.dead);
        best(live.filter_map(|pod| pod.users.get(&user).copied()))
    }

    fn perform(&mut self, todo: Vec<Do>) {
        for done in todo {
            match done {
                Do::Subscribe(user) => {
                    assert!(self.wanted.insert(user), "{user} is subscribed twice");
                    self.orders.push_back((user, true));
                }
                Do::Unsubscribe(user) => {
                    assert!(self.wanted.remove(&user), "{user} is not subscribed");
                    self.orders.push_back((user, false));
                }
                Do::Reply { socket, id, states } => {
                    let client = &mut self.clients[socket.0 as usize];
                    assert_eq!(client.asked.take(), Some(id), "one reply to each request");
                    client.knows = states.into_iter().collect();
                }
                Do::Tell {
                    socket,
                    user,
                    state,
                } => {
                    let client = &mut self.clients[socket.0 as usize];
                    assert!(client.users.contains(&user), "{user} is not watched");
                    assert!(client.asked.is_none(), "told before the reply");
                    let before = client.knows.insert(user, state);
                    assert_ne!(before, Some(state), "{user} is told again");
                }
            }
        }
    }

    fn step(&mut self, step: Step) {
        let mut todo = Vec::new();
        match step {
            Step::Watch { socket, users } => {
                let client = &mut self.clients[socket];
                // A second request while the first waits: that one is answered first.
                let first = client.asked.is_some();
                self.requests += 1;
                let id = RequestId::Number(self.requests);
                let users: BTreeSet<UserId> = users.into_iter().map(user).collect();
                let id_of_socket = SocketId(socket as u64);
                self.watches.watch(
                    id_of_socket,
                    Some(id.clone()),
                    users.clone(),
                    self.now_ms,
                    &mut todo,
                );
                if first {
                    let reply = todo.remove(0);
                    assert!(matches!(reply, Do::Reply { .. }), "{reply:?}");
                    self.perform(vec![reply]);
                }
                let client = &mut self.clients[socket];
                assert!(client.asked.is_none());
                client.asked = Some(id);
                client.knows.retain(|user, _| users.contains(user));
                client.users = users;
            }
            Step::Gone(socket) => {
                self.clients[socket] = Client::default();
                self.watches.gone(SocketId(socket as u64), self.now_ms);
            }
            Step::Change {
                pod,
                user: n,
                state,
            } => {
                let pod = &mut self.pods[pod];
                let before = pod.users.insert(user(n), state);
                if !pod.dead && before.unwrap_or(PresenceState::Offline) != state {
                    pod.outbox.push_back(Sent::Event(user(n), state));
                }
            }
            Step::Publish { pod, lost } => {
                let sent = self.pods[pod].outbox.pop_front();
                if let Some(sent) = sent.filter(|_| !lost) {
                    let heard = match &sent {
                        Sent::Event(user, _) => self.subscribed.contains(user),
                        Sent::Answer(_) => true,
                    };
                    if heard {
                        self.inbox.push_back(Inbox::From(pod, sent));
                    }
                }
            }
            Step::Deliver => match self.inbox.pop_front() {
                Some(Inbox::Confirmed(user)) => {
                    self.watches.subscribed(user);
                }
                Some(Inbox::From(pod, Sent::Event(user, state))) => {
                    self.watches.said(user, &pod_id(pod), state, &mut todo);
                }
                Some(Inbox::From(pod, Sent::Answer(states))) => {
                    for (user, state) in states {
                        self.watches.said(user, &pod_id(pod), state, &mut todo);
                    }
                }
                None => {}
            },
            Step::Order => match self.orders.pop_front() {
                Some((user, true)) => {
                    self.subscribed.insert(user);
                    self.inbox.push_back(Inbox::Confirmed(user));
                }
                Some((user, false)) => {
                    self.subscribed.remove(&user);
                }
                None => {}
            },
            Step::Lost => {
                self.inbox.clear();
                self.subscribed.clear();
                self.orders = self.wanted.iter().map(|user| (*user, true)).collect();
            }
            Step::Ask => {
                let users = self.watches.take_due(2);
                if !users.is_empty() {
                    for pod in self.pods.iter_mut().filter(|pod| !pod.dead) {
                        let says = |user: &UserId| {
                            let state = pod.users.get(user).copied();
                            (*user, state.unwrap_or(PresenceState::Offline))
                        };
                        let answer = users.iter().map(says).collect();
                        pod.outbox.push_back(Sent::Answer(answer));
                    }
                    self.surveys.push_back(users);
                }
            }
            Step::AskAll => self.watches.ask_all(),
            Step::Surveyed => {
                if let Some(users) = self.surveys.pop_front() {
                    self.watches.surveyed(&users, &mut todo);
                }
            }
            Step::BeginListing => {
                if self.listing.is_none() {
                    self.watches.listing_begins();
                    self.listing = Some(self.leased());
                }
            }
            Step::EndListing => {
                if let Some(listed) = self.listing.take() {
                    self.watches.listed(listed, &mut todo);
                }
            }
            Step::Kill(pod) => {
                self.pods[pod].dead = true;
                self.pods[pod].outbox.clear();
            }
            Step::Lapse(pod) => self.pods[pod].lapsed = true,
            Step::Renew(pod) => self.pods[pod].lapsed &= self.pods[pod].dead,
            Step::Tick(ms) => {
                self.now_ms += ms;
                self.watches.tick(self.now_ms, &mut todo);
            }
        }
        self.perform(todo);
        self.watches.check_invariants();
        for client in self.clients.iter().filter(|client| client.asked.is_none()) {
            for user in &client.users {
                let told = self.watches.told(*user);
                assert_eq!(client.knows.get(user).copied(), told, "{user}");
            }
        }
    }

    fn drain(&mut self) {
        while !self.orders.is_empty() {
            self.step(Step::Order);
        }
        for pod in 0..PODS {
            while !self.pods[pod].outbox.is_empty() {
                self.step(Step::Publish { pod, lost: false });
            }
        }
        while !self.inbox.is_empty() {
            self.step(Step::Deliver);
        }
        while !self.surveys.is_empty() {
            self.step(Step::Surveyed);
        }
    }

    /// Nothing more gets lost: the leases tell the truth, everybody is asked once more.
    fn quiesce(&mut self) {
        self.step(Step::EndListing);
        for pod in 0..PODS {
            self.pods[pod].lapsed = self.pods[pod].dead;
        }
        self.drain();
        for _ in 0..2 {
            self.step(Step::BeginListing);
            self.step(Step::EndListing);
            self.step(Step::AskAll);
            for _ in 0..USERS {
                self.step(Step::Ask);
            }
            self.drain();
        }
        self.step(Step::Tick(REPLY_WITHIN_MS));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// Whatever is lost on the way: nobody is told the same twice, what a client knows is what
    /// the edge believes, and in the end that is the truth.
    #[test]
    fn watchers_are_told_each_change_once_and_end_at_the_truth(steps in steps()) {
        let mut world = World::default();
        for step in steps {
            world.step(step);
        }
        world.quiesce();
        for client in &world.clients {
            prop_assert_eq!(&client.asked, &None, "a request without its reply");
            for user in &client.users {
                prop_assert_eq!(client.knows.get(user).copied(), Some(world.truth(*user)));
            }
        }
        for socket in 0..SOCKETS {
            world.step(Step::Gone(socket));
        }
        world.step(Step::Tick(10_000));
        prop_assert!(world.watches.is_empty() && world.wanted.is_empty());
    }
}

/// A killed edge: its users turn offline once, when its lease is gone.
#[test]
fn users_of_a_pod_without_a_lease_are_offline_once() {
    let mut world = World::default();
    let step = |world: &mut World, step| world.step(step);
    step(
        &mut world,
        Step::Change {
            pod: 0,
            user: 0,
            state: PresenceState::Active,
        },
    );
    step(
        &mut world,
        Step::Watch {
            socket: 0,
            users: vec![0],
        },
    );
    world.quiesce();
    assert_eq!(world.clients[0].knows[&user(0)], PresenceState::Active);
    step(&mut world, Step::Kill(0));
    step(&mut world, Step::BeginListing);
    step(&mut world, Step::EndListing);
    assert_eq!(world.clients[0].knows[&user(0)], PresenceState::Active);
    step(&mut world, Step::Lapse(0));
    for _ in 0..3 {
        step(&mut world, Step::BeginListing);
        step(&mut world, Step::EndListing);
        assert_eq!(world.clients[0].knows[&user(0)], PresenceState::Offline);
    }
}
