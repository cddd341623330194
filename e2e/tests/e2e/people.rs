//! A direct message with its receipts over a killed pod, and who is here while a pod is frozen.

use std::time::Duration;

use hubbub_client::{Config, Progress, TokenSource};
use hubbub_e2e::{Device, World, eventually};
use hubbub_protocol::{
    ChannelId, DeviceId, Seq, UserId,
    http::{DeliveryStatus, MessageStatus},
};
use tokio::time::Instant;

/// A device of a user with a name of its own, through HAProxy or on one edge.
async fn named(world: &World, user: &str, device: &str, url: &str) -> anyhow::Result<Device> {
    let mut config = Config::new(url, TokenSource::Fixed(world.token(user)?));
    config.device = Some(device.parse()?);
    Device::with_config(config).await
}

fn of_device(status: &MessageStatus, user: UserId, device: &str) -> Option<DeliveryStatus> {
    let device: DeviceId = device.parse().ok()?;
    let mut all = status.devices.iter();
    let found = all.find(|d| d.user == user && d.device.as_ref() == Some(&device));
    found.map(|d| d.status)
}

/// Waits until the device's status of a message is this one.
async fn becomes(
    world: &World,
    channel: ChannelId,
    seq: Seq,
    to: (UserId, &str),
    wanted: DeliveryStatus,
) -> anyhow::Result<()> {
    let mary = world.http("Mary")?;
    let mary = &mary;
    eventually(&format!("{wanted:?}"), || async move {
        let status = mary.status(channel, seq).await?;
        Ok(of_device(&status, to.0, to.1) == Some(wanted))
    })
    .await
}

#[tokio::test]
async fn direct_message_is_sent_delivered_and_read_over_a_killed_pod() -> anyhow::Result<()> {
    let world = World::start("direct", 4, 1).await?;
    let john = world.user("John").await?;
    let http = world.http("Mary")?;
    let ws = |edge: usize| format!("ws://{}/ws", world.stack.edge(edge).addr());
    let mary = named(&world, "Mary", "laptop", &ws(1)).await?;
    let phone = named(&world, "John", "phone", &ws(0)).await?;
    // Opened while both are there: nobody joins anything.
    let channel = http.direct(john).await?.channel;
    let joined = |device: &Device| {
        let told = format!(r#""type":"joined","channel":"{channel}""#);
        device.heard(|heard| heard.wire.iter().any(|(_, text)| text.contains(&told)))
    };
    eventually("both devices are joined", || async {
        Ok(joined(&mary) && joined(&phone))
    })
    .await?;
    let first = mary.client.send(channel, "are you there?")?.wait().await?;
    let first = first.seq.expect("sent once");
    phone.wait_text(channel, "are you there?").await?;
    becomes(
        &world,
        channel,
        first,
        (john, "phone"),
        DeliveryStatus::Delivered,
    )
    .await?;
    phone.client.mark_read(channel, first).await?;
    becomes(
        &world,
        channel,
        first,
        (john, "phone"),
        DeliveryStatus::Read,
    )
    .await?;
    let receipt = format!(r#""user":"{john}","device":"phone","delivered":{first},"read":{first}"#);
    mary.wait("the sign that it was read", |heard| {
        heard.wire.iter().any(|(_, text)| text.contains(&receipt))
    })
    .await?;

    // The pod dies, and the phone with it: what is said now is sent, and no more than that.
    world.stack.edge(0).kill().await;
    drop(phone);
    let second = mary.client.send(channel, "hello?")?.wait().await?;
    let second = second.seq.expect("sent once");
    becomes(
        &world,
        channel,
        second,
        (john, "phone"),
        DeliveryStatus::Sent,
    )
    .await?;
    let unread = world.http("John")?.unread().await?;
    let unread: Vec<_> = unread
        .channels
        .iter()
        .filter(|c| c.channel == channel)
        .collect();
    assert_eq!((unread[0].read, unread[0].unread), (first, 1));

    // It comes back through another pod.
    let phone = named(&world, "John", "phone", &ws(2)).await?;
    becomes(
        &world,
        channel,
        second,
        (john, "phone"),
        DeliveryStatus::Delivered,
    )
    .await?;
    let progress = Progress {
        delivered: None,
        read: Some(second),
    };
    let johns = world.http("John")?;
    johns
        .mark(channel, Some(&"phone".parse()?), progress)
        .await?;
    becomes(
        &world,
        channel,
        second,
        (john, "phone"),
        DeliveryStatus::Read,
    )
    .await?;
    assert_eq!(
        johns.direct(world.user("Mary").await?).await?.channel,
        channel
    );
    drop(phone);
    world.finish().await
}

#[tokio::test]
async fn who_is_here_names_the_pod_that_is_frozen() -> anyhow::Result<()> {
    let world = World::start("who", 4, 1).await?;
    let maths = world.channel("Maths").await?;
    let mut devices = Vec::new();
    for (edge, user) in ["John", "Mary", "Mike", "Frank"].into_iter().enumerate() {
        let device = world.device_on(user, edge).await?;
        device.join(maths).await?;
        devices.push(device);
    }
    let http = world.http_at("John", 0)?;
    let here = http.who(maths).await?;
    assert!(here.complete, "{here:?}");
    let mut pods: Vec<_> = here.users.iter().map(|l| l.pod.to_string()).collect();
    pods.sort();
    assert_eq!(pods, ["edge-1", "edge-2", "edge-3", "edge-4"]);
    assert_eq!(http.room_users("Maths").await?.len(), 4);

    world.stack.edge(3).pause();
    let begun = Instant::now();
    let here = http.who(maths).await?;
    let took = begun.elapsed();
    assert!(!here.complete);
    assert_eq!(here.missing, ["edge-4".parse()?]);
    assert_eq!(here.users.len(), 3);
    // The pods have 300 ms; the rest is this machine's.
    assert!(took < Duration::from_millis(1_000), "{took:?}");
    world.stack.edge(3).resume();
    eventually("the frozen pod answers again", || async {
        Ok(http.who(maths).await?.complete)
    })
    .await?;
    world.finish().await
}
