use std::collections::{BTreeMap, BTreeSet};

use hubbub_protocol::PodId;
use proptest::prelude::*;
use tokio::net::{TcpListener, TcpStream};

use super::{
    tests::{FakeBus, USERS, channel, identity, stream},
    *,
};

const PODS: usize = 4;
const SLOTS: usize = 3;
const CHANNELS: i64 = 2;

#[derive(Debug, Clone)]
enum Step {
    Register(usize, usize),
    Unregister(usize, usize),
    Join(usize, usize, i64),
    Leave(usize, usize, i64),
    /// On every pod.
    Evict(i64, i64),
    /// The pod's lease has lapsed, or is back.
    Hold(usize),
    Resume(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let (pod, slot, channel) = (0..PODS, 0..SLOTS, 1..=CHANNELS);
    let step = prop_oneof![
        4 => (pod.clone(), slot.clone()).prop_map(|(pod, slot)| Step::Register(pod, slot)),
        1 => (pod.clone(), slot.clone()).prop_map(|(pod, slot)| Step::Unregister(pod, slot)),
        6 => (pod.clone(), slot.clone(), channel.clone())
            .prop_map(|(pod, slot, channel)| Step::Join(pod, slot, channel)),
        3 => (pod.clone(), slot, channel.clone())
            .prop_map(|(pod, slot, channel)| Step::Leave(pod, slot, channel)),
        1 => (channel, 1..=USERS).prop_map(|(channel, user)| Step::Evict(channel, user)),
        1 => pod.clone().prop_map(Step::Hold),
        2 => pod.prop_map(Step::Resume),
    ];
    prop::collection::vec(step, 1..40)
}

fn pod_id(n: usize) -> PodId {
    format!("edge-{n}").parse().expect("an id")
}

/// Where sockets come from.
struct Streams {
    listener: TcpListener,
}

impl Streams {
    async fn take(&self) -> TcpStream {
        let addr = self.listener.local_addr().expect("bound");
        stream(&self.listener, addr).await
    }
}

async fn run(streams: &Streams, steps: Vec<Step>) {
    let bus = FakeBus::new();
    let hubs: Vec<Hub> = (0..PODS).map(|_| Hub::new(1_000)).collect();
    let mut held = [false; PODS];
    // What the dashboard would have been told, by pod.
    let mut told: Vec<BTreeMap<ChannelId, u64>> = vec![BTreeMap::new(); PODS];
    for hub in &hubs {
        hub.resume_all();
        hub.follow_loads(true);
    }
    let mut sockets: BTreeMap<(usize, usize), Arc<Socket>> = BTreeMap::new();
    let mut truth: BTreeSet<(usize, usize, i64)> = BTreeSet::new();
    for step in steps {
        match step {
            Step::Register(pod, slot) if !sockets.contains_key(&(pod, slot)) => {
                let socket = Socket::new(hubs[pod].next_socket_id(), streams.take().await, 0);
                let bus = FakeBus::new();
                hubs[pod].register(&socket, &identity(slot), 10, 0, &bus);
                sockets.insert((pod, slot), socket);
            }
            Step::Register(..) => {}
            Step::Unregister(pod, slot) => {
                if let Some(socket) = sockets.remove(&(pod, slot)) {
                    hubs[pod].unregister(socket.id, 0, &bus);
                    truth.retain(|(p, s, _)| (*p, *s) != (pod, slot));
                }
            }
            Step::Join(pod, slot, number) => {
                if let Some(socket) = sockets.get(&(pod, slot)) {
                    let request = JoinRequest {
                        channel: channel(number),
                        since: None,
                        ordered: false,
                        id: None,
                        evictions: hubs[pod].evictions(),
                        by_edge: None,
                    };
                    let joined = hubs[pod].join(socket.id, request, 0, |_| {});
                    joined.expect("nobody was evicted since");
                    truth.insert((pod, slot, number));
                }
            }
            Step::Leave(pod, slot, number) => {
                if let Some(socket) = sockets.get(&(pod, slot)) {
                    hubs[pod].leave(socket.id, channel(number), 0);
                    truth.remove(&(pod, slot, number));
                }
            }
            Step::Evict(number, user) => {
                let user = UserId::new(user).expect("from 1");
                for hub in &hubs {
                    hub.evict(channel(number), user, 0);
                }
                truth.retain(|(_, s, n)| *n != number || identity(*s).user != user);
            }
            Step::Hold(pod) => {
                hubs[pod].hold_all();
                held[pod] = true;
            }
            Step::Resume(pod) if held[pod] => {
                held[pod] = false;
                for channel in hubs[pod].resume_all() {
                    let (epoch, users) = hubs[pod].listening_users(channel).expect("open");
                    let evictions = hubs[pod].evictions();
                    let (_, done) = hubs[pod].reopen(channel, epoch, &users, &users, evictions, 0);
                    assert_ne!(done, Reopened::Stale, "nobody came meanwhile");
                }
            }
            Step::Resume(_) => {}
        }
        for (n, hub) in hubs.iter().enumerate() {
            let loads = hub.take_loads(usize::MAX, &[]);
            told[n].extend(loads.channels);
            let all: BTreeMap<ChannelId, u64> = hub.all_loads().channels.into_iter().collect();
            let mut here: BTreeMap<ChannelId, u64> = BTreeMap::new();
            for (_, _, number) in truth.iter().filter(|(pod, ..)| *pod == n) {
                *here.entry(channel(*number)).or_default() += 1;
            }
            assert_eq!(all, here, "all that is listened to");
            let told = told[n].iter().filter(|(_, count)| **count > 0);
            assert!(told.eq(here.iter()), "what has changed adds up");
            let open = sockets.keys().filter(|(pod, _)| *pod == n).count();
            assert_eq!(loads.sockets, open as u64);
        }
        for number in 1..=CHANNELS {
            for (n, hub) in hubs.iter().enumerate() {
                let pod = pod_id(n);
                let Some((found, truncated)) = hub.who(channel(number), &pod) else {
                    assert!(held[n], "{pod} says nothing");
                    continue;
                };
                assert!(!held[n] && !truncated, "{pod} cannot know");
                let found: BTreeSet<(String, UserId)> = found
                    .into_iter()
                    .map(|one| (one.socket, one.user))
                    .collect();
                let here = truth.iter().filter(|(p, _, c)| (*p, *c) == (n, number));
                let expected = here.map(|(p, s, _)| {
                    let id = sockets[&(*p, *s)].id;
                    (connection_id(&pod, id), identity(*s).user)
                });
                assert_eq!(found, expected.collect(), "{pod} in {number}");
            }
        }
    }
}

#[test]
fn who_is_here_equals_the_truth_in_a_thousand_schedules() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"));
    let streams = Streams {
        listener: listener.expect("a free port"),
    };
    let config = ProptestConfig::with_cases(1_000);
    let mut runner = proptest::test_runner::TestRunner::new(config);
    let all = runner.run(&steps(), |steps| {
        runtime.block_on(run(&streams, steps));
        Ok(())
    });
    all.expect("every schedule");
}
