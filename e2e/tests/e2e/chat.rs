//! Two people on two pods; the third pod, without listeners, gets nothing.

use hubbub_e2e::{World, eventually};

#[tokio::test]
async fn two_pods_chat_and_a_third_without_listeners_hears_nothing() -> anyhow::Result<()> {
    let world = World::start("chat", 3, 1).await?;
    let maths = world.channel("Maths").await?;
    // Round robin gives three devices three pods, unless HAProxy has just missed one.
    let mut tries = 0;
    let (mary, john, idle) = loop {
        let (mary, john, idle) = (
            world.device("Mary").await?,
            world.device("John").await?,
            world.device("Mike").await?,
        );
        let pods: std::collections::BTreeSet<String> =
            [mary.pod(), john.pod(), idle.pod()].into_iter().collect();
        if pods.len() == 3 {
            break (mary, john, idle);
        }
        tries += 1;
        assert!(tries < 3, "round robin over three pods: {pods:?}");
    };

    mary.join(maths).await?;
    john.join(maths).await?;
    let live = format!("channel-{maths}");
    assert_eq!(
        world.numsub(&live).await?,
        2,
        "one subscription for each pod with listeners"
    );
    assert!(world.pubsub_channels("channel-*").await?.contains(&live));

    let sent = mary.client.send(maths, "hi John")?.wait().await?;
    john.wait_text(maths, "hi John").await?;
    mary.wait_text(maths, "hi John").await?;
    john.client.send(maths, "hi Mary")?.wait().await?;
    mary.wait_text(maths, "hi Mary").await?;
    assert_eq!(idle.heard(|heard| heard.records.len()), 0);
    assert_eq!(
        world
            .metric(&idle.pod(), "hubbub_edge_bus_events_total{kind=\"record\"}")
            .await?,
        0.0
    );

    // History over HTTP, on both API servers, read after the write.
    for api in 0..2 {
        let http = world.http_at("Frank", api)?;
        let page = world.page_with(&http, maths, sent.seq).await?;
        assert!(
            page.iter().any(|entry| Some(entry.seq) == sent.seq),
            "api {api}: {page:?}"
        );
    }

    // The last listener of a pod leaves: its subscription ends after the linger.
    mary.client.leave(maths).await?;
    eventually("one subscription left", || async {
        Ok(world.numsub(&live).await? == 1)
    })
    .await?;
    world.finish().await
}

#[tokio::test]
async fn removed_member_hears_and_says_nothing_more() -> anyhow::Result<()> {
    let world = World::start("removal", 3, 1).await?;
    let boss = world.http("Mary")?;
    let secret = boss.create_channel(&World::new_private("plans")).await?.id;
    let mike = world.user("Mike").await?;
    boss.add_member(secret, hubbub_client::Who::User(mike))
        .await?;
    let mut devices = Vec::new();
    for _ in 0..3 {
        let device = world.device("Mike").await?;
        device.join(secret).await?;
        devices.push(device);
    }
    let mary = world.device("Mary").await?;
    mary.join(secret).await?;
    mary.client.send(secret, "welcome")?.wait().await?;
    for device in &devices {
        device.wait_text(secret, "welcome").await?;
    }
    for round in 0..5 {
        boss.remove_member(secret, hubbub_client::Who::User(mike))
            .await?;
        let text = format!("secret {round}");
        let seq = mary.client.send(secret, text.clone())?.wait().await?.seq;
        mary.wait_text(secret, &text).await?;
        // He is told the same as somebody who never was there.
        let mikes = world.http("Mike")?;
        let history = mikes.messages(secret, hubbub_client::Page::default()).await;
        let error = history.expect_err("no history for him");
        assert_eq!(
            error.body().map(|e| e.code),
            Some(hubbub_protocol::ErrorCode::ChannelNotFound)
        );
        let refused = devices[round % 3]
            .client
            .send(secret, "let me in")?
            .wait()
            .await;
        assert!(refused.is_err(), "round {round}: {refused:?}");
        let late = world.device("Mike").await?;
        assert!(
            late.join(secret).await.is_err(),
            "round {round}: joined after the removal"
        );
        for device in &devices {
            assert!(
                !device.texts(secret).contains(&text),
                "round {round}: heard a secret"
            );
        }
        // Added again he reads what was said meanwhile (members read all earlier history).
        boss.add_member(secret, hubbub_client::Who::User(mike))
            .await?;
        let page = world.page_with(&mikes, secret, seq).await?;
        assert!(
            page.iter().any(|entry| Some(entry.seq) == seq),
            "round {round}: seq {seq:?} is not in {page:?}"
        );
        for device in &devices {
            device.join(secret).await?;
        }
    }
    world.finish().await
}
