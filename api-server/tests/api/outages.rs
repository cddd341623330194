use std::time::Duration;

use hubbub_protocol::http::{Channel, ChannelKind};
use reqwest::Method;
use serde_json::json;
use tokio::time::Instant;

use crate::support::{Caller, World, eventually};

/// A channel on each shard, with a message in it.
async fn channel_on(world: &World, shard: usize, owner: &Caller) -> anyhow::Result<Channel> {
    for _ in 0..64 {
        let channel = world.channel(ChannelKind::Private, owner, &[]).await?;
        if world.store.shard_of(channel.id) == shard {
            world.store_messages(channel.id, owner, 1).await?;
            return Ok(channel);
        }
    }
    anyhow::bail!("64 channels and none on shard {shard}")
}

#[tokio::test]
async fn shard_that_is_away_fails_the_history_of_its_channels_only() -> anyhow::Result<()> {
    let world = World::new("shard_away").await?;
    let mary = world.caller("mary").await?;
    let here = channel_on(&world, 0, &mary).await?;
    let away = channel_on(&world, 1, &mary).await?;
    let messages = |channel: &Channel| format!("/channels/{}/messages", channel.id);
    world.shards[1].go_down();
    for query in ["", "?at_least=9"] {
        let (status, body) = world
            .get(&format!("{}{query}", messages(&away)), &mary)
            .await?;
        assert_eq!(status, 503, "{query}: {body}");
        assert_eq!(body["error"]["code"], "shard_unavailable");
        assert_eq!(body["error"]["retryable"], true);
    }
    // One that waits for a connection of the other shard waits 2 s.
    let begun = Instant::now();
    assert_eq!(world.get(&messages(&here), &mary).await?.0, 200);
    assert!(begun.elapsed() < Duration::from_secs(2));
    let hi = json!({ "text": "hi" });
    for channel in [&here, &away] {
        let sent = world
            .send(Method::POST, &messages(channel), Some(&mary), Some(&hi))
            .await?;
        assert_eq!(sent.0, 201, "{}", sent.1);
    }
    assert_eq!(world.get("/channels", &mary).await?.0, 200);
    let ready = reqwest::get(format!("{}/readyz", world.ops)).await?;
    assert_eq!(ready.status(), 200);

    world.shards[1].heal();
    eventually("the shard is back", || async {
        let (status, _) = world.get(&messages(&away), &mary).await.ok()?;
        (status == 200).then_some(())
    })
    .await
}

#[tokio::test]
async fn core_that_is_away_is_said_and_comes_back() -> anyhow::Result<()> {
    let world = World::new("core_away").await?;
    let mary = world.caller("mary").await?;
    let channel = channel_on(&world, 0, &mary).await?;
    let messages = format!("/channels/{}/messages", channel.id);
    assert_eq!(world.get(&messages, &mary).await?.0, 200);
    world.core.go_down();
    let (status, body) = world.get(&messages, &mary).await?;
    assert_eq!(
        (status, &body["error"]["code"]),
        (503, &json!("core_unavailable"))
    );
    let hi = json!({ "text": "hi" });
    let (status, body) = world
        .send(Method::POST, &messages, Some(&mary), Some(&hi))
        .await?;
    assert_eq!(
        (status, &body["error"]["code"]),
        (503, &json!("core_unavailable"))
    );
    assert_eq!(
        body["error"]["outcome"], "rejected",
        "it never reached the log"
    );
    let ready = reqwest::get(format!("{}/readyz", world.ops)).await?;
    assert_eq!(ready.status(), 200);

    world.core.heal();
    eventually("the core is back", || async {
        let (status, _) = world.get(&messages, &mary).await.ok()?;
        (status == 200).then_some(())
    })
    .await
}
