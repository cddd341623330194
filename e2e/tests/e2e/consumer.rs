//! Consumers that die between insert and commit, and after the commit before the announcement.

use std::time::Duration;

use hubbub_e2e::World;

#[tokio::test]
async fn consumer_aborted_between_insert_and_commit_loses_and_doubles_nothing() -> anyhow::Result<()>
{
    let mut world = World::start("consumer-crash", 2, 0).await?;
    let channels = [
        world.channel("general").await?,
        world.channel("Maths").await?,
    ];
    let device = world.device("John").await?;
    for channel in channels {
        device.join(channel).await?;
    }
    // Two consumers at once, each of which dies at its fourth batch, between insert and commit.
    world
        .start_consumer(&[(
            "FAILPOINTS",
            "consumer::after_insert_before_commit=3*off->1*return->off",
        )])
        .await?;
    world
        .start_consumer(&[(
            "FAILPOINTS",
            "consumer::after_insert_before_commit=3*off->1*return->off",
        )])
        .await?;
    let sender = world.device("Mary").await?;
    let mut sent = 0;
    let mut deaths_seen = 0;
    for consumer in 0..2 {
        let mut death = Box::pin(world.stack.consumer(consumer).exited());
        // Goes on until the consumer has met its failpoint.
        loop {
            for channel in channels {
                sender
                    .client
                    .send(channel, format!("m{sent}"))?
                    .wait()
                    .await?;
                sent += 1;
            }
            if tokio::time::timeout(Duration::from_millis(10), &mut death)
                .await
                .is_ok()
            {
                deaths_seen += 1;
                break;
            }
            assert!(sent < 5_000, "the failpoint was never met");
        }
    }
    assert_eq!(deaths_seen, 2);
    // A third one dies after its first commit, before it has announced it.
    world
        .start_consumer(&[(
            "FAILPOINTS",
            "consumer::after_commit_before_announce=1*return->off",
        )])
        .await?;
    for channel in channels {
        sender
            .client
            .send(channel, format!("m{sent}"))?
            .wait()
            .await?;
        sent += 1;
    }
    assert!(world.stack.consumer(2).exited().await.is_some());
    world.start_consumer(&[]).await?;
    world.start_consumer(&[]).await?;
    world.wait_caught_up().await?;
    let stored: usize = {
        let mut count = 0;
        for channel in channels {
            count += world.history(channel).await?.len();
        }
        count
    };
    assert_eq!(stored, sent, "no row lost or doubled");
    for channel in channels {
        let history = world.history(channel).await?;
        device
            .wait("synced to the head", |heard| {
                heard.view.synced(channel) >= history.last().map(|entry| entry.seq)
            })
            .await?;
        assert_eq!(device.heard(|heard| heard.view.len(channel)), history.len());
    }
    // `finish` checks P12: records = rows + duplicates + dead letters.
    world.finish().await
}

#[tokio::test]
async fn poison_records_become_dead_letters_and_delay_nobody() -> anyhow::Result<()> {
    let world = World::start("poison", 1, 1).await?;
    let maths = world.channel("Maths").await?;
    let sender = world.device("Mary").await?;
    sender.join(maths).await?;
    let deep = "[".repeat(10_000);
    let junk = "x".repeat(900_000);
    let poison = [
        "",
        &junk,
        &deep,
        r#"{"kind":"message","v":99}"#,
        r#"{"kind":"message","v":1,"channel":"C000000001"}"#,
        r#"{"kind":"message","v":1,"channel":"C000000002","user":"U000000001","message_id":"00000000-0000-0000-0000-000000000007","text":"\u0000"}"#,
        r#"{"kind":"message","v":1,"channel":"C000000002","user":"U000000001","message_id":"00000000-0000-0000-0000-000000000008","text":"\ud800"}"#,
        r#"{"kind":"message","v":1,"channel":"C9999999999999","user":"U000000001","message_id":"00000000-0000-0000-0000-000000000009","text":"x"}"#,
    ];
    for (n, payload) in poison.iter().enumerate() {
        world.append_raw(maths, payload.as_bytes()).await?;
        sender
            .client
            .send(maths, format!("good {n}"))?
            .wait()
            .await?;
    }
    world.wait_caught_up().await?;
    let status = world.status().await?;
    let dead: i64 = status.partitions.iter().map(|p| p.dead).sum();
    assert_eq!(
        dead,
        poison.len() as i64,
        "dead letters are exactly the bad ones"
    );
    sender
        .wait("synced past the poison", |heard| {
            heard.view.len(maths) == poison.len()
        })
        .await?;
    world.finish().await
}
