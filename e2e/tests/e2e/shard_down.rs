//! A dead shard stops only its own history; a dead core stops no chat among those who are there.

use std::time::Duration;

use hubbub_client::Page;
use hubbub_e2e::World;
use hubbub_protocol::{ErrorCode, Seq, partition_of};
use tokio::time::Instant;

/// How long each is away.
const OUTAGE: Duration = Duration::from_secs(10);

#[tokio::test]
async fn dead_shard_and_dead_core_leave_chat_alive() -> anyhow::Result<()> {
    let world = World::start("shard-down", 2, 1).await?;
    // Two channels on different shards (partition mod shards).
    let first = world.channel("general").await?;
    let shard_of = |channel| partition_of(channel, world.log().partitions) % 2;
    let mut second = None;
    for n in 0..20 {
        let channel = world.open_channel(&format!("room-{n}")).await?;
        if shard_of(channel) != shard_of(first) {
            second = Some(channel);
            break;
        }
    }
    let second = second.expect("one of twenty channels hashes to the other shard");
    let dead = usize::try_from(shard_of(first))?;
    let mary = world.device("Mary").await?;
    let john = world.device("John").await?;
    for device in [&mary, &john] {
        device.join(first).await?;
        device.join(second).await?;
    }
    let http = world.http("Frank")?;
    mary.client.send(first, "stored")?.wait().await?;
    world.wait_caught_up().await?;
    // The feeds have moved past it: a join from before it needs the store, or an edge that kept it.
    for device in [&mary, &john] {
        device
            .wait("synced", |heard| heard.view.synced(first) > Some(Seq::ZERO))
            .await?;
    }

    world.stack.shard(dead).stop().await;
    let mut said = 0;
    let mut say = async |channels: &[_]| -> anyhow::Result<()> {
        for channel in channels {
            mary.client
                .send(*channel, format!("m{said}"))?
                .wait()
                .await?;
            john.wait_for("live", Duration::from_secs(5), |heard| {
                heard.view.records(*channel).any(|(_, body)| {
                    matches!(body, hubbub_protocol::Body::Message { text, .. }
                        if *text == format!("m{said}"))
                })
            })
            .await?;
            said += 1;
        }
        Ok(())
    };
    let down = Instant::now();
    let mut rounds = 0;
    while down.elapsed() < OUTAGE {
        say(&[first, second]).await?;
        rounds += 1;
    }
    let error = http
        .messages(
            first,
            Page {
                limit: Some(1),
                ..Page::default()
            },
        )
        .await;
    let code = error
        .err()
        .and_then(|error| error.body().map(|body| body.code));
    assert_eq!(
        code,
        Some(ErrorCode::ShardUnavailable),
        "its own channels say so"
    );
    let page = http.messages(second, Page::default()).await?;
    assert!(!page.messages.is_empty(), "the other shard answers");
    // Who comes now is told that there is no history, or gets it from an edge that has all of it
    // in memory; and hears what is said from here on.
    let late = world.device("Sonia").await?;
    let reply = late
        .join_with(
            first,
            hubbub_client::JoinOptions {
                since: Some(Seq::ZERO),
                ..Default::default()
            },
        )
        .await?;
    say(&[first]).await?;
    let owed = if reply.recovered { 1 + rounds + 1 } else { 1 };
    late.wait("live", |heard| heard.view.len(first) >= owed)
        .await?;
    world.stack.shard(dead).start().await?;
    world.wait_caught_up().await?;
    let stored = world.history(first).await?;
    assert_eq!(
        stored
            .iter()
            .filter(|e| matches!(e.body, hubbub_protocol::Body::Message { .. }))
            .count(),
        rounds + 2
    );

    world.stack.core().stop().await;
    let down = Instant::now();
    while down.elapsed() < OUTAGE {
        say(&[first, second]).await?;
    }
    let error = http.messages(first, Page::default()).await;
    let code = error
        .err()
        .and_then(|error| error.body().map(|body| body.code));
    assert_eq!(code, Some(ErrorCode::CoreUnavailable));
    world.stack.core().start().await?;
    for channel in [first, second] {
        let stored = world.history(channel).await?;
        for device in [&mary, &john] {
            device
                .wait("everything, synced", |heard| {
                    heard.view.synced(channel) >= stored.last().map(|entry| entry.seq)
                })
                .await?;
            assert_eq!(device.doubled_on_the_wire(), None);
        }
    }
    world.finish().await
}
