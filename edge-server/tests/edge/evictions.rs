use hubbub_protocol::{ChannelEvent, MessageId, Record, Seq};
use hubbub_stack::Direction;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    client::{Client, records},
    support::{OnBus, World, eventually},
};

#[tokio::test]
async fn evicted_user_hears_and_says_nothing_more() -> anyhow::Result<()> {
    let world = World::new("evicted").await?;
    let pod = world.pod("edge-1", &[]).await?;
    let mut bus = OnBus::start(&world).await?;
    let (mary, john) = (world.caller("mary").await?, world.caller("john").await?);
    let channel = world.channel(&[&mary, &john]).await?;
    let other = world.channel(&[&mary, &john]).await?;
    let mut mary = Client::connect(&pod, &mary).await?;
    let (mut phone, mut tablet) = (
        Client::connect(&pod, &john).await?,
        Client::connect(&pod, &john).await?,
    );
    let mut idle = Client::connect(&pod, &john).await?;
    for client in [&mut mary, &mut phone, &mut tablet] {
        client.join(channel).await?;
        client.join(other).await?;
    }
    phone.say(channel, "I belong here").await?;
    mary.hears("I belong here").await?;

    assert!(world.store.remove_member(channel, john.id()).await?);
    assert_eq!(
        bus.evict(channel, john.id()).await?,
        2,
        "two of his sockets listened"
    );
    assert_eq!(
        bus.evict(channel, john.id()).await?,
        0,
        "asked again, nothing is left to do"
    );
    mary.say(channel, "among us").await?;
    mary.hears("among us").await?;
    mary.say(other, "all of us").await?;
    for client in [&mut phone, &mut tablet] {
        assert_eq!(
            client.of_type("left").await?,
            json!({ "type": "left", "channel": channel })
        );
        client.hears("all of us").await?;
        let rest = client.rest().await?;
        let foreign = rest
            .iter()
            .any(|f| f["channel"] == json!(channel) && f["text"] == "among us");
        assert!(!foreign, "{rest:?}");
        let left = rest.iter().filter(|f| f["type"] == "left").count();
        assert_eq!(left, 0, "told once: {rest:?}");
    }
    assert!(records(&idle.rest().await?).is_empty());
    // No cache calls him a member.
    for client in [&mut phone, &mut idle] {
        for kind in ["message", "join"] {
            let request = json!({ "type": kind, "channel": channel, "text": "x" });
            let said = client.request(request).await?;
            assert_eq!(said["error"]["code"], "channel_not_found", "{said}");
        }
    }
    assert_eq!(world.logged(channel).await?.len(), 2);
    // And he may come back.
    world
        .store
        .add_member(channel, john.id(), hubbub_protocol::http::Role::Member)
        .await?;
    phone.join(channel).await?;
    mary.say(channel, "welcome back").await?;
    phone.hears("welcome back").await?;
    Ok(())
}

#[tokio::test]
async fn sender_who_never_joined_is_asked_for_once_and_again_after_an_eviction()
-> anyhow::Result<()> {
    let world = World::new("unjoined").await?;
    let pod = world.pod("edge-1", &[]).await?;
    let mut bus = OnBus::start(&world).await?;
    let john = world.caller("john").await?;
    let channel = world.channel(&[&john]).await?;
    let mut phone = Client::connect(&pod, &john).await?;
    let questions = async || {
        let query = r#"store_calls_total{database="core",query="memberships.among",outcome="ok"}"#;
        pod.metric(query).await
    };
    let before = questions().await?;
    for text in ["one", "two", "three"] {
        phone.say(channel, text).await?;
    }
    assert_eq!(questions().await? - before, 1.0);
    assert!(world.store.remove_member(channel, john.id()).await?);
    assert_eq!(bus.evict(channel, john.id()).await?, 0, "none listened");
    let request = json!({ "type": "message", "channel": channel, "text": "four" });
    let said = phone.request(request).await?;
    assert_eq!(said["error"]["code"], "channel_not_found", "{said}");
    assert_eq!(world.logged(channel).await?.len(), 3);
    Ok(())
}

#[tokio::test]
async fn member_left_on_the_bus_evicts_by_itself() -> anyhow::Result<()> {
    let world = World::new("member_left").await?;
    let pod = world.pod("edge-1", &[]).await?;
    let bus = OnBus::start(&world).await?;
    let (mary, john) = (world.caller("mary").await?, world.caller("john").await?);
    let channel = world.channel(&[&mary, &john]).await?;
    let mut phone = Client::connect(&pod, &john).await?;
    phone.join(channel).await?;
    world.store.remove_member(channel, john.id()).await?;
    let record = Record::membership(
        channel,
        mary.id(),
        MessageId(Uuid::from_u128(7)),
        hubbub_protocol::Change::Left,
        john.id(),
    );
    let frame = ChannelEvent::encode_record(Seq(1), &record.body(1));
    bus.publisher
        .publish(&hubbub_protocol::BusChannel::Channel(channel), frame.into())
        .await?;
    assert_eq!(phone.of_type("left").await?["channel"], json!(channel));
    let said = phone
        .request(json!({ "type": "message", "channel": channel, "text": "x" }))
        .await?;
    assert_eq!(said["error"]["code"], "channel_not_found", "{said}");
    Ok(())
}

#[tokio::test]
async fn what_waits_for_an_evicted_user_is_taken_out_of_the_outbox() -> anyhow::Result<()> {
    let world = World::new("purge").await?;
    let pod = world.pod("edge-1", &["--send-buffer-bytes=4096"]).await?;
    let mut bus = OnBus::start(&world).await?;
    let (mary, john) = (world.caller("mary").await?, world.caller("john").await?);
    let channel = world.channel(&[&mary, &john]).await?;
    let kept = world.channel(&[&mary, &john]).await?;
    let mut mary = Client::connect(&pod, &mary).await?;
    // John's device takes little at once, and for now it takes nothing.
    let mut slow = Client::narrow(&pod, &john).await?;
    slow.join(channel).await?;
    slow.join(kept).await?;
    let long = "x".repeat(10_000);
    for n in 0..30 {
        mary.say(channel, &format!("{n} {long}")).await?;
        mary.say(kept, &format!("kept {n}")).await?;
    }
    eventually("they wait", async || {
        let waiting = pod.state().await.ok()?["outbox_bytes"].as_u64()?;
        (waiting > 200_000).then_some(())
    })
    .await?;
    world.store.remove_member(channel, john.id()).await?;
    assert_eq!(bus.evict(channel, john.id()).await?, 1);
    let waiting = pod.state().await?["outbox_bytes"]
        .as_u64()
        .expect("a number");
    assert!(waiting < 30_000, "{waiting} bytes wait still");
    // He reads again: what the kernel had, and everything of the other channel.
    for n in 0..30 {
        slow.hears(&format!("kept {n}")).await?;
    }
    slow.of_type("left").await?;
    let rest = slow.rest().await?;
    let got = records(&rest).len();
    assert!(got < 15, "{got} of 30 frames came after the eviction");
    Ok(())
}

#[tokio::test]
async fn join_in_flight_during_the_eviction_is_not_admitted() -> anyhow::Result<()> {
    let world = World::new("in_flight").await?;
    let pod = world.pod("edge-1", &[]).await?;
    let mut bus = OnBus::start(&world).await?;
    let (mary, john) = (world.caller("mary").await?, world.caller("john").await?);
    let channel = world.channel(&[&mary, &john]).await?;
    let mut mary = Client::connect(&pod, &mary).await?;
    mary.join(channel).await?;
    let mut phone = Client::connect(&pod, &john).await?;
    let mut tablet = Client::connect(&pod, &john).await?;
    // The database has answered "a member", and the answer is on its way.
    world.core.black_hole(Direction::ToClient);
    let join = phone
        .ask(json!({ "type": "join", "channel": channel }))
        .await?;
    let send = tablet
        .ask(json!({ "type": "message", "channel": channel, "text": "too late" }))
        .await?;
    eventually("both were asked of the database", async || {
        let requests = pod.metric("hubbub_edge_frames_in_total").await.ok()?;
        (requests >= 3.0).then_some(())
    })
    .await?;
    assert!(world.store.remove_member(channel, john.id()).await?);
    bus.evict(channel, john.id()).await?;
    world.core.heal();
    let (joined, sent) = tokio::try_join!(phone.reply_to(join), tablet.reply_to(send))?;
    assert_eq!(joined["error"]["code"], "channel_not_found", "{joined}");
    assert_eq!(sent["error"]["code"], "channel_not_found", "{sent}");
    assert_eq!(sent["error"]["outcome"], "rejected", "{sent}");
    mary.say(channel, "among us").await?;
    mary.hears("among us").await?;
    assert_eq!(phone.rest().await?, Vec::<Value>::new());
    assert_eq!(world.logged(channel).await?.len(), 1);
    Ok(())
}
