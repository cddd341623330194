//! A direct message with its receipts over a killed pod, and who is here while a pod is frozen.

use std::time::Duration;

use anyhow::{Context, ensure};
use hubbub_client::{Config, Http, Progress, TokenSource};
use hubbub_e2e::{Device, World, eventually};
use hubbub_protocol::{
    ChannelId, DeviceId, Seq, UserId,
    http::{DeliveryStatus, Listeners, MessageStatus},
};
use tokio::time::Instant;

/// As a condition of [`eventually`] is given.
const PATIENCE: Duration = Duration::from_secs(30);

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

/// Asks who is here until an answer is as wanted, also in how long it took, at most `within`: a pod
/// that is busy for a quarter of a second is missing.
async fn who_until(
    http: &Http,
    channel: ChannelId,
    within: Duration,
    wanted: impl Fn(&Listeners, Duration) -> bool,
) -> anyhow::Result<Listeners> {
    let begun = Instant::now();
    loop {
        let asked = Instant::now();
        match http.who(channel).await {
            Ok(here) if wanted(&here, asked.elapsed()) => return Ok(here),
            Err(error) if !error.retryable() => return Err(error.into()),
            other => ensure!(
                begun.elapsed() < within,
                "{other:?} in {:?}",
                asked.elapsed()
            ),
        }
    }
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
    let all = |here: &Listeners, _| here.complete && here.users.len() == 4;
    let here = who_until(&http, maths, PATIENCE, all).await?;
    let mut pods: Vec<_> = here.users.iter().map(|l| l.pod.to_string()).collect();
    pods.sort();
    assert_eq!(pods, ["edge-1", "edge-2", "edge-3", "edge-4"]);
    eventually("four in the room", || async {
        let room = world.patient(|| http.room_users("Maths")).await?;
        Ok(room.len() == 4)
    })
    .await?;

    // The pods have 250 ms; the rest of the second is this machine's. The frozen one is missed for
    // as long as its lease stands.
    let frozen = ["edge-4".parse()?];
    let named = |here: &Listeners, took| {
        here.missing == frozen && here.users.len() == 3 && took < Duration::from_secs(1)
    };
    let mut tries = 0;
    let here = loop {
        world.stack.edge(3).pause();
        let here = who_until(&http, maths, Duration::from_secs(3), named).await;
        world.stack.edge(3).resume();
        who_until(&http, maths, PATIENCE, all)
            .await
            .context("the frozen pod answers again")?;
        tries += 1;
        if here.is_ok() || tries == 3 {
            break here?;
        }
    };
    assert!(!here.complete);
    world.finish().await
}
