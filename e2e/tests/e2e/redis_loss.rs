//! The bus dies in every way that it can; nothing is lost, and holes are closed within 2 s.

use std::time::Duration;

use hubbub_e2e::{Device, MARGIN, World};
use hubbub_protocol::ChannelId;
use tokio::time::Instant;

/// Contract P7.
const WITHIN: Duration = Duration::from_secs(2);

async fn everyone_has(devices: &[Device], channel: ChannelId, count: usize) -> anyhow::Result<()> {
    for device in devices {
        device
            .wait_for("every record", WITHIN + MARGIN, |heard| {
                heard.view.len(channel) >= count
            })
            .await?;
        assert_eq!(device.heard(|heard| heard.view.len(channel)), count);
        assert_eq!(device.doubled_on_the_wire(), None);
    }
    Ok(())
}

#[tokio::test]
async fn redis_killed_and_restarted_under_traffic_loses_nothing() -> anyhow::Result<()> {
    let world = World::start("redis-kill", 2, 1).await?;
    let maths = world.channel("Maths").await?;
    let mut devices = Vec::new();
    for user in ["John", "Mike", "Frank", "Sonia"] {
        let device = world.device(user).await?;
        device.join(maths).await?;
        devices.push(device);
    }
    let mary = world.device("Mary").await?;
    let mut count = 0;
    for round in 0..3 {
        let mut sends = Vec::new();
        for n in 0..30 {
            sends.push(mary.client.send(maths, format!("r{round} m{n}"))?);
            if n == 10 {
                world.stack.redis().kill().await;
            }
        }
        // An `ok` needs the log, not the bus.
        for send in sends {
            send.wait().await?;
        }
        count += 30;
        world.stack.redis().start().await?;
        everyone_has(&devices, maths, count).await?;
    }
    world.finish().await
}

#[tokio::test]
async fn one_message_in_a_quiet_channel_after_a_killed_subscription_arrives() -> anyhow::Result<()>
{
    let world = World::start("redis-quiet", 2, 1).await?;
    let quiet = world.channel("general").await?;
    let mut devices = Vec::new();
    for user in ["John", "Mike"] {
        let device = world.device(user).await?;
        device.join(quiet).await?;
        devices.push(device);
    }
    let mary = world.device("Mary").await?;
    for round in 0..10 {
        world
            .redis_command(&["CLIENT", "KILL", "TYPE", "pubsub"])
            .await?;
        mary.client
            .send(quiet, format!("only {round}"))?
            .wait()
            .await?;
        everyone_has(&devices, quiet, round + 1).await?;
    }
    world.finish().await
}

#[tokio::test]
async fn lost_message_and_lost_announcement_are_found_by_the_sweep() -> anyhow::Result<()> {
    // The consumer's announcements are dropped (it dies after each commit is too blunt): its
    // Redis is a port where nobody listens.
    let mut world = World::start("redis-deaf", 2, 0).await?;
    world
        .start_consumer(&[("REDIS_URL", "redis://127.0.0.1:1")])
        .await?;
    let quiet = world.channel("general").await?;
    let mut devices = Vec::new();
    for user in ["John", "Mike"] {
        let device = world.device(user).await?;
        device.join(quiet).await?;
        devices.push(device);
    }
    for round in 0..5 {
        // A resend is appended but not published: with the announcement lost too, only the
        // sweep can find it.
        world
            .resend_only("Mary", quiet, &format!("swept {round}"))
            .await?;
        let stored = Instant::now();
        everyone_has(&devices, quiet, round + 1).await?;
        assert!(stored.elapsed() < WITHIN + MARGIN);
    }
    world.finish().await
}

#[tokio::test]
async fn sweep_goes_on_while_another_shard_is_frozen() -> anyhow::Result<()> {
    let mut world = World::start("sweep-frozen", 1, 0).await?;
    world
        .start_consumer(&[("REDIS_URL", "redis://127.0.0.1:1")])
        .await?;
    let quiet = world.channel("general").await?;
    let shard = usize::try_from(hubbub_protocol::partition_of(quiet, 32) % 2)?;
    let devices = [world.device("John").await?];
    devices[0].join(quiet).await?;
    world.stack.shard(1 - shard).pause();
    for round in 0..3 {
        world
            .resend_only("Mary", quiet, &format!("swept {round}"))
            .await?;
        everyone_has(&devices, quiet, round + 1).await?;
    }
    world.stack.shard(1 - shard).resume();
    world.finish().await
}

#[tokio::test]
async fn frozen_redis_is_noticed_and_repaired() -> anyhow::Result<()> {
    let world = World::start("redis-freeze", 2, 1).await?;
    let maths = world.channel("Maths").await?;
    let mut devices = Vec::new();
    for user in ["John", "Mike"] {
        let device = world.device(user).await?;
        device.join(maths).await?;
        devices.push(device);
    }
    let mary = world.device("Mary").await?;
    for (round, freeze) in [Duration::from_secs(1), Duration::from_secs(7)]
        .into_iter()
        .enumerate()
    {
        world.stack.redis().pause();
        let frozen = Instant::now();
        mary.client
            .send(maths, format!("while frozen {round}"))?
            .wait()
            .await?;
        // Longer than the lease the second time: everything is held and checked again.
        tokio::time::sleep(freeze.saturating_sub(frozen.elapsed())).await;
        world.stack.redis().resume();
        everyone_has(&devices, maths, round + 1).await?;
    }
    world.finish().await
}
