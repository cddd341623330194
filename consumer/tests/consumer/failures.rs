use std::time::Duration;

use anyhow::Result;
use hubbub_consumer::Error;
use hubbub_log::create_topic;
use hubbub_protocol::partition_of;
use hubbub_stack::Proxy;
use hubbub_store::Incoming;
use tokio::time::Instant;

use crate::world::{DEADLINE, PARTITIONS, World, channel, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn shard_that_is_away_stops_its_own_partitions_only() -> Result<()> {
    let mut world = World::new("shard_that_is_away").await?;
    let proxy = Proxy::start(world.env.postgres_addr())?;
    let direct = world.env.postgres_addr().to_string();
    world.at.shard_urls[1] = world.at.shard_urls[1].replace(&direct, &proxy.addr().to_string());
    let on_shard = |shard: usize| {
        let mut channels = (1..).map(channel);
        let found = channels.find(|channel| world.store.shard_of(*channel) == shard);
        found.expect("murmur2 reaches both shards")
    };
    let (alive, away) = (on_shard(0), on_shard(1));
    let consumer = world.consumer().await?;
    let before = world.append(away, "before").await?;
    eventually("the first message of the second shard", async || {
        world
            .store
            .head(away)
            .await
            .is_ok_and(|head| head == before)
    })
    .await;

    proxy.go_down();
    let missed = world.append(away, "while it is away").await?;
    let mut took = Vec::new();
    for number in 0..20 {
        let seq = world.append(alive, &number.to_string()).await?;
        let began = Instant::now();
        eventually("a message of the living shard", async || {
            world.store.head(alive).await.is_ok_and(|head| head >= seq)
        })
        .await;
        took.push(began.elapsed());
    }
    // Whoever waits for the dead shard waits each time; a machine that is busy lets some wait.
    took.sort();
    assert!(took[took.len() / 2] < Duration::from_secs(1), "{took:?}");
    // The test's own connection goes around the proxy.
    assert_eq!(world.store.head(away).await?, before);
    proxy.heal();
    eventually("the shard caught up", async || {
        world
            .store
            .head(away)
            .await
            .is_ok_and(|head| head == missed)
    })
    .await;
    world.settle().await?;
    consumer.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn consumer_that_lost_its_partition_begins_again_at_the_position() -> Result<()> {
    let world = World::new("consumer_that_lost").await?;
    let here = channel(1);
    let partition = partition_of(here, PARTITIONS);
    let consumer = world.consumer().await?;
    let first = world.append(here, "first").await?;
    eventually("the first message", async || {
        world.store.head(here).await.is_ok_and(|head| head == first)
    })
    .await;
    // Somebody else moves the position: the next record is taken for a dead letter.
    let position = world.store.positions(&[partition]).await?[0].1;
    let dead = Incoming::Dead {
        seq: hubbub_protocol::Seq(first.0 + 1),
        channel: None,
        payload: None,
        key: None,
        ts_ms: 0,
        error: "written by another owner".to_owned(),
    };
    let moved = world
        .store
        .write_batch(partition, position, position + 1, &[dead], || {})
        .await?;
    assert_eq!(moved.dead, 1);
    world.append(here, "taken by the other owner").await?;
    let third = world.append(here, "third").await?;
    eventually("the third message", async || {
        world.store.head(here).await.is_ok_and(|head| head == third)
    })
    .await;
    let account = world.accounts().await?[&partition];
    assert_eq!((account.rows, account.dead, account.records()), (2, 1, 3));
    consumer.stop().await
}

/// A shard that cancels whatever puts more than a few rows into it at once.
#[tokio::test(flavor = "multi_thread")]
async fn batch_that_is_too_slow_is_written_in_smaller_ones() -> Result<()> {
    let world = World::new("batch_that_is_too_slow").await?;
    for url in &world.at.shard_urls {
        let cancels = "create function cancel() returns trigger language plpgsql as $$
             begin
                 if (select count(*) from made) > 3 then
                     raise query_canceled;
                 end if;
                 return null;
             end $$;
             create trigger slow after insert on messages
             referencing new table as made for each statement execute function cancel();";
        world.env.sql(url, cancels).await?;
    }
    world.append_many(1, 40).await?;
    let consumer = world.consumer().await?;
    let account = world.settle().await?;
    assert_eq!((account.rows, account.dead), (40, 0));
    consumer.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_away_costs_announcements_and_nothing_else() -> Result<()> {
    let world = World::new("redis_away").await?;
    world.env.redis().kill().await;
    let consumer = world.consumer().await?;
    world.append_many(5, 200).await?;
    assert_eq!(world.settle().await?.rows, 200);
    consumer.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn log_that_does_not_belong_to_the_store_is_refused() -> Result<()> {
    let mut world = World::new("log_that_does_not_belong").await?;
    world.env.topic.push_str("-other");
    let other = hubbub_log::Config {
        topic: world.env.topic.clone(),
        ..world.log.clone()
    };
    create_topic(&other, 1).await?;
    create_topic(&other.marks(), 1).await?;
    let error = world.consumer().await?.failure().await?;
    assert!(matches!(&error, Error::Refused(_)), "{error}");
    assert!(
        error.to_string().contains("hubbub admin new-log"),
        "{error}"
    );

    let process = world.process("refused", &[]).await?;
    let status = tokio::time::timeout(DEADLINE, process.exited()).await?;
    assert_eq!(status.and_then(|status| status.code()), Some(78));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn log_that_ends_below_the_store_is_refused() -> Result<()> {
    let world = World::new("log_that_ends_below").await?;
    world.append(channel(1), "one").await?;
    let partition = partition_of(channel(1), PARTITIONS);
    let dead = |seq| Incoming::Dead {
        seq: hubbub_protocol::Seq(seq),
        channel: None,
        payload: None,
        key: None,
        ts_ms: 0,
        error: "of the topic that was lost".to_owned(),
    };
    let store = &world.store;
    store
        .write_batch(partition, 0, 2, &[dead(1), dead(2)], || {})
        .await?;
    let error = world.consumer().await?.failure().await?;
    assert!(matches!(&error, Error::Refused(_)), "{error}");
    let error = error.to_string();
    assert!(
        error.contains(&format!("partition {partition} ")),
        "{error}"
    );
    assert!(
        error.contains("offset 1 and the store's position is 2"),
        "{error}"
    );
    assert!(error.contains("hubbub admin new-log"), "{error}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn partition_whose_rows_contradict_the_log_stops_alone() -> Result<()> {
    let world = World::new("rows_contradict").await?;
    let store = &world.store;
    let here = channel(1);
    let stopped = partition_of(here, PARTITIONS);
    let alive = (1..)
        .map(channel)
        .find(|channel| partition_of(*channel, PARTITIONS) != stopped)
        .expect("8 partitions");
    let process = world.process("contradicted", &[]).await?;
    let stored = async |to| {
        let seq = world.append(to, "stored").await?;
        eventually("the message", async || {
            store.head(to).await.is_ok_and(|head| head == seq)
        })
        .await;
        anyhow::Ok(())
    };
    // The start is over.
    stored(alive).await?;
    // No part of the system puts a head where the position does not reach.
    let shard = &world.env.shard_urls[store.shard_of(here)];
    let head = format!(
        "insert into channel_heads (channel_id, partition, through, ordinal)
         values ({}, {stopped}, 100, 1)",
        here.shard_key()
    );
    world.env.sql(shard, &head).await?;
    world.append(here, "below the head").await?;
    let log = world.env.dir().join("contradicted.log");
    let refusals = || {
        let text = std::fs::read_to_string(&log).unwrap_or_default();
        text.matches("contradict the log").count()
    };
    eventually("the refusal", async || refusals() > 0).await;
    world.append(here, "nobody reads it").await?;
    stored(alive).await?;
    assert_eq!(refusals(), 1, "it is said once, and not tried again");
    assert_eq!(store.positions(&[stopped]).await?, [(stopped, 0)]);
    let status = process.stop().await;
    assert!(status.is_some_and(|status| status.success()), "{status:?}");
    Ok(())
}
