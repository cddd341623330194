use std::time::Duration;

use anyhow::Context;
use hubbub_protocol::{BusChannel, UserId};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::{
    client::Client,
    support::{Awake, World, eventually},
};

async fn watch(client: &mut Client, users: &[UserId]) -> anyhow::Result<Vec<(Value, Value)>> {
    let reply = client
        .request(json!({ "type": "watch", "users": users }))
        .await?;
    anyhow::ensure!(reply["ok"] == true, "{reply}");
    let users = reply["users"].as_array().cloned().unwrap_or_default();
    Ok(users
        .into_iter()
        .map(|one| (one["user"].clone(), one["state"].clone()))
        .collect())
}

/// Watches these users, until they are known to be in these states: where a pod was late with its
/// word, the watcher is told behind the reply.
async fn learns(client: &mut Client, expected: &[(UserId, &str)]) -> anyhow::Result<()> {
    let users: Vec<UserId> = expected.iter().map(|(user, _)| *user).collect();
    let expected: Vec<_> = expected
        .iter()
        .map(|(user, state)| (json!(user), json!(state)))
        .collect();
    let mut known = watch(client, &users).await?;
    while known != expected {
        let told = client.of_type("presence").await;
        let told = told.with_context(|| format!("{known:?} is not {expected:?}"))?;
        known.retain(|(user, _)| *user != told["user"]);
        known.push((told["user"].clone(), told["state"].clone()));
        known.sort_by_key(|(user, _)| user.to_string());
    }
    Ok(())
}

async fn becomes(client: &mut Client, user: UserId, state: &str) -> anyhow::Result<()> {
    let frame = client.of_type_and_user("presence", user).await?;
    anyhow::ensure!(frame["state"] == state, "not {state} but {frame}");
    Ok(())
}

async fn say(client: &mut Client, state: &str) -> anyhow::Result<()> {
    let reply = client
        .request(json!({ "type": "presence", "state": state }))
        .await?;
    anyhow::ensure!(reply["ok"] == true && reply["state"] == state, "{reply}");
    Ok(())
}

#[tokio::test]
async fn watchers_on_any_pod_are_told_each_change_once() -> anyhow::Result<()> {
    let world = World::new("presence").await?;
    let (a, b) = tokio::try_join!(world.pod("edge-a", &[]), world.pod("edge-b", &[]))?;
    let (mary, john) = (world.caller("mary").await?, world.caller("john").await?);
    let ann = world.caller("ann").await?;
    let (mary_id, john_id) = (mary.id(), john.id());
    let mut marys = Client::connect(&a, &mary).await?;
    let mut anns = Client::connect(&b, &ann).await?;
    learns(&mut marys, &[(mary_id, "active"), (john_id, "offline")]).await?;
    learns(&mut anns, &[(john_id, "offline")]).await?;
    assert_eq!(
        world.subscribers_of(&BusChannel::Presence(john_id)).await?,
        2
    );

    let mut phone = Client::connect(&b, &john).await?;
    for watcher in [&mut marys, &mut anns] {
        becomes(watcher, john_id, "active").await?;
    }
    say(&mut phone, "away").await?;
    for watcher in [&mut marys, &mut anns] {
        becomes(watcher, john_id, "away").await?;
    }
    // The best over devices and pods counts: the tablet on another pod is active.
    let mut tablet = Client::connect(&a, &john).await?;
    becomes(&mut marys, john_id, "active").await?;
    becomes(&mut anns, john_id, "active").await?;
    drop(phone);
    say(&mut tablet, "away").await?;
    for watcher in [&mut marys, &mut anns] {
        becomes(watcher, john_id, "away").await?;
    }
    // Another device comes before this one goes.
    let again = Client::connect(&a, &john).await?;
    becomes(&mut marys, john_id, "active").await?;
    drop(tablet);
    // Ann looks elsewhere; she is told nothing more of him.
    becomes(&mut anns, john_id, "active").await?;
    learns(&mut anns, &[(mary_id, "active")]).await?;
    let gone = Instant::now();
    drop(again);
    // Each pod keeps its word for two seconds after its last socket; where the phone's pod is the
    // later one, its word (away) is the best for a moment.
    let frame = marys.of_type_and_user("presence", john_id).await?;
    if frame["state"] == "away" {
        becomes(&mut marys, john_id, "offline").await?;
    } else {
        assert_eq!(frame["state"], "offline", "{frame}");
    }
    assert!(
        gone.elapsed() >= Duration::from_millis(1_900),
        "{:?}",
        gone.elapsed()
    );
    for watcher in [&mut marys, &mut anns] {
        let rest = watcher.rest().await?;
        assert!(
            rest.iter().all(|frame| frame["type"] != "presence"),
            "{rest:?}"
        );
    }
    // Nobody watches him any more: nobody follows him.
    assert_eq!(watch(&mut marys, &[]).await?, []);
    eventually("unsubscribed", async || {
        let john = BusChannel::Presence(john_id);
        (world.subscribers_of(&john).await.ok()? == 0).then_some(())
    })
    .await?;
    Ok(())
}

#[tokio::test]
async fn users_of_a_killed_edge_are_offline_once_and_of_a_redis_that_was_away_as_before()
-> anyhow::Result<()> {
    let world = World::new("presence_killed").await?;
    let (a, b) = tokio::try_join!(world.pod("edge-a", &[]), world.pod("edge-b", &[]))?;
    let (mary, john) = (world.caller("mary").await?, world.caller("john").await?);
    let ann = world.caller("ann").await?;
    let (john_id, ann_id) = (john.id(), ann.id());
    let mut marys = Client::connect(&a, &mary).await?;
    let _johns = Client::connect(&b, &john).await?;
    let _anns = Client::connect(&b, &ann).await?;
    let mut anns_other = Client::connect(&a, &ann).await?;
    learns(&mut marys, &[(john_id, "active"), (ann_id, "active")]).await?;
    // Redis forgets everything, the leases too; nobody came or went.
    world.env.redis().kill().await;
    world.env.redis().start().await?;
    eventually("both pods have their leases again", async || {
        let followed = world.subscribers_of(&BusChannel::Pods).await.ok()?;
        (followed == 2).then_some(())
    })
    .await?;
    say(&mut anns_other, "away").await?;
    let awake = Awake::start();
    drop(b);
    // Ann is away on the other pod, so she does not turn offline.
    let mut states = Vec::new();
    while states.len() < 2 {
        let frame = marys.of_type("presence").await?;
        states.push((frame["user"].clone(), frame["state"].clone()));
    }
    let took = awake.elapsed();
    // The pod's own lease is back half a second after Redis, and the leases are listed each 0.9 s.
    assert!(
        took < hubbub_bus::LEASE + Duration::from_secs(2),
        "{took:?}"
    );
    states.sort_by_key(|(user, _)| user.to_string());
    let mut expected = [
        (json!(john_id), json!("offline")),
        (json!(ann_id), json!("away")),
    ];
    expected.sort_by_key(|(user, _)| user.to_string());
    assert_eq!(states, expected);
    // Two more listings change nothing.
    tokio::time::sleep(Duration::from_millis(1_800)).await;
    let rest = marys.rest().await?;
    assert!(
        rest.iter().all(|frame| frame["type"] != "presence"),
        "{rest:?}"
    );
    Ok(())
}
