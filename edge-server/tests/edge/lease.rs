use hubbub_bus::Leases;
use hubbub_protocol::http::Role;
use hubbub_stack::Direction;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{
    client::{Client, records},
    support::{LONG, OnBus, World, eventually},
};

/// What Redis says to one inline command.
async fn redis(world: &World, command: &str) -> anyhow::Result<String> {
    let addr = world.env.redis_url.trim_start_matches("redis://");
    let mut tcp = TcpStream::connect(addr).await?;
    tcp.write_all(format!("{command}\r\nQUIT\r\n").as_bytes())
        .await?;
    let mut said = String::new();
    tcp.read_to_string(&mut said).await?;
    Ok(said.lines().next().unwrap_or_default().to_owned())
}

#[tokio::test]
async fn lease_stands_while_the_pod_runs_and_is_given_back_by_the_drain() -> anyhow::Result<()> {
    let world = World::new("lease").await?;
    let pod = world.pod("edge-1", &[]).await?;
    let bus = OnBus::start(&world).await?;
    let leases = Leases::new(&bus.publisher);
    assert_eq!(
        leases.pods().await?,
        std::slice::from_ref(&pod.id),
        "there before it is ready"
    );
    // Longer than a lease lives: it is renewed, and never promises more than five seconds.
    let end = tokio::time::Instant::now() + hubbub_bus::LEASE + hubbub_bus::LEASE / 5;
    while tokio::time::Instant::now() < end {
        let ttl_ms: i64 = redis(&world, "PTTL pod:edge-1").await?[1..].parse()?;
        assert!((2_000..=5_000).contains(&ttl_ms), "{ttl_ms} ms");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    pod.lifecycle.begin_drain("the test says so");
    let outcome = pod.lifecycle.finished(LONG).await;
    assert!(!outcome.failed && outcome.cut.is_empty(), "{outcome:?}");
    assert_eq!(redis(&world, "EXISTS pod:edge-1").await?, ":0");
    Ok(())
}

#[tokio::test]
async fn pod_without_its_lease_relays_nothing_and_repairs_when_it_is_back() -> anyhow::Result<()> {
    let world = World::new("paused").await?;
    let pod = world.pod("edge-1", &[]).await?;
    let (mary, john) = (world.caller("mary").await?, world.caller("john").await?);
    let channel = world.channel(&[&mary, &john]).await?;
    let other = world.channel(&[&mary, &john]).await?;
    let mut phone = Client::connect(&pod, &mary).await?;
    let mut tablet = Client::connect(&pod, &john).await?;
    phone.join(channel).await?;
    tablet.join(channel).await?;
    tablet.join(other).await?;
    phone.say(channel, "before").await?;
    tablet.hears("before").await?;
    world.env.redis().pause();
    pod.until_held(true).await?;
    assert_eq!(pod.metric("hubbub_edge_lease_lapses_total").await?, 1.0);
    // Nobody vouches for a membership now. That somebody types is shown to nobody and hinders
    // nothing; a mark goes by the store's word, which alone counts.
    let typing = json!({ "type": "typing", "channel": channel });
    assert_eq!(phone.request(typing).await?["ok"], true);
    let mark = json!({ "type": "mark", "channel": channel, "read": 1 });
    // Here no consumer stores anything, so it is refused for that, and not as overload.
    let said = phone.request(mark).await?;
    assert_eq!(said["error"]["code"], "not_stored_yet", "{said}");
    // The log is there, so sending goes on; nobody is shown it yet.
    phone.say(channel, "during").await?;
    assert!(records(&tablet.rest().await?).is_empty());
    // A channel cannot be opened, and says so; the socket lives.
    let third = world.channel(&[&mary]).await?;
    let said = phone
        .request(json!({ "type": "join", "channel": third }))
        .await?;
    assert_eq!(said["error"]["code"], "bus_unavailable", "{said}");
    assert_eq!(said["error"]["retryable"], true, "{said}");
    // What the store learns meanwhile is not relayed either: John was removed, and this pod
    // cannot know.
    world.store.remove_member(channel, john.id()).await?;
    world.store_log().await?;
    let swept = pod
        .metric("hubbub_edge_store_requests_total{kind=\"range\"}")
        .await?;
    world.env.redis().resume();
    pod.until_held(false).await?;
    phone.hears("during").await?;
    assert_eq!(tablet.of_type("left").await?["channel"], json!(channel));
    phone.say(channel, "after").await?;
    phone.hears("after").await?;
    phone.say(other, "for all").await?;
    tablet.hears("for all").await?;
    let rest = tablet.rest().await?;
    assert!(records(&rest).is_empty(), "removed, and shown {rest:?}");
    assert!(
        pod.metric("hubbub_edge_store_requests_total{kind=\"range\"}")
            .await?
            >= swept
    );
    Ok(())
}

#[tokio::test]
async fn user_removed_while_the_bus_was_lost_is_evicted_before_anything_is_relayed()
-> anyhow::Result<()> {
    let world = World::new("bus_lost").await?;
    let pod = world.pod("edge-1", &[]).await?;
    let (mary, john) = (world.caller("mary").await?, world.caller("john").await?);
    let channel = world.channel(&[&mary, &john]).await?;
    let mut phone = Client::connect(&pod, &mary).await?;
    let mut tablet = Client::connect(&pod, &john).await?;
    phone.join(channel).await?;
    tablet.join(channel).await?;
    world.append(channel, mary.id(), "among us").await?;
    let batches = world.read_log().await?;
    // A question about a membership that was answered "yes" before the loss...
    let mut late = Client::connect(&pod, &john).await?;
    world.core.black_hole(Direction::ToClient);
    let asked = late
        .ask(json!({ "type": "join", "channel": channel }))
        .await?;
    eventually("it was asked", async || {
        let frames = pod.metric("hubbub_edge_frames_in_total").await.ok()?;
        (frames >= 3.0).then_some(())
    })
    .await?;
    // ... and a Redis that comes back empty: no question of the removal ever reached this pod,
    // and no lease of it was there to wait for.
    world.env.redis().kill().await;
    pod.until_held(true).await?;
    world.store.remove_member(channel, john.id()).await?;
    world.env.redis().start().await?;
    world.store(batches).await?;
    assert!(records(&tablet.rest().await?).is_empty());
    world.core.heal();
    phone.hears("among us").await?;
    assert_eq!(tablet.of_type("left").await?["channel"], json!(channel));
    let said = late.reply_to(asked).await?;
    assert_eq!(said["error"]["code"], "channel_not_found", "{said}");
    phone.say(channel, "and still").await?;
    phone.hears("and still").await?;
    for client in [&mut tablet, &mut late] {
        assert_eq!(client.rest().await?, Vec::<Value>::new(), "he was removed");
    }
    // Added again, he is let in.
    world
        .store
        .add_member(channel, john.id(), Role::Member)
        .await?;
    late.join(channel).await?;
    Ok(())
}

#[tokio::test]
async fn memberships_of_many_channels_are_read_again_in_few_statements() -> anyhow::Result<()> {
    const CHANNELS: usize = 60;
    let world = World::new("many_held").await?;
    let pod = world.pod("edge-1", &[]).await?;
    let (mary, john) = (world.caller("mary").await?, world.caller("john").await?);
    let mut phone = Client::connect(&pod, &mary).await?;
    let mut tablet = Client::connect(&pod, &john).await?;
    let mut channels = Vec::new();
    for _ in 0..CHANNELS {
        let channel = world.channel(&[&mary, &john]).await?;
        phone.join(channel).await?;
        tablet.join(channel).await?;
        channels.push(channel);
    }
    let asked = "store_calls_total{database=\"core\",query=\"memberships.among\",outcome=\"ok\"}";
    let joined = pod.metric(asked).await?;
    world.env.redis().kill().await;
    pod.until_held(true).await?;
    // Two removals at once: what one answer evicts makes the rest of it no less fresh.
    for channel in &channels[..2] {
        world.store.remove_member(*channel, john.id()).await?;
    }
    world.env.redis().start().await?;
    pod.until_held(false).await?;
    let mut left = [
        tablet.of_type("left").await?["channel"].clone(),
        tablet.of_type("left").await?["channel"].clone(),
    ];
    left.sort_by_key(Value::to_string);
    assert_eq!(left, [json!(channels[0]), json!(channels[1])]);
    let statements = pod.metric(asked).await? - joined;
    assert!((1.0..10.0).contains(&statements), "{statements} statements");
    for channel in [channels[1], channels[CHANNELS - 1]] {
        phone.say(channel, "still here").await?;
        phone.hears("still here").await?;
    }
    tablet.hears("still here").await?;
    let rest = tablet.rest().await?;
    assert!(records(&rest).is_empty(), "removed, and shown {rest:?}");
    Ok(())
}

#[tokio::test]
async fn what_waits_for_a_slow_client_without_a_lease_is_not_given() -> anyhow::Result<()> {
    let world = World::new("waits").await?;
    let pod = world.pod("edge-1", &["--send-buffer-bytes=4096"]).await?;
    let (mary, john) = (world.caller("mary").await?, world.caller("john").await?);
    let channel = world.channel(&[&mary, &john]).await?;
    let mut slow = Client::narrow(&pod, &john).await?;
    slow.join(channel).await?;
    let mut mary = Client::connect(&pod, &mary).await?;
    mary.join(channel).await?;
    let long = "x".repeat(10_000);
    for n in 0..30 {
        mary.say(channel, &format!("{n} {long}")).await?;
    }
    let waiting = async || pod.state().await.ok()?["outbox_bytes"].as_u64();
    let full = async || (waiting().await? > 200_000).then_some(());
    eventually("they wait", full).await?;
    world.env.redis().pause();
    pod.until_held(true).await?;
    // Nobody waits for this pod's word now.
    world.store.remove_member(channel, john.id()).await?;
    assert_eq!(slow.closed().await?.0, 4008);
    let got = records(&slow.left_over()).len();
    assert!(got < 15, "{got} of 30 came after the removal");
    world.env.redis().resume();
    pod.until_held(false).await?;
    // Who reads as it comes has heard all, and goes on.
    assert_eq!(mary.request(json!({ "type": "ping" })).await?["ok"], true);
    Ok(())
}
