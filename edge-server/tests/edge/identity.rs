use hubbub_chat::{Error, MessageChange};
use hubbub_protocol::{
    DeleteMessage, EditMessage, Record, Seq,
    http::{IdentityPatch, Role},
};
use serde_json::json;

use crate::{
    client::Client,
    support::{OnBus, World},
};

#[tokio::test]
async fn change_of_an_identity_reaches_every_channel_and_who_was_away() -> anyhow::Result<()> {
    let world = World::new("identity").await?;
    let pod = world.pod("edge-1", &[]).await?;
    let mut bus = OnBus::start(&world).await?;
    let chat = bus.chat(&world).await?;
    let (mary, john) = (world.caller("mary").await?, world.caller("john").await?);
    let (one, two) = (
        world.channel(&[&mary, &john]).await?,
        world.channel(&[&mary]).await?,
    );
    let direct = world
        .store
        .direct_channel(mary.id(), john.id())
        .await?
        .channel;
    let left = world.channel(&[&john, &mary]).await?;
    world.store.remove_member(left, mary.id()).await?;
    let mut johns = Client::connect(&pod, &john).await?;
    johns.join(one).await?;
    let patch = |status: &str| IdentityPatch {
        status: Some(status.to_owned()),
        ..IdentityPatch::default()
    };
    let reply = chat.change_identity(mary.id(), patch("at lunch")).await?;
    // Directly behind the first: in five seconds it is allowed.
    let error = chat.change_identity(mary.id(), patch("back")).await;
    let Err(error @ Error::RateLimited { .. }) = error else {
        anyhow::bail!("not refused: {error:?}");
    };
    assert!(
        error
            .body()
            .retry_after_ms
            .is_some_and(|ms| (1..=5_000).contains(&ms))
    );
    assert_eq!((reply.announced, reply.channels), (3, 3));
    assert_eq!(reply.user.status.as_deref(), Some("at lunch"));
    let version = reply.user.version;
    assert_eq!(version, mary.user.version + 1);
    let heard = johns
        .find("identity_change", |frame| {
            frame["type"] == "identity_change" && frame["channel"] == json!(one)
        })
        .await?;
    assert_eq!(
        (&heard["user"], &heard["version"]),
        (&json!(mary.id()), &json!(version))
    );
    for channel in [one, two, direct] {
        let logged = world.logged(channel).await?;
        let last = logged.last().map(|(_, record)| record.clone());
        assert!(matches!(last, Some(Record::Identity { .. })), "{last:?}");
    }
    assert_eq!(world.logged(left).await?, [], "she does not belong there");
    // A client that was away learns it on resume.
    world.store_log().await?;
    let mut later = Client::connect(&pod, &mary).await?;
    let join = json!({ "type": "join", "channel": two, "since": 0 });
    assert_eq!(later.request(join).await?["recovered"], true);
    assert_eq!(
        later.of_type("identity_change").await?["version"],
        json!(version)
    );
    Ok(())
}

#[tokio::test]
async fn opened_direct_channel_is_the_same_and_joined_by_both() -> anyhow::Result<()> {
    let world = World::new("open_direct").await?;
    let pod = world.pod("edge-1", &[]).await?;
    let mut bus = OnBus::start(&world).await?;
    let chat = bus.chat(&world).await?;
    let (mary, john) = (world.caller("mary").await?, world.caller("john").await?);
    let mut marys = Client::connect(&pod, &mary).await?;
    let mut johns = Client::connect(&pod, &john).await?;
    for user in [mary.id(), john.id()] {
        world.until_followed(user, 1).await?;
    }
    let (here, there) = tokio::join!(
        chat.open_direct(mary.id(), john.id()),
        chat.open_direct(john.id(), mary.id())
    );
    let channel = here?;
    assert_eq!(channel, there?);
    for client in [&mut marys, &mut johns] {
        assert_eq!(client.of_type("joined").await?["channel"], json!(channel));
    }
    let nobody = "UZZZZZZZZZ".parse()?;
    let refused = chat.open_direct(mary.id(), nobody).await;
    assert!(matches!(refused, Err(Error::UserNotFound)), "{refused:?}");
    Ok(())
}

#[tokio::test]
async fn author_and_admin_change_a_message_and_nobody_else() -> anyhow::Result<()> {
    let world = World::new("rights").await?;
    let mut bus = OnBus::start(&world).await?;
    let chat = bus.chat(&world).await?;
    let (mary, john) = (world.caller("mary").await?, world.caller("john").await?);
    let (ann, eve) = (world.caller("ann").await?, world.caller("eve").await?);
    let channel = world.channel(&[&mary, &john, &ann]).await?;
    world
        .store
        .add_member(channel, ann.id(), Role::Member)
        .await?;
    let target = world.append(channel, john.id(), "mine").await?;
    world.store_log().await?;
    let edit = |target| EditMessage {
        channel,
        target,
        text: "other".to_owned(),
        client_msg_id: None,
        retry: false,
    };
    assert!(
        chat.edit(john.id(), edit(target)).await.is_ok(),
        "the author"
    );
    assert!(
        chat.edit(mary.id(), edit(target)).await.is_ok(),
        "the admin"
    );
    let refused = chat.edit(ann.id(), edit(target)).await;
    assert!(matches!(refused, Err(Error::Forbidden(_))), "{refused:?}");
    let refused = chat.edit(eve.id(), edit(target)).await;
    assert!(
        matches!(refused, Err(Error::ChannelNotFound)),
        "{refused:?}"
    );
    // A permit for one channel is none for another.
    let other = world.channel(&[&john]).await?;
    let permit = chat.permit(other, john.id()).await?;
    let change = MessageChange::Delete(DeleteMessage {
        channel,
        target,
        client_msg_id: None,
        retry: false,
    });
    let refused = chat.allow(permit, change.clone()).await;
    assert!(
        matches!(refused, Err(Error::ChannelNotFound)),
        "{refused:?}"
    );
    let allowed = chat
        .allow(chat.permit(channel, john.id()).await?, change)
        .await?;
    let refused = chat.apply(permit, allowed);
    assert!(
        matches!(refused, Err(Error::ChannelNotFound)),
        "{refused:?}"
    );
    let refused = chat.edit(john.id(), edit(Seq(target.0 + 1_000))).await;
    assert!(matches!(refused, Err(Error::NotStoredYet)), "{refused:?}");
    assert_eq!(world.logged(channel).await?.len(), 3);
    Ok(())
}
