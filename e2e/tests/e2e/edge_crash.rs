//! kill -9 of an edge between the log's acknowledgement and the publish.

use hubbub_e2e::World;
use hubbub_protocol::Body;

#[tokio::test]
async fn crash_between_ack_and_publish_loses_and_doubles_nothing() -> anyhow::Result<()> {
    let world = World::start("edge-crash", 3, 1).await?;
    let maths = world.channel("Maths").await?;
    // The edge dies at its twentieth acknowledgement, before it has published or answered it.
    world
        .restart_edge_with(0, "FAILPOINTS", "chat::after_log_ack=19*off->1*return->off")
        .await?;
    let mut devices = Vec::new();
    for user in ["John", "Mike", "Frank"] {
        let device = world.device_on(user, devices.len()).await?;
        device.join(maths).await?;
        devices.push(device);
    }
    // Mary comes through HAProxy's eyes: her first connection is on the doomed edge, and her
    // client comes back through the others.
    let mary = world.device_through_front_on("Mary", 0).await?;
    mary.join(maths).await?;
    let died = world.stack.edge(0).exited();
    let sends: Vec<_> = (0..60)
        .map(|n| mary.client.send(maths, format!("m{n}")))
        .collect::<Result<_, _>>()?;
    let mut ids = std::collections::BTreeSet::new();
    for send in sends {
        ids.insert(send.message_id());
        send.wait().await?;
    }
    assert!(died.await.is_some(), "the failpoint has killed the edge");
    world.wait_caught_up().await?;

    let stored = world.history(maths).await?;
    let stored: Vec<_> = stored
        .iter()
        .filter_map(|entry| match &entry.body {
            Body::Message { message_id, .. } => Some((entry.seq, *message_id)),
            _ => None,
        })
        .collect();
    assert_eq!(stored.len(), ids.len(), "every message once");
    assert_eq!(
        stored
            .iter()
            .map(|(_, id)| *id)
            .collect::<std::collections::BTreeSet<_>>(),
        ids
    );
    // Those on the surviving edges, and Mary herself, have all of them, once.
    for device in devices[1..].iter().chain([&mary]) {
        device
            .wait("all messages", |heard| {
                heard.view.len(maths) >= stored.len()
            })
            .await?;
        let seen: Vec<_> =
            device.heard(|heard| heard.view.records(maths).map(|(seq, _)| seq).collect());
        assert_eq!(seen, stored.iter().map(|(seq, _)| *seq).collect::<Vec<_>>());
        assert_eq!(device.doubled_on_the_wire(), None);
    }
    world.finish().await
}
