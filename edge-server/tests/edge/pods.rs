use std::time::Duration;

use hubbub_protocol::{BusChannel, Stored};
use serde_json::json;
use tokio::time::Instant;

use crate::{
    client::{Client, records},
    support::{Awake, LONG, OnBus, World, eventually},
};

#[tokio::test]
async fn message_goes_from_pod_to_pod_and_only_to_pods_with_listeners() -> anyhow::Result<()> {
    let world = World::new("two_pods").await?;
    let (a, b, c) = tokio::try_join!(
        world.pod("edge-a", &[]),
        world.pod("edge-b", &[]),
        world.pod("edge-c", &[])
    )?;
    let (mary, john) = (world.caller("mary").await?, world.caller("john").await?);
    let channel = world.channel(&[&mary, &john]).await?;
    let mut mary_a = Client::connect(&a, &mary).await?;
    let mut john_b = Client::connect(&b, &john).await?;
    let mut mary_c = Client::connect(&c, &mary).await?;
    assert_eq!(world.subscribers(channel).await?, 0);
    mary_a.join(channel).await?;
    assert_eq!(
        world.subscribers(channel).await?,
        1,
        "subscribed before the reply"
    );
    john_b.join(channel).await?;
    assert_eq!(world.subscribers(channel).await?, 2);
    mary_a.say(channel, "from a").await?;
    john_b.hears("from a").await?;
    john_b.say(channel, "from b").await?;
    mary_a.hears("from b").await?;
    // Speaking is not listening.
    mary_c.say(channel, "from c").await?;
    mary_a.hears("from c").await?;
    john_b.hears("from c").await?;
    assert_eq!(
        world.subscribers(channel).await?,
        2,
        "no subscription without a listener"
    );
    assert!(records(&mary_c.rest().await?).is_empty());
    assert_eq!(
        c.metric("hubbub_edge_bus_events_total{kind=\"record\"}")
            .await?,
        0.0
    );
    Ok(())
}

#[tokio::test]
async fn last_listener_that_leaves_ends_the_subscription_after_a_linger() -> anyhow::Result<()> {
    let world = World::new("linger").await?;
    let pod = world.pod("edge-1", &[]).await?;
    let (mary, john) = (world.caller("mary").await?, world.caller("john").await?);
    let channel = world.channel(&[&mary, &john]).await?;
    let mut mary = Client::connect(&pod, &mary).await?;
    let mut john = Client::connect(&pod, &john).await?;
    mary.join(channel).await?;
    john.join(channel).await?;
    let leave = json!({ "type": "leave", "channel": channel });
    mary.request(leave.clone()).await?;
    mary.request(leave.clone()).await?;
    john.say(channel, "john is here").await?;
    john.hears("john is here").await?;
    assert!(records(&mary.rest().await?).is_empty(), "she left");
    // Leaving and coming back within the linger costs no subscription.
    let subscribed = async || {
        pod.metric("hubbub_edge_bus_events_total{kind=\"subscribed\"}")
            .await
    };
    let begun = Instant::now();
    let before = loop {
        anyhow::ensure!(begun.elapsed() < LONG, "never back within the linger");
        let (before, left) = (subscribed().await?, Instant::now());
        john.request(leave.clone()).await?;
        let lingers = world.subscribers(channel).await?;
        john.join(channel).await?;
        // A linger that was over by then says nothing.
        if left.elapsed() < Duration::from_secs(1) {
            assert_eq!(lingers, 1, "it lingers");
            break before;
        }
    };
    john.say(channel, "back").await?;
    john.hears("back").await?;
    assert_eq!(subscribed().await?, before);
    // The end of the last socket counts as a leave.
    drop(john);
    eventually("unsubscribed", async || {
        (world.subscribers(channel).await.ok()? == 0).then_some(())
    })
    .await?;
    assert_eq!(pod.state().await?["channels"], 0);
    mary.join(channel).await?;
    assert_eq!(world.subscribers(channel).await?, 1);
    mary.say(channel, "again").await?;
    mary.hears("again").await?;
    Ok(())
}

#[tokio::test]
async fn hole_is_repaired_by_the_sweep_when_every_message_was_lost() -> anyhow::Result<()> {
    let world = World::new("sweep").await?;
    let (a, b) = tokio::try_join!(world.pod("edge-a", &[]), world.pod("edge-b", &[]))?;
    let (mary, john) = (world.caller("mary").await?, world.caller("john").await?);
    let channel = world.channel(&[&mary, &john]).await?;
    let mut mary = Client::connect(&a, &mary).await?;
    let mut john = Client::connect(&b, &john).await?;
    john.join(channel).await?;
    // A resend is not published, and nobody announces it: the store alone knows.
    let request = json!({ "type": "message", "channel": channel, "text": "lost", "retry": true });
    assert_eq!(mary.request(request).await?["ok"], true);
    world.store_log().await?;
    let awake = Awake::start();
    john.hears("lost").await?;
    let took = awake.elapsed();
    assert!(took < Duration::from_millis(2_500), "after {took:?}");
    Ok(())
}

#[tokio::test]
async fn nonsense_on_the_bus_is_counted_and_dropped() -> anyhow::Result<()> {
    let world = World::new("nonsense").await?;
    let pod = world.pod("edge-1", &[]).await?;
    let bus = OnBus::start(&world).await?;
    let mary = world.caller("mary").await?;
    let (channel, other) = (
        world.channel(&[&mary]).await?,
        world.channel(&[&mary]).await?,
    );
    let mut client = Client::connect(&pod, &mary).await?;
    client.join(channel).await?;
    let foreign = Stored {
        channel: other,
        from: hubbub_protocol::Seq(0),
        through: hubbub_protocol::Seq(9),
        seqs: None,
    };
    let to = BusChannel::Channel(channel);
    let deep = "[".repeat(60_000);
    for payload in [
        &b""[..],
        b"\xff\xfe",
        b"[]",
        b"{}",
        deep.as_bytes(),
        &foreign.encode(),
    ] {
        bus.publisher.publish(&to, payload.to_vec().into()).await?;
    }
    bus.publisher
        .publish(
            &to,
            format!(r#"{{"type":"confetti","channel":"{channel}"}}"#).into(),
        )
        .await?;
    for to in [BusChannel::Pods, BusChannel::Pod(pod.id.clone())] {
        for payload in ["", "{", r#"{"type":"confetti"}"#, r#"{"type":"ask"}"#] {
            bus.publisher.publish(&to, payload.into()).await?;
        }
    }
    client.say(channel, "all is well").await?;
    client.hears("all is well").await?;
    assert!(records(&client.rest().await?).is_empty());
    let malformed = pod
        .metric("hubbub_edge_bus_events_total{kind=\"malformed\"}")
        .await?;
    assert!(malformed >= 14.0, "{malformed}");
    assert_eq!(
        pod.metric("hubbub_edge_bus_events_total{kind=\"unknown\"}")
            .await?,
        1.0
    );
    Ok(())
}
