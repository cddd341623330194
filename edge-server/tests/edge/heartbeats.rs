use std::time::Duration;

use hubbub_protocol::UserEvent;
use hubbub_service::{telemetry::wall_clock_ms, token::valid_until};
use serde_json::json;
use tokio::time::Instant;

use crate::{
    client::{Client, Seen},
    raw::Raw,
    support::{Awake, LONG, OnBus, World, eventually, token_of},
};

#[tokio::test]
async fn silent_client_is_closed_and_one_that_answers_pings_is_not() -> anyhow::Result<()> {
    let world = World::new("heartbeat").await?;
    let pod = world.pod("edge-1", &["--heartbeat-ms=1000"]).await?;
    let mary = world.caller("mary").await?;
    let mut alive = Client::connect(&pod, &mary).await?;
    let begun = Instant::now();
    let mut silent = Raw::upgraded(pod.addr, &mary.token).await?;
    let awake = Awake::start();
    let dead = async {
        let mut pings = 0;
        let code = loop {
            let (opcode, payload) = silent.frame().await?.expect("a close frame comes first");
            match opcode {
                9 => pings += 1,
                8 => break u16::from_be_bytes([payload[0], payload[1]]),
                other => panic!("opcode {other}"),
            }
        };
        anyhow::Ok((pings, code, begun.elapsed(), awake.elapsed()))
    };
    let lives = async {
        let (mut pings, mut gap, mut last) = (0, Duration::ZERO, awake.elapsed());
        // Longer than the silence that kills.
        while awake.elapsed() < Duration::from_secs(13) {
            let seen = tokio::time::timeout(LONG, alive.see()).await??;
            assert_eq!(seen, Seen::Ping);
            pings += 1;
            gap = gap.max(awake.elapsed() - last);
            last = awake.elapsed();
        }
        anyhow::Ok((pings, gap))
    };
    let ((pings, code, took, seen), (answered, gap)) = tokio::try_join!(dead, lives)?;
    assert_eq!(code, 4000);
    assert!(took.as_secs_f64() >= 10.5, "after {took:?}");
    assert!(seen < Duration::from_secs(14), "after {seen:?}");
    let least = seen.as_secs().saturating_sub(2);
    assert!(pings >= least, "{pings} pings in {seen:?}");
    assert!(answered >= 11, "{answered} pings");
    assert!(gap < Duration::from_millis(1_900), "{gap:?} without a ping");
    assert_eq!(alive.request(json!({ "type": "ping" })).await?["ok"], true);
    Ok(())
}

#[tokio::test]
async fn expired_token_closes_its_socket() -> anyhow::Result<()> {
    let world = World::new("expiry").await?;
    let pod = world.pod("edge-1", &[]).await?;
    let mary = world.caller("mary").await?;
    let mut stays = Client::connect(&pod, &mary).await?;
    // Valid for five seconds more: clocks may differ by half a minute.
    let (awake, expires_at_s) = (Awake::start(), wall_clock_ms() / 1_000 - 25);
    let mut ends = Client::open(pod.addr, &token_of("mary", None, -25)).await?;
    let (code, reason) = ends.closed().await?;
    let (closed_at_s, took) = (wall_clock_ms() / 1_000, awake.elapsed());
    assert_eq!(code, 4401, "{reason}");
    assert!(closed_at_s >= valid_until(expires_at_s), "too early");
    // It is looked at every five seconds.
    assert!(took < Duration::from_secs(11), "after {took:?}");
    assert_eq!(stays.request(json!({ "type": "ping" })).await?["ok"], true);
    Ok(())
}

#[tokio::test]
async fn socket_above_the_users_limit_takes_the_place_of_the_oldest() -> anyhow::Result<()> {
    let world = World::new("eleventh").await?;
    let pod = world.pod("edge-1", &["--max-sockets-per-user=3"]).await?;
    let (mary, john) = (world.caller("mary").await?, world.caller("john").await?);
    let mut other = Client::connect(&pod, &john).await?;
    let mut here = Vec::new();
    for _ in 0..3 {
        here.push(Client::connect(&pod, &mary).await?);
    }
    let mut fourth = Client::connect(&pod, &mary).await?;
    assert_eq!(here[0].closed().await?.0, 4502);
    for client in here[1..].iter_mut().chain([&mut fourth, &mut other]) {
        assert_eq!(client.request(json!({ "type": "ping" })).await?["ok"], true);
    }
    // Many at once: as many of the older ones go.
    let many = (0..6).map(|_| Client::connect(&pod, &mary));
    let many = futures_util::future::try_join_all(many).await?;
    pod.until_sockets(4).await?;
    assert_eq!(here[1].closed().await?.0, 4502);
    assert_eq!(here[2].closed().await?.0, 4502);
    assert_eq!(fourth.closed().await?.0, 4502);
    drop(many);
    pod.until_sockets(1).await
}

#[tokio::test]
async fn slow_client_is_closed_only_when_it_takes_no_byte() -> anyhow::Result<()> {
    let world = World::new("slow").await?;
    let flags = ["--send-buffer-bytes=4096", "--slow-ms=2000"];
    let pod = world.pod("edge-1", &flags).await?;
    let (mary, john) = (world.caller("mary").await?, world.caller("john").await?);
    let channel = world.channel(&[&mary, &john]).await?;
    let mut stuck = Client::narrow(&pod, &john).await?;
    let mut slow = Client::narrow(&pod, &john).await?;
    stuck.join(channel).await?;
    slow.join(channel).await?;
    let mut mary = Client::connect(&pod, &mary).await?;
    let text = "x".repeat(10_000);
    // All at once: until they have come, the slow one takes nothing either.
    let message = json!({ "type": "message", "channel": channel, "text": text });
    for _ in 0..19 {
        mary.feed(&message).await?;
    }
    mary.say(channel, &text).await?;
    let begun = Instant::now();
    // One takes a message now and then, the other takes nothing.
    let mut frames = 0;
    let mut every = tokio::time::interval(Duration::from_millis(300));
    while begun.elapsed() < Duration::from_secs(5) {
        every.tick().await;
        slow.hears(&text).await?;
        frames += 1;
    }
    for _ in frames..20 {
        slow.hears(&text).await?;
    }
    assert_eq!(slow.request(json!({ "type": "ping" })).await?["ok"], true);
    // What the kernel and the outbox still had comes, and then the reason.
    assert_eq!(stuck.closed().await?.0, 4008);
    pod.until_sockets(2).await?;
    let closes = eventually("counted", async || {
        let closes = pod
            .metric("hubbub_edge_closes_total{kind=\"slow\"}")
            .await
            .ok()?;
        (closes > 0.0).then_some(closes)
    });
    assert_eq!(closes.await?, 1.0);
    Ok(())
}

#[tokio::test]
async fn socket_that_is_closing_and_has_room_again_holds_up_nobody() -> anyhow::Result<()> {
    let world = World::new("closing").await?;
    let pod = world.pod("edge-1", &["--send-buffer-bytes=4096"]).await?;
    let bus = OnBus::start(&world).await?;
    let (mary, john) = (world.caller("mary").await?, world.caller("john").await?);
    let channel = world.channel(&[&mary, &john]).await?;
    let mut stuck = Client::narrow(&pod, &john).await?;
    stuck.join(channel).await?;
    world.until_followed(john.id(), 1).await?;
    let mut mary = Client::connect(&pod, &mary).await?;
    let text = "x".repeat(10_000);
    for _ in 0..20 {
        mary.say(channel, &text).await?;
    }
    bus.tell(john.id(), UserEvent::Revoked {}).await?;
    // Behind the close frame there is no place for these.
    for _ in 0..3 {
        mary.say(channel, &text).await?;
        assert_eq!(mary.request(json!({ "type": "ping" })).await?["ok"], true);
    }
    // The client takes all of it, and its outbox has room for nothing all the same.
    assert_eq!(stuck.closed().await?.0, 4501);
    assert_eq!(mary.request(json!({ "type": "ping" })).await?["ok"], true);
    assert_eq!(pod.metric("hubbub_edge_lease_lapses_total").await?, 0.0);
    Ok(())
}
