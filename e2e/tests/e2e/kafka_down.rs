//! Without the log nothing is acknowledged and nothing is shown; afterwards each message is there
//! once.

use std::{collections::BTreeSet, time::Duration};

use hubbub_e2e::World;
use hubbub_protocol::Body;
use tokio::time::{Instant, sleep, timeout};

#[tokio::test]
async fn no_ok_and_no_ghost_without_the_log() -> anyhow::Result<()> {
    let world = World::start_with_kafka("kafka-down", 2, 1).await?;
    let maths = world.channel("Maths").await?;
    let john = world.device("John").await?;
    john.join(maths).await?;
    let mary = world.device("Mary").await?;
    mary.client.send(maths, "before")?.wait().await?;
    john.wait_text(maths, "before").await?;

    let edges = 0..2;
    let before: Vec<u64> = edges
        .clone()
        .map(|edge| world.edge_rss(edge))
        .collect::<Result<_, _>>()?;
    world.stack.kafka().kill().await;
    let down = Instant::now();
    let mut sends = Vec::new();
    for n in 0..200 {
        sends.push(mary.client.send(maths, format!("m{n}"))?);
    }
    let ids: BTreeSet<_> = sends.iter().map(|send| send.message_id()).collect();
    let first = sends.remove(0);
    let mut first = Box::pin(first.wait());
    // The outage lasts 10 s: for all of it there is no `ok` and nobody is shown anything.
    let early = timeout(
        Duration::from_secs(10).saturating_sub(down.elapsed()),
        &mut first,
    )
    .await;
    assert!(early.is_err(), "answered without a log: {early:?}");
    assert_eq!(john.texts(maths), ["before"]);
    for (edge, before) in edges.zip(before) {
        let grown = world.edge_rss(edge)?.saturating_sub(before);
        assert!(
            grown < 20 * 1_024 * 1_024,
            "edge {edge} has grown by {grown} bytes"
        );
    }
    world.stack.kafka().start().await?;
    first.await?;
    for send in sends {
        send.wait().await?;
    }
    world.wait_caught_up().await?;
    let stored = world.history(maths).await?;
    let stored: Vec<_> = stored
        .iter()
        .filter_map(|entry| match &entry.body {
            Body::Message { message_id, .. } => Some(*message_id),
            _ => None,
        })
        .collect();
    assert_eq!(stored.len(), ids.len() + 1, "each message once");
    assert!(ids.iter().all(|id| stored.contains(id)));
    john.wait("all of them", |heard| heard.view.len(maths) >= stored.len())
        .await?;
    // Whatever else was shown would be a ghost: give it the time of a sweep to appear.
    sleep(Duration::from_millis(1_500)).await;
    let shown: BTreeSet<_> = john.heard(|heard| {
        heard
            .view
            .records(maths)
            .map(|(_, body)| body.key().message_id)
            .collect()
    });
    assert_eq!(shown, stored.into_iter().collect());
    world.finish().await
}
