mod allocations;

use std::net::SocketAddr;

use bytes::Bytes;
use hubbub_protocol::{ChannelLetter, PodId, Stored, UserId};
use proptest::prelude::*;
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::{
    feed::{Answer, Ask},
    handshake::Identity,
};

pub(super) const USERS: i64 = 3;
const CHANNELS: i64 = 3;
const SOCKETS: usize = 5;

#[derive(Debug, Clone)]
enum Step {
    Register(usize),
    Unregister(usize),
    Join {
        socket: usize,
        channel: i64,
        since: Option<u64>,
    },
    Leave {
        socket: usize,
        channel: i64,
    },
    Subscribed(i64),
    Evict {
        channel: i64,
        user: i64,
    },
    Lost,
    Resume,
    Reopen {
        channel: i64,
        lost_user: Option<i64>,
    },
    Answers {
        away: bool,
    },
    Tick(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let (socket, channel, user) = (0..SOCKETS, 1..=CHANNELS, 1..=USERS);
    let step = prop_oneof![
        3 => socket.clone().prop_map(Step::Register),
        1 => socket.clone().prop_map(Step::Unregister),
        5 => (socket.clone(), channel.clone(), prop::option::of(0_u64..5))
            .prop_map(|(socket, channel, since)| Step::Join { socket, channel, since }),
        2 => (socket, channel.clone()).prop_map(|(socket, channel)| Step::Leave { socket, channel }),
        4 => channel.clone().prop_map(Step::Subscribed),
        1 => (channel.clone(), user.clone()).prop_map(|(channel, user)| Step::Evict { channel, user }),
        1 => Just(Step::Lost),
        2 => Just(Step::Resume),
        2 => (channel, prop::option::of(user))
            .prop_map(|(channel, lost_user)| Step::Reopen { channel, lost_user }),
        4 => any::<bool>().prop_map(|away| Step::Answers { away }),
        2 => (0_u64..3_000).prop_map(Step::Tick),
    ];
    prop::collection::vec(step, 1..60)
}

pub(super) fn channel(number: i64) -> ChannelId {
    ChannelId::new(ChannelLetter::Channel, number).expect("from 1")
}

pub(super) fn identity(slot: usize) -> Identity {
    Identity {
        user: UserId::new(slot as i64 % USERS + 1).expect("from 1"),
        device: "d".parse().expect("an id"),
        expires_at_s: i64::MAX,
        direct: true,
    }
}

/// A member's plain join of the first channel, without a reply.
fn plain_join(hub: &Hub, since: Option<u64>) -> JoinRequest {
    JoinRequest {
        channel: channel(1),
        since: since.map(Seq),
        ordered: false,
        id: None,
        evictions: hub.evictions(),
        by_edge: None,
    }
}

pub(super) async fn stream(listener: &TcpListener, addr: SocketAddr) -> TcpStream {
    let (client, accepted) = tokio::join!(TcpStream::connect(addr), listener.accept());
    drop(accepted.expect("a connection"));
    client.expect("listening")
}

/// What the hub orders and publishes, in order.
#[derive(Debug)]
pub(super) struct FakeBus {
    pub(super) subscribed: Mutex<HashSet<BusChannel>>,
    pub(super) published: Mutex<Vec<(BusChannel, Bytes)>>,
    pod: PodId,
}

impl FakeBus {
    pub(super) fn new() -> Self {
        Self {
            subscribed: Mutex::default(),
            published: Mutex::default(),
            pod: "edge-1".parse().expect("an id"),
        }
    }
}

impl Bus for FakeBus {
    fn subscribe(&self, channel: BusChannel) {
        let new = self.subscribed.lock().insert(channel.clone());
        assert!(new, "{channel} was subscribed already");
    }

    fn unsubscribe(&self, channel: BusChannel) {
        let known = self.subscribed.lock().remove(&channel);
        assert!(known, "{channel} was not subscribed");
    }

    fn publish(&self, to: &BusChannel, payload: Bytes) {
        self.published.lock().push((to.clone(), payload));
    }

    fn pod(&self) -> &PodId {
        &self.pod
    }
}

/// Runs a schedule and checks the hub after each step; what was subscribed is what is open.
async fn run(steps: Vec<Step>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let addr = listener.local_addr().expect("bound");
    let hub = Hub::new(1_000);
    let bus = FakeBus::new();
    let mut sockets: Vec<Option<Arc<Socket>>> = vec![None; SOCKETS];
    let (mut now, mut asked) = (0, Vec::new());
    let subscribed = Mutex::new(HashSet::new());
    for step in steps {
        let mut turn = Turn::default();
        match step {
            Step::Register(slot) if sockets[slot].is_none() => {
                let tcp = stream(&listener, addr).await;
                let socket = Socket::new(hub.next_socket_id(), tcp, now);
                hub.register(&socket, &identity(slot), 10, now, &bus);
                sockets[slot] = Some(socket);
            }
            Step::Unregister(slot) => {
                if let Some(socket) = sockets[slot].take() {
                    turn = hub.unregister(socket.id, now, &bus);
                }
            }
            Step::Join {
                socket,
                channel: number,
                since,
            } => {
                if let Some(socket) = &sockets[socket] {
                    let request = JoinRequest {
                        channel: channel(number),
                        since: since.map(Seq),
                        ordered: number % 2 == 0,
                        id: Some(RequestId::Number(number)),
                        evictions: hub.evictions(),
                        by_edge: None,
                    };
                    let joined = hub.join(socket.id, request, now, |channel| {
                        subscribed.lock().insert(channel);
                    });
                    turn = joined.expect("nobody was evicted since");
                }
            }
            Step::Leave {
                socket,
                channel: number,
            } => {
                if let Some(socket) = &sockets[socket] {
                    turn = hub.leave(socket.id, channel(number), now).0;
                }
            }
            Step::Subscribed(number) => {
                hub.on_subscribed(channel(number), now, &mut turn);
            }
            Step::Evict {
                channel: number,
                user,
            } => {
                let user = UserId::new(user).expect("from 1");
                turn = hub.evict(channel(number), user, now).0;
                assert_eq!(hub.if_vouched(channel(number), user, (), |()| ()), Err(()));
            }
            Step::Lost => hub.hold_all(),
            Step::Resume => drop(hub.resume_all()),
            Step::Reopen {
                channel: number,
                lost_user,
            } => {
                if let Some((epoch, users)) = hub.listening_users(channel(number)) {
                    let lost = lost_user.and_then(UserId::new);
                    let members: Vec<UserId> = users
                        .iter()
                        .copied()
                        .filter(|user| Some(*user) != lost)
                        .collect();
                    let evictions = hub.evictions();
                    let (reopened, done) =
                        hub.reopen(channel(number), epoch, &users, &members, evictions, now);
                    assert_ne!(
                        done,
                        Reopened::Stale,
                        "nobody joined or was evicted meanwhile"
                    );
                    turn = reopened;
                }
            }
            Step::Answers { away } => {
                for (channel, ask, id) in std::mem::take(&mut asked) {
                    let answer = match (away, ask) {
                        (true, _) => Err(crate::feed::Failure {
                            reason: "away".to_owned(),
                            jitter: 7,
                        }),
                        (false, Ask::Head) => Ok(Answer::Head(Seq(3))),
                        (false, _) => Ok(Answer::Rows(Vec::new())),
                    };
                    turn.merge(hub.on_answer(channel, id, answer, now));
                }
            }
            Step::Tick(ms) => {
                now += ms;
                turn = hub.tick(now, |channel| {
                    assert!(
                        subscribed.lock().remove(&channel),
                        "{channel} was not subscribed"
                    );
                });
            }
            Step::Register(_) => {}
        }
        asked.extend(
            turn.requests
                .into_iter()
                .map(|(c, request)| (c, request.ask, request.id)),
        );
        hub.check_invariants();
        let open: HashSet<BusChannel> = hub
            .open_channels()
            .into_iter()
            .map(BusChannel::Channel)
            .collect();
        assert_eq!(
            *subscribed.lock(),
            open,
            "subscriptions follow the open channels"
        );
    }
    // Everybody goes: after the linger nothing is left.
    for socket in sockets.into_iter().flatten() {
        hub.unregister(socket.id, now, &bus);
    }
    hub.tick(now + LINGER_MS, |_| {});
    assert_eq!((hub.sockets(), hub.channels()), (0, 0));
}

#[tokio::test]
async fn held_channel_vouches_for_nobody_who_left_before_it_opens() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let addr = listener.local_addr().expect("bound");
    let hub = Hub::new(1_000);
    let bus = FakeBus::new();
    let mut ids = Vec::new();
    for slot in 0..2 {
        let socket = Socket::new(hub.next_socket_id(), stream(&listener, addr).await, 0);
        hub.register(&socket, &identity(slot), 10, 0, &bus);
        ids.push(socket.id);
    }
    hub.resume_all();
    let join = |id| {
        let request = plain_join(&hub, None);
        hub.join(id, request, 0, |_| {}).expect("a member");
    };
    join(ids[1]);
    let (stays, goes) = (identity(1).user, identity(0).user);
    assert_eq!(hub.if_vouched(channel(1), stays, (), |()| ()), Ok(()));
    hub.hold_all();
    // Joins while the bus is away, leaves, and is removed without this pod's knowledge.
    join(ids[0]);
    hub.leave(ids[0], channel(1), 0);
    hub.resume_all();
    let (epoch, asked) = hub.listening_users(channel(1)).expect("open");
    assert_eq!(asked, [stays]);
    let (_, done) = hub.reopen(channel(1), epoch, &asked, &[stays], hub.evictions(), 0);
    assert_eq!(done, Reopened::Done { evicted: 0 });
    assert_eq!(hub.if_vouched(channel(1), stays, (), |()| ()), Ok(()));
    assert_eq!(hub.if_vouched(channel(1), goes, (), |()| ()), Err(()));
}

#[tokio::test]
async fn held_channel_gives_nothing_from_memory() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let addr = listener.local_addr().expect("bound");
    let hub = Hub::new(1_000);
    let bus = FakeBus::new();
    hub.resume_all();
    let mut sockets = Vec::new();
    for slot in 0..3 {
        let socket = Socket::new(hub.next_socket_id(), stream(&listener, addr).await, 0);
        hub.register(&socket, &identity(slot), 10, 0, &bus);
        sockets.push(socket);
    }
    let join = |slot: usize, since: u64| {
        let request = plain_join(&hub, Some(since));
        let turn = hub.join(sockets[slot].id, request, 0, |_| {});
        turn.expect("a member").requests
    };
    let frames = |slot: usize| sockets[slot].with_outbox(|outbox| outbox.bytes());
    assert!(join(0, 2).is_empty(), "not subscribed yet");
    let mut turn = Turn::default();
    hub.on_subscribed(channel(1), 0, &mut turn);
    let head = turn.requests.pop().expect("a head read").1.id;
    let turn = hub.on_answer(channel(1), head, Ok(Answer::Head(Seq(5))), 0);
    let page = turn.requests[0].1.id;
    let key = hubbub_protocol::MessageKey {
        user: identity(0).user,
        message_id: hubbub_protocol::MessageId(uuid::Uuid::nil()),
    };
    let rows = vec![frame_of(Seq(4), key, b"{}")];
    hub.on_answer(channel(1), page, Ok(Answer::Rows(rows)), 0);
    assert_eq!(hub.take_counts().pages_from_memory, 0);

    hub.hold_all();
    let before = (frames(1), frames(2));
    // The second lacks nothing, so that its join could be answered at once.
    assert!(join(1, 2).is_empty() && join(2, 5).is_empty());
    hub.on_room(sockets[1].id, 0);
    hub.tick(0, |_| {});
    assert_eq!((frames(1), frames(2)), before, "held");
    hub.resume_all();
    let (epoch, asked) = hub.listening_users(channel(1)).expect("open");
    let members = [identity(0).user, identity(1).user];
    let (turn, done) = hub.reopen(channel(1), epoch, &asked, &members, hub.evictions(), 0);
    assert_eq!(done, Reopened::Done { evicted: 1 });
    assert_eq!(
        hub.take_counts().pages_from_memory,
        1,
        "to the member alone"
    );
    assert!(frames(1) > before.0);
    let pages = |ask: &Ask| matches!(ask, Ask::Range { .. });
    assert!(!turn.requests.iter().any(|(_, request)| pages(&request.ask)));
}

#[tokio::test]
async fn held_channel_tells_nobody_how_far_it_has_come() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let addr = listener.local_addr().expect("bound");
    let hub = Hub::new(1_000);
    hub.resume_all();
    let socket = Socket::new(hub.next_socket_id(), stream(&listener, addr).await, 0);
    hub.register(&socket, &identity(0), 10, 0, &FakeBus::new());
    let request = plain_join(&hub, None);
    assert!(hub.join(socket.id, request, 0, |_| {}).is_ok());
    let mut turn = Turn::default();
    hub.on_subscribed(channel(1), 0, &mut turn);
    let head = turn.requests.pop().expect("a head read").1.id;
    hub.on_answer(channel(1), head, Ok(Answer::Head(Seq(5))), 0);
    let told = || {
        socket.with_outbox(|outbox| {
            outbox.flush_synced();
            outbox.bytes()
        })
    };
    let joined = told();
    let stored = Stored {
        channel: channel(1),
        from: Seq(5),
        through: Seq(6),
        seqs: Some(Vec::new()),
    };
    assert!(hub.on_stored(stored, 0, &mut turn));
    assert_eq!(told(), joined, "not before the tick");
    hub.hold_all();
    hub.tick(0, |_| {});
    assert_eq!(told(), joined, "held");
    hub.resume_all();
    let (epoch, asked) = hub.listening_users(channel(1)).expect("open");
    hub.reopen(channel(1), epoch, &asked, &asked, hub.evictions(), 0);
    hub.tick(0, |_| {});
    assert!(told() > joined);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn any_schedule_keeps_the_invariants(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        runtime.block_on(run(steps));
    }
}
