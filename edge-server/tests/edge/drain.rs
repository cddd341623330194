use std::time::Duration;

use clap::Parser;
use hubbub_edge_server::Config;
use hubbub_service::Lifecycle;
use hubbub_stack::Direction;
use serde_json::json;
use tokio::{net::TcpStream, time::Instant};

use crate::{
    client::Client,
    raw::{Raw, Upgrade},
    support::{LONG, OnBus, RunningPod, World, eventually},
};

/// The drain ends by itself, and well.
async fn ends_well(lifecycle: &Lifecycle) {
    let begun = Instant::now();
    let outcome = lifecycle.finished(LONG).await;
    assert!(!outcome.failed, "{outcome:?}");
    assert!(
        outcome.cut.is_empty(),
        "{outcome:?} after {:?}",
        begun.elapsed()
    );
}

async fn readyz(pod: &RunningPod) -> anyhow::Result<u16> {
    Ok(reqwest::get(format!("{}/readyz", pod.ops))
        .await?
        .status()
        .as_u16())
}

#[tokio::test]
async fn drain_says_goodbye_answers_sends_and_cuts_nothing() -> anyhow::Result<()> {
    let world = World::new("drain").await?;
    // The delay holds all that is done before the door closes, and is shorter than the five seconds
    // that a connection has to ask.
    let flags = ["--drain-delay-ms=3000", "--drain-rate=20"];
    let pod = world.pod("edge-1", &flags).await?;
    let mary = world.caller("mary").await?;
    let channel = world.channel(&[&mary]).await?;
    let mut clients = Vec::new();
    for _ in 0..9 {
        let mut client = Client::connect(&pod, &mary).await?;
        client.join(channel).await?;
        clients.push(client);
    }
    // A connection that has not asked yet when the door closes.
    let mut early = Raw::connect(pod.addr).await?;
    assert_eq!(readyz(&pod).await?, 200);
    pod.lifecycle.begin_drain("the test says so");
    eventually("not ready", async || {
        (readyz(&pod).await.ok()? == 404).then_some(())
    })
    .await?;
    // The load balancer has not noticed yet: who comes now is served, and so is who is here.
    let mut last = Client::connect(&pod, &mary).await?;
    last.say(channel, "before the goodbyes").await?;
    clients[0].hears("before the goodbyes").await?;
    clients.push(last);
    let begun = Instant::now();
    let mut asked = Vec::new();
    for client in &mut clients {
        let mut ids = Vec::new();
        for n in 0..10 {
            let frame = json!({ "type": "message", "channel": channel, "text": n.to_string() });
            ids.push(client.ask(frame).await?);
        }
        asked.push(ids);
    }
    eventually("nobody new", async || {
        TcpStream::connect(pod.addr).await.is_err().then_some(())
    })
    .await?;
    early.send(&Upgrade::new(&mary.token).bytes()).await?;
    let refused = early.answer().await?;
    assert_eq!(refused.status, 503, "{refused:?}");
    assert_eq!(refused.body["error"]["code"], "draining");
    assert_eq!(refused.header("retry-after"), Some("1"));

    let lifecycle = pod.lifecycle.clone();
    let goodbyes = async {
        let mut ok = 0;
        for (client, ids) in clients.iter_mut().zip(asked) {
            let goodbye = client.of_type("goodbye").await?;
            assert_eq!(goodbye["reason"], "restart");
            let after = goodbye["reconnect_after_ms"].as_u64().expect("a delay");
            assert!((1..30_000).contains(&after), "{goodbye}");
            assert_eq!(client.closed().await?.0, 1012);
            for id in ids {
                let reply = client.left_over_reply(id);
                assert_eq!(reply["ok"], true, "{reply}");
                ok += 1;
            }
        }
        anyhow::Ok((ok, begun.elapsed()))
    };
    let (said, ()) = tokio::join!(goodbyes, ends_well(&lifecycle));
    let (ok, took) = said?;
    // Ten sockets, twenty a second.
    assert!(took >= Duration::from_millis(450), "all in {took:?}");
    assert_eq!(
        world.logged(channel).await?.len(),
        ok + 1,
        "what was answered is there"
    );
    Ok(())
}

#[tokio::test]
async fn what_crosses_the_goodbye_is_answered_before_the_close() -> anyhow::Result<()> {
    let world = World::new("drain_crossed").await?;
    let pod = world.pod("edge-1", &["--drain-delay-ms=0"]).await?;
    let mary = world.caller("mary").await?;
    let channel = world.channel(&[&mary]).await?;
    let mut client = Client::connect(&pod, &mary).await?;
    // Who has joined is known as a member: the store need not be asked in the second that is left.
    client.join(channel).await?;
    pod.lifecycle.begin_drain("the test says so");
    client.of_type("goodbye").await?;
    let frame = json!({ "type": "message", "channel": channel, "text": "crossed" });
    let id = client.ask(frame).await?;
    assert_eq!(client.reply_to(id).await?["ok"], true);
    assert_eq!(client.closed().await?.0, 1012);
    ends_well(&pod.lifecycle).await;
    Ok(())
}

#[tokio::test]
async fn handshake_under_way_at_the_drain_gets_its_goodbye() -> anyhow::Result<()> {
    let world = World::new("late_handshake").await?;
    let pod = world.pod("edge-1", &["--drain-delay-ms=0"]).await?;
    let mary = world.caller("mary").await?;
    world.core.black_hole(Direction::ToClient);
    let mut raw = Raw::connect(pod.addr).await?;
    raw.send(&Upgrade::new(&mary.token).bytes()).await?;
    // The pod has taken the request and asks the database who she is: one that came later, and
    // needs no database, has its answer.
    let (_, later) = Upgrade::bare().answer(pod.addr).await?;
    assert_eq!(later.status, 401);
    pod.lifecycle.begin_drain("the test says so");
    eventually("nobody new", async || {
        TcpStream::connect(pod.addr).await.is_err().then_some(())
    })
    .await?;
    world.core.heal();
    let lifecycle = pod.lifecycle.clone();
    let told = async {
        let answer = raw.answer().await?;
        assert_eq!(answer.status, 101, "{answer:?}");
        assert_eq!(raw.close_code().await?, 1012);
        anyhow::Ok(())
    };
    let (told, ()) = tokio::join!(told, ends_well(&lifecycle));
    told
}

#[tokio::test]
async fn drain_is_ordered_over_the_bus_too() -> anyhow::Result<()> {
    let world = World::new("ordered").await?;
    let (a, b) = tokio::try_join!(world.pod("edge-a", &[]), world.pod("edge-b", &[]))?;
    let bus = OnBus::start(&world).await?;
    let mary = world.caller("mary").await?;
    let mut client = Client::connect(&a, &mary).await?;
    let order = hubbub_protocol::PodMessage::Command(hubbub_protocol::Command::Drain {});
    let to = hubbub_protocol::BusChannel::Pod(a.id.clone());
    bus.publisher.publish(&to, order.encode().into()).await?;
    assert_eq!(client.closed().await?.0, 1012);
    ends_well(&a.lifecycle).await;
    assert_eq!(readyz(&b).await?, 200, "the other one goes on");
    Client::connect(&b, &mary).await?;
    Ok(())
}

#[tokio::test]
async fn drain_ends_although_redis_is_gone_and_a_client_reads_nothing() -> anyhow::Result<()> {
    let world = World::new("drain_alone").await?;
    let pod = world.pod("edge-1", &[]).await?;
    let mary = world.caller("mary").await?;
    let mut deaf = Raw::upgraded(pod.addr, &mary.token).await?;
    world.env.redis().kill().await;
    pod.lifecycle.begin_drain("the test says so");
    ends_well(&pod.lifecycle).await;
    assert_eq!(deaf.close_code().await?, 1012);
    Ok(())
}

#[test]
fn mistakes_of_the_configuration_are_told_all_at_once() -> anyhow::Result<()> {
    let config = |flags: &[&str]| {
        let needed = [
            "hubbub-edge-server",
            "--core-database-url=postgres://core",
            "--shard-database-urls=postgres://a,postgres://b",
        ];
        Config::try_parse_from(needed.iter().chain(flags))
    };
    assert_eq!(config(&[])?.mistakes(), Vec::<String>::new());
    let flags = [
        "--max-connections=10000",
        "--drain-rate=100",
        "--grace-s=100",
        "--heartbeat-ms=999",
        "--slow-ms=999",
        "--send-rate=NaN",
        "--frame-burst=0.5",
        "--max-sockets-per-user=0",
        "--allowed-origins=https://chat.example.com/",
    ];
    let found = config(&flags)?.mistakes();
    for flag in flags.iter().skip(2) {
        let name = flag.split('=').next().unwrap_or_default();
        assert!(
            found.iter().any(|mistake| mistake.contains(name)),
            "{name}: {found:?}"
        );
    }
    assert_eq!(found.len(), flags.len() - 2, "{found:?}");
    let enough = config(&[
        "--max-connections=10000",
        "--drain-rate=100",
        "--grace-s=111",
    ])?;
    assert_eq!(enough.mistakes(), Vec::<String>::new());
    Ok(())
}
