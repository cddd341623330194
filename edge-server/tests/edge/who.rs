use std::{collections::BTreeSet, time::Duration};

use hubbub_bus::{Asker, Error, Event, Leases};
use hubbub_protocol::{Answer, BusChannel, ChannelId, PodId, PodMessage, Question};
use hubbub_stack::{Direction, Proxy};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
    time::timeout,
};

use crate::{
    client::Client,
    support::{Awake, Caller, LONG, OnBus, RunningPod, World, eventually},
};

/// What people wait at most.
const DEADLINE: Duration = Duration::from_millis(300);

/// A process that asks, as an API server does.
struct Asking {
    asker: Asker,
    /// Ended when dropped.
    _listening: JoinSet<()>,
}

impl Asking {
    async fn start(world: &World) -> anyhow::Result<Self> {
        let mut bus = OnBus::named(world, "asker").await?;
        // The publisher has its connection, too.
        let own = BusChannel::Pod(bus.me.clone());
        bus.publisher.publish(&own, "{}".into()).await?;
        let leases = Leases::new(&bus.publisher);
        let asker = Asker::new(bus.publisher.clone(), leases, bus.me.clone());
        let listener = asker.clone();
        let mut listening = JoinSet::new();
        listening.spawn(async move {
            let mut events = Vec::new();
            loop {
                bus.inbox.recv_all(&mut events).await;
                for event in events.drain(..) {
                    let Event::Message { payload, .. } = event else {
                        continue;
                    };
                    if let Ok(PodMessage::Reply {
                        request,
                        pod,
                        answer,
                    }) = serde_json::from_slice(&payload)
                    {
                        listener.on_reply(request, pod, answer);
                    }
                }
            }
        });
        Ok(Self {
            asker,
            _listening: listening,
        })
    }

    /// The sockets that listen, and the pods that did not say.
    async fn who(
        &self,
        channel: ChannelId,
        deadline: Duration,
    ) -> anyhow::Result<(BTreeSet<String>, Vec<PodId>)> {
        let survey = self.asker.ask(Question::Who { channel }, deadline).await?;
        let mut sockets = BTreeSet::new();
        for (pod, answer) in survey.answers {
            let Answer::Who {
                sockets: here,
                truncated: false,
            } = answer
            else {
                anyhow::bail!("{pod} says {answer:?}");
            };
            for one in here {
                assert!(sockets.insert(one.socket), "named twice");
            }
        }
        Ok((sockets, survey.missing))
    }
}

/// A small generator, so that a schedule is the same at every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % sides
    }
}

async fn sockets_of(
    pod: &RunningPod,
    clients: &[Option<(usize, Client, bool)>],
    n: usize,
) -> anyhow::Result<()> {
    let count = clients.iter().flatten().filter(|(at, ..)| *at == n).count();
    pod.until_sockets(count as u64).await
}

/// The same question on the hub alone runs through a thousand schedules (`hub/people_tests.rs`).
#[tokio::test]
async fn who_is_here_equals_the_truth_on_four_pods() -> anyhow::Result<()> {
    let world = World::new("who").await?;
    let pods = [
        world.pod("edge-0", &[]).await?,
        world.pod("edge-1", &[]).await?,
        world.pod("edge-2", &[]).await?,
        world.pod("edge-3", &[]).await?,
    ];
    let asking = Asking::start(&world).await?;
    let mut callers: Vec<Caller> = Vec::new();
    for n in 0..4 {
        callers.push(world.caller(&format!("user-{n}")).await?);
    }
    let channel = world.channel(&callers.iter().collect::<Vec<_>>()).await?;
    // Somebody looks on with redis-cli: that is no pod.
    let addr = world
        .env
        .redis_url
        .trim_start_matches("redis://")
        .to_owned();
    let mut foreign = TcpStream::connect(addr).await?;
    foreign
        .write_all(format!("SUBSCRIBE channel-{channel} pods\r\n").as_bytes())
        .await?;
    let mut said = [0; 1];
    timeout(LONG, foreign.read_exact(&mut said)).await??;
    let mut dice = Dice(7);
    let mut clients: Vec<Option<(usize, Client, bool)>> = (0..8).map(|_| None).collect();
    for schedule in 0..40 {
        for _ in 0..6 {
            let slot = dice.roll(clients.len());
            match &mut clients[slot] {
                None => {
                    let at = dice.roll(pods.len());
                    let caller = &callers[dice.roll(callers.len())];
                    let client = Client::connect(&pods[at], caller).await?;
                    clients[slot] = Some((at, client, false));
                }
                Some((at, ..)) if dice.roll(5) == 0 => {
                    let at = *at;
                    clients[slot] = None;
                    sockets_of(&pods[at], &clients, at).await?;
                }
                Some((_, client, joined)) if *joined => {
                    client
                        .request(json!({ "type": "leave", "channel": channel }))
                        .await?;
                    *joined = false;
                }
                Some((_, client, joined)) => {
                    client.join(channel).await?;
                    *joined = true;
                }
            }
        }
        let truth: BTreeSet<String> = clients
            .iter()
            .flatten()
            .filter(|(_, _, joined)| *joined)
            .map(|(_, client, _)| client.hello.connection_id.clone())
            .collect();
        let (found, missing) = asking.who(channel, LONG).await?;
        assert_eq!((found, missing), (truth, vec![]), "schedule {schedule}");
    }
    assert_eq!(asking.asker.pending(), 0);
    Ok(())
}

#[tokio::test]
async fn frozen_pod_is_named_in_time_and_nothing_stays_behind() -> anyhow::Result<()> {
    let world = World::new("who_frozen").await?;
    let redis = world.env.redis_url.trim_start_matches("redis://").parse()?;
    let proxy = Proxy::start(redis)?;
    let behind = format!("--redis-url=redis://{}", proxy.addr());
    let a = world.pod("edge-a", &[]).await?;
    let b = world.pod("edge-b", &[behind.as_str()]).await?;
    let asking = Asking::start(&world).await?;
    let (mary, john) = (world.caller("mary").await?, world.caller("john").await?);
    let channel = world.channel(&[&mary, &john]).await?;
    let mut marys = Client::connect(&a, &mary).await?;
    let mut johns = Client::connect(&b, &john).await?;
    marys.join(channel).await?;
    johns.join(channel).await?;
    let (all, missing) = asking.who(channel, LONG).await?;
    assert_eq!((all.len(), missing), (2, vec![]));
    // It hears nothing any more, and its lease still stands.
    proxy.black_hole(Direction::ToClient);
    let (some, took) = eventually("it alone is missing", async || {
        let awake = Awake::start();
        // The other one may be late, too, or nobody could be asked in time.
        let (some, missing) = asking.who(channel, DEADLINE).await.ok()?;
        (missing == std::slice::from_ref(&b.id)).then_some((some, awake.elapsed()))
    })
    .await?;
    assert_eq!(some, BTreeSet::from([marys.hello.connection_id.clone()]));
    assert!(took < DEADLINE * 2, "{took:?}");
    let mut asked = JoinSet::new();
    for _ in 0..200 {
        let asker = asking.asker.clone();
        asked.spawn(async move { asker.ask(Question::Who { channel }, DEADLINE).await });
    }
    while let Some(survey) = asked.join_next().await {
        match survey? {
            Ok(survey) => assert!(survey.missing.contains(&b.id), "{survey:?}"),
            Err(error) => assert!(matches!(error, Error::Timeout), "{error}"),
        }
    }
    assert_eq!(asking.asker.pending(), 0);
    Ok(())
}
