use std::{collections::BTreeMap, sync::Arc};

use hubbub_protocol::{ChannelLetter, MessageKey, PresenceEvent, PresenceState, Receipt, Typing};
use proptest::prelude::*;
use tokio::net::TcpListener;

use super::{
    people::{AWAY_AFTER_MS, OFFLINE_AFTER_MS},
    tests::{FakeBus, USERS, channel, identity, stream},
    *,
};
use crate::feed::Answer;

const SOCKETS: usize = 5;

/// A hub with sockets that are open at the other end.
struct World {
    hub: Hub,
    bus: FakeBus,
    listener: TcpListener,
    sockets: Vec<Option<Arc<Socket>>>,
}

impl World {
    async fn new() -> Self {
        let hub = Hub::new(1_000);
        hub.resume_all();
        Self {
            hub,
            bus: FakeBus::new(),
            listener: TcpListener::bind("127.0.0.1:0").await.expect("a free port"),
            sockets: vec![None; SOCKETS],
        }
    }

    async fn register(&mut self, slot: usize, now: u64) -> SocketId {
        let addr = self.listener.local_addr().expect("bound");
        let tcp = stream(&self.listener, addr).await;
        let socket = Socket::new(self.hub.next_socket_id(), tcp, now);
        self.hub
            .register(&socket, &identity(slot), 10, now, &self.bus);
        let id = socket.id;
        self.sockets[slot] = Some(socket);
        id
    }

    fn join(&self, id: SocketId, channel: ChannelId, by_edge: Option<UserId>) {
        let request = JoinRequest {
            channel,
            since: None,
            ordered: false,
            id: by_edge.is_none().then_some(RequestId::Number(1)),
            evictions: self.hub.evictions(),
            by_edge,
        };
        let joined = self.hub.join(id, request, 0, |_| {});
        joined.expect("nobody was evicted since");
    }

    /// Opens the feed of a channel with a head of 5.
    fn open(&self, channel: ChannelId) {
        let mut turn = Turn::default();
        self.hub.on_subscribed(channel, 0, &mut turn);
        for (channel, request) in turn.requests {
            let head = Ok(Answer::Head(Seq(5)));
            self.hub.on_answer(channel, request.id, head, 0);
        }
    }

    fn text(&self, slot: usize) -> String {
        let socket = self.sockets[slot].as_ref().expect("registered");
        socket.with_outbox(|outbox| {
            let mut slices = crate::outbox::Outbox::empty_slices();
            let used = outbox.slices(&mut slices);
            let bytes: Vec<u8> = slices[..used].iter().flat_map(|s| s.to_vec()).collect();
            String::from_utf8_lossy(&bytes).into_owned()
        })
    }

    /// What was published of each user, in order.
    fn said(&self) -> BTreeMap<UserId, Vec<PresenceState>> {
        let mut said: BTreeMap<UserId, Vec<PresenceState>> = BTreeMap::new();
        for (to, payload) in self.bus.published.lock().iter() {
            if let BusChannel::Presence(user) = to {
                let event: PresenceEvent = serde_json::from_slice(payload).expect("an event");
                said.entry(*user).or_default().push(event.state);
            }
        }
        said
    }
}

#[derive(Debug, Clone)]
enum Step {
    Register(usize),
    Unregister(usize),
    Say { slot: usize, away: bool },
    Ask(usize),
    Pass(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => (0..SOCKETS).prop_map(Step::Register),
        2 => (0..SOCKETS).prop_map(Step::Unregister),
        3 => (0..SOCKETS, any::<bool>()).prop_map(|(slot, away)| Step::Say { slot, away }),
        2 => (0..SOCKETS).prop_map(Step::Ask),
        3 => prop_oneof![0_u64..3_000, 300_000_u64..400_000].prop_map(Step::Pass),
    ];
    prop::collection::vec(step, 1..60)
}

/// Runs a schedule against a plain account of who is there and says what.
async fn own_presence(steps: Vec<Step>) {
    let mut world = World::new().await;
    let mut now = 0_u64;
    // By slot: says away, and asked last; by user: when the last socket went.
    let mut there: Vec<Option<(bool, u64)>> = vec![None; SOCKETS];
    let mut went: BTreeMap<UserId, u64> = BTreeMap::new();
    for step in steps {
        match step {
            Step::Register(slot) if there[slot].is_none() => {
                world.register(slot, now).await;
                there[slot] = Some((false, now));
            }
            Step::Unregister(slot) => {
                if let Some(socket) = world.sockets[slot].take() {
                    world.hub.unregister(socket.id, now, &world.bus);
                    there[slot] = None;
                    went.insert(identity(slot).user, now);
                }
            }
            Step::Say { slot, away } => {
                if let (Some(socket), Some(one)) = (&world.sockets[slot], &mut there[slot]) {
                    socket.asked(now);
                    let state = if away {
                        PresenceState::Away
                    } else {
                        PresenceState::Active
                    };
                    world.hub.set_presence(socket.id, state, now, &world.bus);
                    *one = (away, now);
                }
            }
            Step::Ask(slot) => {
                if let (Some(socket), Some(one)) = (&world.sockets[slot], &mut there[slot]) {
                    if socket.asked(now) {
                        world.hub.asked_again(socket.id, now, &world.bus);
                    }
                    one.1 = now;
                }
            }
            Step::Pass(ms) => now += ms,
            Step::Register(_) => {}
        }
        // As often as the task does it, or the last step is what counts.
        world.hub.people_tick(now, &world.bus, &mut Turn::default());
        world.hub.check_invariants();
        let said = world.said();
        for n in 1..=USERS {
            let user = UserId::new(n).expect("from 1");
            let said = said.get(&user).cloned().unwrap_or_default();
            let twice = said.windows(2).any(|two| two[0] == two[1]);
            assert!(!twice, "said twice: {said:?}");
            let slots = (0..SOCKETS).filter(|slot| identity(*slot).user == user);
            let states: Vec<PresenceState> = slots
                .filter_map(|slot| there[slot])
                .map(|(away, asked)| {
                    if away || now - asked >= AWAY_AFTER_MS {
                        PresenceState::Away
                    } else {
                        PresenceState::Active
                    }
                })
                .collect();
            let last = said.last().copied().unwrap_or(PresenceState::Offline);
            let grace = went
                .get(&user)
                .is_some_and(|at| now < at + OFFLINE_AFTER_MS);
            match states.iter().max() {
                Some(best) => assert_eq!(last, *best, "{user} has {states:?}"),
                None if grace => {}
                None => assert_eq!(last, PresenceState::Offline, "{user} is gone"),
            }
            let mut answered = Vec::new();
            world.hub.presence_of(&[user], |states| answered = states);
            assert_eq!(answered[0].state, last, "an answer is what was said");
        }
        let subscribed: std::collections::BTreeSet<BusChannel> =
            world.bus.subscribed.lock().iter().cloned().collect();
        let users = world.hub.subscribed_users().into_iter();
        assert_eq!(subscribed, users.map(BusChannel::User).collect());
    }
    for socket in world.sockets.iter().flatten() {
        world.hub.unregister(socket.id, now, &world.bus);
    }
    let later = now + OFFLINE_AFTER_MS;
    world
        .hub
        .people_tick(later, &world.bus, &mut Turn::default());
    assert!(world.bus.subscribed.lock().is_empty());
    let offline = |said: &Vec<PresenceState>| said.last() == Some(&PresenceState::Offline);
    assert!(world.said().values().all(offline));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn own_presence_is_said_once_and_true(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        runtime.block_on(own_presence(steps));
    }
}

#[tokio::test]
async fn evicted_user_types_marks_and_hears_nothing_more() {
    let mut world = World::new().await;
    let (mary, john) = (world.register(0, 0).await, world.register(1, 0).await);
    let user = identity(1).user;
    for id in [mary, john] {
        world.join(id, channel(1), None);
    }
    world.open(channel(1));
    let typing = Typing {
        channel: channel(1),
        user,
    };
    let mark = |read| Receipt {
        channel: channel(1),
        user,
        device: identity(1).device,
        delivered: Seq(read),
        read: Seq(read),
    };
    let (hub, bus) = (&world.hub, &world.bus);
    assert_eq!(hub.typing(typing, 0, bus), Passed::Done);
    assert_eq!(
        bus.published.lock().last().expect("shown").0,
        BusChannel::Channel(channel(1))
    );
    assert_eq!(
        hub.mark(mark(5), 0, |_| panic!("there is room")),
        Passed::Done
    );
    assert_eq!(hub.mark(mark(6), 0, |_| {}), Passed::Above);
    // A live message raises what is known.
    let key = MessageKey {
        user,
        message_id: hubbub_protocol::MessageId(uuid::Uuid::nil()),
    };
    hub.on_records(
        channel(1),
        &[frame_of(Seq(6), key, b"{}")],
        false,
        0,
        &mut Turn::default(),
    );
    assert_eq!(hub.mark(mark(6), 0, |_| {}), Passed::Done);
    let mut turn = Turn::default();
    assert!(hub.pass_by(channel(1), identity(0).user, b"mary types", &mut turn));
    assert_eq!(hub.own_receipt(&mark(5), &mut turn), Passed::Done);
    assert!(world.text(1).contains("mary types") && world.text(1).contains("receipt"));
    assert!(!world.text(0).contains("mary types"), "not to herself");

    // Without the bus or the lease nobody's word counts, a gathered mark's neither.
    assert_eq!(hub.mark(mark(6), 0, |_| {}), Passed::Done);
    hub.hold_all();
    hub.write_marks(u64::MAX, |mark| panic!("{mark:?} is written"));
    for channel in hub.resume_all() {
        let (epoch, users) = hub.listening_users(channel).expect("open");
        let evictions = hub.evictions();
        hub.reopen(channel, epoch, &users, &users, evictions, 0);
    }

    let evictions = hub.evictions();
    hub.evict(channel(1), user, 0);
    assert!(!world.text(1).contains("mary types") && !world.text(1).contains("receipt"));
    assert_eq!(hub.typing(typing, 10_000, bus), Passed::NotVouched);
    assert_eq!(hub.mark(mark(5), 0, |_| {}), Passed::NotVouched);
    assert_eq!(hub.mark_stored(mark(5), 0, |_| {}), Passed::NotVouched);
    hub.write_marks(u64::MAX, |mark| panic!("{mark:?} is written"));
    let mut turn = Turn::default();
    hub.pass_by(channel(1), identity(0).user, b"mary types", &mut turn);
    assert_eq!(hub.own_receipt(&mark(5), &mut turn), Passed::NotVouched);
    assert!(!world.text(1).contains("mary types") && !world.text(1).contains("receipt"));
    let pod = bus.pod().clone();
    let (listening, truncated) = hub.who(channel(1), &pod).expect("open");
    let users: Vec<UserId> = listening.iter().map(|one| one.user).collect();
    assert_eq!((users, truncated), (vec![identity(0).user], false));
    // What the store said before the eviction counts no more.
    assert!(!hub.vouch(channel(1), user, evictions));
    assert_eq!(hub.if_vouched(channel(1), user, (), |()| ()), Err(()));
    assert_eq!(hub.unless_evicted(evictions, (), |()| ()), Err(()));
    // What it says afterwards does, and a loss of the bus takes it back.
    assert!(hub.vouch(channel(1), user, hub.evictions()));
    assert_eq!(hub.if_vouched(channel(1), user, (), |()| ()), Ok(()));
    hub.hold_all();
    assert_eq!(hub.if_vouched(channel(1), user, (), |()| ()), Err(()));
    assert_eq!(hub.who(channel(1), &pod), None, "nobody is vouched for");
    assert!(!hub.pass_by(channel(1), user, b"x", &mut Turn::default()));
}

#[tokio::test]
async fn client_joins_and_leaves_go_before_the_edge() {
    let mut world = World::new().await;
    let direct = ChannelId::new(ChannelLetter::Direct, 9).expect("from 1");
    let with = identity(1).user;
    let id = world.register(0, 0).await;
    let user = identity(0).user;
    assert_eq!(world.hub.to_join(user, direct), [id]);
    world.join(id, direct, Some(with));
    world.open(direct);
    let text = world.text(0);
    assert!(
        text.contains(r#""type":"joined""#) && text.contains(r#""head":5"#),
        "{text}"
    );
    assert!(text.contains(&format!(r#""with":"{with}""#)) && !text.contains("reply_to"));
    assert!(world.hub.to_join(user, direct).is_empty(), "it listens");
    // Its own join takes the place and has its own reply.
    world.join(id, direct, None);
    assert!(
        world.text(0).contains(r#""reply_to":1,"ok":true"#),
        "{}",
        world.text(0)
    );
    // A late one of the edge changes nothing.
    world.join(id, direct, Some(with));
    assert_eq!(world.text(0).matches(r#""type":"joined""#).count(), 1);
    world.hub.leave(id, direct, 0);
    assert!(world.hub.to_join(user, direct).is_empty(), "it left");
    world.join(id, direct, Some(with));
    assert!(!world.hub.is_joined(id, direct));
    // Opened again by one of the two: every device joins.
    let mut turn = Turn::default();
    world.hub.on_channel_added(user, direct, &mut turn);
    assert_eq!(turn.directs, [(user, Some(direct))]);
    assert_eq!(world.hub.to_join(user, direct), [id]);
    world.hub.check_invariants();
}

#[tokio::test]
async fn join_of_the_edge_that_nobody_confirms_is_tried_again() {
    let mut world = World::new().await;
    let direct = ChannelId::new(ChannelLetter::Direct, 9).expect("from 1");
    let id = world.register(0, 0).await;
    world.join(id, direct, Some(identity(1).user));
    let turn = world.hub.tick(JOIN_DEADLINE_MS, |_| {});
    assert_eq!(turn.directs, [(identity(0).user, Some(direct))]);
    assert!(!world.hub.is_joined(id, direct));
    assert!(!world.text(0).contains("error"));
}
