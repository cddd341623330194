use hubbub_protocol::{ChannelId, UserEvent};
use serde_json::{Value, json};

use crate::{
    client::{Client, records},
    support::{Caller, OnBus, World},
};

async fn direct(world: &World, one: &Caller, other: &Caller) -> anyhow::Result<ChannelId> {
    Ok(world
        .store
        .direct_channel(one.id(), other.id())
        .await?
        .channel)
}

async fn joined(client: &mut Client, channel: ChannelId) -> anyhow::Result<Value> {
    client
        .find(&format!("joined {channel}"), |frame| {
            frame["type"] == "joined" && frame["channel"] == json!(channel)
        })
        .await
}

#[tokio::test]
async fn every_device_of_both_is_joined_at_once_and_at_its_next_connection() -> anyhow::Result<()> {
    let world = World::new("direct").await?;
    let (a, b) = tokio::try_join!(world.pod("edge-a", &[]), world.pod("edge-b", &[]))?;
    let bus = OnBus::start(&world).await?;
    let (mary, john) = (world.caller("mary").await?, world.caller("john").await?);
    let ann = world.caller("ann").await?;
    let mut phone = Client::connect(&a, &mary.on("phone")).await?;
    let mut tablet = Client::connect(&b, &mary.on("tablet")).await?;
    let mut johns = Client::connect(&b, &john).await?;
    let mut stranger = Client::connect(&b, &ann).await?;
    // Each user once on each pod that has a socket of theirs.
    world.until_followed(mary.id(), 2).await?;
    world.until_followed(john.id(), 1).await?;
    let channel = direct(&world, &mary, &john).await?;
    assert_eq!(
        channel,
        direct(&world, &john, &mary).await?,
        "whoever starts"
    );
    for user in [mary.id(), john.id(), ann.id()] {
        // Ann is told by mistake: the store knows better.
        bus.tell(user, UserEvent::ChannelAdded { channel }).await?;
    }
    for (client, with) in [
        (&mut phone, john.id()),
        (&mut tablet, john.id()),
        (&mut johns, mary.id()),
    ] {
        let frame = joined(client, channel).await?;
        assert_eq!(frame["with"], json!(with), "{frame}");
        assert_eq!(frame["head"], 0, "{frame}");
    }
    phone.say(channel, "hello John").await?;
    for client in [&mut phone, &mut tablet, &mut johns] {
        client.hears("hello John").await?;
    }
    // A device that connects later is joined by itself, from the horizon on.
    let mut later = Client::connect(&a, &john.on("later")).await?;
    joined(&mut later, channel).await?;
    johns.say(channel, "hello Mary").await?;
    later.hears("hello Mary").await?;
    phone.hears("hello Mary").await?;
    // One that says so is not.
    let mut without = Client::open_with(a.addr, &john.on("without").token, "?direct=0").await?;
    johns.say(channel, "again").await?;
    later.hears("again").await?;
    assert!(without.rest().await?.is_empty());
    let rest = stranger.rest().await?;
    assert!(rest.is_empty(), "Ann got {rest:?}");
    // The last socket of a user ends the subscription, after a while.
    drop(tablet);
    world.until_followed(mary.id(), 1).await?;
    Ok(())
}

#[tokio::test]
async fn addition_to_a_named_channel_is_told_to_every_device_and_joins_none() -> anyhow::Result<()>
{
    let world = World::new("added").await?;
    let pod = world.pod("edge-1", &[]).await?;
    let bus = OnBus::start(&world).await?;
    let (mary, john) = (world.caller("mary").await?, world.caller("john").await?);
    let mut phone = Client::connect(&pod, &mary.on("phone")).await?;
    let mut tablet = Client::connect(&pod, &mary.on("tablet")).await?;
    let mut johns = Client::connect(&pod, &john).await?;
    world.until_followed(mary.id(), 1).await?;
    let channel = world.channel(&[&mary, &john]).await?;
    bus.tell(mary.id(), UserEvent::ChannelAdded { channel })
        .await?;
    for client in [&mut phone, &mut tablet] {
        let frame = client.of_type("added").await?;
        assert_eq!(frame, json!({ "type": "added", "channel": channel }));
    }
    // Who joins listens, the other devices do not.
    phone.join(channel).await?;
    johns.join(channel).await?;
    johns.say(channel, "welcome").await?;
    phone.hears("welcome").await?;
    assert!(tablet.rest().await?.is_empty());
    Ok(())
}

#[tokio::test]
async fn announcement_that_was_lost_is_made_up_for_when_the_bus_is_back() -> anyhow::Result<()> {
    let world = World::new("direct_lost").await?;
    let pod = world.pod("edge-1", &[]).await?;
    let (mary, john) = (world.caller("mary").await?, world.caller("john").await?);
    let mut phone = Client::connect(&pod, &mary).await?;
    world.until_followed(mary.id(), 1).await?;
    world.env.redis().kill().await;
    let channel = direct(&world, &mary, &john).await?;
    world.env.redis().start().await?;
    joined(&mut phone, channel).await?;
    phone.say(channel, "there").await?;
    phone.hears("there").await?;
    Ok(())
}

#[tokio::test]
async fn clients_own_join_and_leave_go_before_the_edge() -> anyhow::Result<()> {
    let world = World::new("direct_own").await?;
    let pod = world.pod("edge-1", &[]).await?;
    let bus = OnBus::start(&world).await?;
    let (mary, john) = (world.caller("mary").await?, world.caller("john").await?);
    let (channel, own) = (
        direct(&world, &mary, &john).await?,
        direct(&world, &mary, &mary).await?,
    );
    world.append(channel, john.id(), "before").await?;
    world.store_log().await?;
    let mut phone = Client::connect(&pod, &mary).await?;
    joined(&mut phone, own).await?;
    assert!(joined(&mut phone, channel).await?["head"].as_u64() > Some(0));
    let join = json!({ "type": "join", "channel": channel, "since": 0 });
    let reply = phone.request(join).await?;
    assert_eq!(
        (&reply["ok"], &reply["recovered"]),
        (&json!(true), &json!(true)),
        "{reply}"
    );
    phone.hears("before").await?;
    phone
        .request(json!({ "type": "leave", "channel": channel }))
        .await?;
    // Announced again, its device joins again: somebody wrote to it.
    bus.tell(mary.id(), UserEvent::ChannelAdded { channel })
        .await?;
    joined(&mut phone, channel).await?;
    world.env.redis().kill().await;
    phone
        .request(json!({ "type": "leave", "channel": own }))
        .await?;
    world.env.redis().start().await?;
    pod.until_held(false).await?;
    let mut other = Client::connect(&pod, &mary).await?;
    joined(&mut other, own).await?;
    other.say(own, "note").await?;
    other.hears("note").await?;
    assert!(
        records(&phone.rest().await?).is_empty(),
        "it left that channel"
    );
    Ok(())
}

#[tokio::test]
async fn of_very_many_direct_channels_the_latest_are_joined() -> anyhow::Result<()> {
    let world = World::new("direct_many").await?;
    let pod = world.pod("edge-1", &[]).await?;
    let bus = OnBus::start(&world).await?;
    let mary = world.caller("mary").await?;
    let mut channels = Vec::new();
    for n in 0..203 {
        let other = world.caller(&format!("friend-{n}")).await?;
        channels.push(direct(&world, &mary, &other).await?);
    }
    // The oldest three speak last; so the three after them are out.
    for channel in &channels[..3] {
        world.append(*channel, mary.id(), "hi").await?;
    }
    world.store_log().await?;
    let mut phone = Client::connect(&pod, &mary).await?;
    let out = &channels[3..6];
    for channel in channels.iter().filter(|channel| !out.contains(channel)) {
        joined(&mut phone, *channel).await?;
    }
    let rest = phone.rest().await?;
    assert!(
        !rest.iter().any(|frame| frame["type"] == "joined"),
        "{rest:?}"
    );
    // One that is opened again is joined beside them.
    bus.tell(mary.id(), UserEvent::ChannelAdded { channel: out[1] })
        .await?;
    joined(&mut phone, out[1]).await?;
    Ok(())
}

#[tokio::test]
async fn revoked_user_is_closed_on_every_device() -> anyhow::Result<()> {
    let world = World::new("revoked").await?;
    let (a, b) = tokio::try_join!(world.pod("edge-a", &[]), world.pod("edge-b", &[]))?;
    let bus = OnBus::start(&world).await?;
    let (mary, john) = (world.caller("mary").await?, world.caller("john").await?);
    let mut one = Client::connect(&a, &mary).await?;
    let mut two = Client::connect(&b, &mary).await?;
    let mut johns = Client::connect(&a, &john).await?;
    world.until_followed(mary.id(), 2).await?;
    bus.tell(mary.id(), UserEvent::Revoked {}).await?;
    for client in [&mut one, &mut two] {
        assert_eq!(client.closed().await?.0, 4501);
    }
    assert!(johns.rest().await?.is_empty());
    Ok(())
}
