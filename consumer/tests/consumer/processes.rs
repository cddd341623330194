use anyhow::Result;
use tokio::time::Instant;

use crate::world::{DEADLINE, World, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn records_survive_a_killed_and_a_drained_consumer() -> Result<()> {
    let world = World::new("records_survive").await?;
    let killed = world.process("killed", &[]).await?;
    world.append_many(40, 500).await?;
    eventually("rows of the first consumer", async || {
        let accounts = world.accounts().await.unwrap_or_default();
        accounts.values().any(|account| account.rows > 0)
    })
    .await;
    let drained = world.process("drained", &[]).await?;
    world.append_many(40, 500).await?;
    killed.kill().await;
    world.append_many(40, 500).await?;
    let began = Instant::now();
    assert_eq!(world.settle().await?.rows, 1_500);
    // The session timeout is 3 s here.
    assert!(
        began.elapsed().as_secs() < 10,
        "takeover in {:?}",
        began.elapsed()
    );

    let last = world.process("last", &[]).await?;
    world.append_many(40, 200).await?;
    let began = Instant::now();
    let status = drained.stop().await;
    assert!(began.elapsed() < DEADLINE, "{:?}", began.elapsed());
    assert_eq!(
        status.and_then(|status| status.code()),
        Some(0),
        "a drain ends with 0"
    );
    world.append_many(40, 200).await?;
    assert_eq!(world.settle().await?.rows, 1_900);
    let log = std::fs::read_to_string(world.env.dir().join("drained.log"))?;
    assert!(log.contains("left the group"), "{log}");
    assert!(!log.contains("ERROR"), "nobody must act on a drain: {log}");
    let status = last.stop().await;
    assert_eq!(status.and_then(|status| status.code()), Some(0));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn frozen_consumer_cannot_double_what_its_successor_stores() -> Result<()> {
    let world = World::new("frozen_consumer").await?;
    let frozen = world.process("frozen", &[]).await?;
    world.append_many(40, 100).await?;
    world.settle().await?;
    let other = world.process("other", &[]).await?;
    world.append_many(40, 2_000).await?;
    frozen.pause();
    world.append_many(40, 500).await?;
    assert_eq!(world.settle().await?.rows, 2_600);
    frozen.resume();
    world.append_many(40, 500).await?;
    assert_eq!(world.settle().await?.rows, 3_100);
    for process in [&frozen, &other] {
        let status = process.stop().await;
        assert_eq!(status.and_then(|status| status.code()), Some(0));
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_configuration_ends_with_64() -> Result<()> {
    let world = World::new("wrong_configuration").await?;
    let process = world
        .process("wrong", &[("HUBBUB_LOG", "hubbub=loud")])
        .await?;
    let status = tokio::time::timeout(DEADLINE, process.exited()).await?;
    assert_eq!(status.and_then(|status| status.code()), Some(64));
    Ok(())
}

/// Aborted twice between the insert and the commit, and twice between the commit and the
/// announcement, while a healthy consumer shares the partitions.
#[cfg(feature = "failpoints")]
#[tokio::test(flavor = "multi_thread")]
async fn records_survive_aborts_at_the_worst_moments() -> Result<()> {
    use crate::world::channel;

    let world = World::new("records_survive_aborts").await?;
    let healthy = world.process("healthy", &[]).await?;
    let mut expected = 0;
    for point in [
        "consumer::after_insert_before_commit",
        "consumer::after_commit_before_announce",
    ] {
        for round in 0..2 {
            let failpoints = format!("{point}=2*off->return");
            let env = [("FAILPOINTS", failpoints.as_str())];
            let doomed = world.process(&format!("doomed{round}"), &env).await?;
            eventually("the abort", async || {
                world
                    .append(channel(expected % 40 + 1), "x")
                    .await
                    .expect("appended");
                expected += 1;
                !doomed.is_running()
            })
            .await;
            assert_eq!(world.settle().await?.rows, expected);
        }
    }
    healthy.stop().await;
    Ok(())
}
