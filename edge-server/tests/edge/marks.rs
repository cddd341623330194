use std::time::Duration;

use hubbub_protocol::{Receipt, Seq, Typing, UserEvent};
use serde_json::json;
use tokio::time::Instant;

use crate::{
    client::Client,
    support::{OnBus, World, eventually},
};

#[tokio::test]
async fn marks_of_a_moment_are_one_record_with_the_highest() -> anyhow::Result<()> {
    let world = World::new("marks").await?;
    let pod = world.pod("edge-1", &[]).await?;
    let (mary, john) = (world.caller("mary").await?, world.caller("john").await?);
    let (channel, other) = (
        world.channel(&[&mary, &john]).await?,
        world.channel(&[&mary, &john]).await?,
    );
    let mut mary = Client::connect(&pod, &mary).await?;
    let mut phone = Client::connect(&pod, &john.on("phone")).await?;
    mary.join(channel).await?;
    phone.join(channel).await?;
    let (mut last, mut reads) = (0, Vec::new());
    for n in 0..20 {
        let text = n.to_string();
        let said = mary.say(channel, &text).await?;
        last = said["seq"].as_u64().expect("a seq");
        let mark = json!({ "type": "mark", "channel": channel, "delivered": last });
        let begun = Instant::now();
        let marks = phone.ask(mark).await?;
        phone.hears(&text).await?;
        let came = begun.elapsed();
        let reply = phone.reply_to(marks).await?;
        // He may mark what his own pod is just about to bring: it waits so long for it.
        if came < Duration::from_millis(50) || reply["ok"] == true {
            assert_eq!(reply["channel"], json!(channel), "{reply}");
        } else {
            assert_eq!(reply["error"]["code"], "not_stored_yet", "{reply}");
        }
        reads.push(json!({ "type": "mark", "channel": channel, "read": last }));
    }
    // In one write.
    for mark in &reads[..19] {
        phone.feed(mark).await?;
    }
    assert_eq!(phone.request(reads[19].clone()).await?["ok"], true);
    let marked = eventually("the last mark is in the log", async || {
        let marked = world.marked(channel).await.ok()?;
        (marked.last()?.read == Seq(last)).then_some(marked)
    })
    .await?;
    let read = marked.iter().filter(|mark| mark.read > Seq(0)).count();
    assert!(read <= 10, "{read} records of 20 marks");
    let expected = Receipt {
        channel,
        user: john.id(),
        device: "phone".parse()?,
        delivered: Seq(last),
        read: Seq(last),
    };
    assert_eq!(marked.last(), Some(&expected));
    // A channel that nobody listens to here: the store is asked.
    let seq = world.append(other, john.id(), "hi").await?;
    world.store_log().await?;
    let mark = json!({ "type": "mark", "channel": other, "read": seq });
    assert_eq!(phone.request(mark).await?["ok"], true);
    // A mark above all that there is is refused, and holds up nobody.
    let begun = Instant::now();
    let high = json!({ "type": "mark", "channel": channel, "read": last + 1_000 });
    let waits = phone.ask(high).await?;
    phone.say(channel, "meanwhile").await?;
    assert!(begun.elapsed() < Duration::from_secs(2));
    let refused = phone.reply_to(waits).await?;
    assert_eq!(refused["error"]["code"], "not_stored_yet", "{refused}");
    let stranger = world.caller("ann").await?;
    let mut stranger = Client::connect(&pod, &stranger).await?;
    let mark = json!({ "type": "mark", "channel": channel, "read": 1 });
    let refused = stranger.request(mark).await?;
    assert_eq!(refused["error"]["code"], "channel_not_found", "{refused}");
    // What waits when the pod is drained is written.
    let seq = mary.say(channel, "last").await?["seq"]
        .as_u64()
        .expect("a seq");
    phone.hears("last").await?;
    let mark = json!({ "type": "mark", "channel": channel, "read": seq });
    phone.send(&mark).await?;
    phone.request(json!({ "type": "ping" })).await?;
    pod.lifecycle.begin_drain("the test says so");
    let outcome = pod.lifecycle.finished(crate::support::LONG).await;
    assert!(!outcome.failed && outcome.cut.is_empty(), "{outcome:?}");
    let marked = world.marked(channel).await?;
    assert_eq!(marked.last().map(|mark| mark.read), Some(Seq(seq)));
    Ok(())
}

#[tokio::test]
async fn receipts_reach_the_other_one_and_ones_own_devices() -> anyhow::Result<()> {
    let world = World::new("receipts").await?;
    let pod = world.pod("edge-1", &[]).await?;
    let mut bus = OnBus::start(&world).await?;
    let (mary, john) = (world.caller("mary").await?, world.caller("john").await?);
    let (channel, elsewhere) = (
        world.channel(&[&mary, &john]).await?,
        world.channel(&[&mary, &john]).await?,
    );
    let mut marys = Client::connect(&pod, &mary).await?;
    let mut phone = Client::connect(&pod, &john.on("phone")).await?;
    let mut tablet = Client::connect(&pod, &john.on("tablet")).await?;
    marys.join(channel).await?;
    phone.join(channel).await?;
    let receipt = |channel, read| Receipt {
        channel,
        user: john.id(),
        device: "phone".parse().expect("an id"),
        delivered: Seq(read),
        read: Seq(read),
    };
    let own = |channel, read| UserEvent::Receipt {
        channel,
        device: "phone".parse().expect("an id"),
        delivered: Seq(read),
        read: Seq(read),
    };
    // What the consumer publishes of a direct channel, both.
    bus.say(channel, &receipt(channel, 7).frame()).await?;
    bus.tell(john.id(), own(channel, 7)).await?;
    for client in [&mut marys, &mut phone, &mut tablet] {
        let frame = client.of_type("receipt").await?;
        assert_eq!(frame["read"], 7, "{frame}");
        assert_eq!(
            (&frame["user"], &frame["device"]),
            (&json!(john.id()), &json!("phone"))
        );
    }
    // Of any other, one's own devices, whether they listen or not.
    bus.tell(john.id(), own(elsewhere, 9)).await?;
    for client in [&mut phone, &mut tablet] {
        assert_eq!(
            client.of_type("receipt").await?["channel"],
            json!(elsewhere)
        );
    }
    // Once he was removed he hears of it no more, on any path.
    for channel in [channel, elsewhere] {
        world.store.remove_member(channel, john.id()).await?;
        bus.evict(channel, john.id()).await?;
        bus.say(
            channel,
            &Typing {
                channel,
                user: mary.id(),
            }
            .frame(),
        )
        .await?;
        bus.say(channel, &receipt(channel, 11).frame()).await?;
        bus.tell(john.id(), own(channel, 11)).await?;
    }
    assert_eq!(marys.of_type("receipt").await?["read"], 11);
    eventually("both were looked at", async || {
        let metric = "hubbub_edge_bus_events_total{kind=\"receipt_dropped\"}";
        (pod.metric(metric).await.ok()? >= 2.0).then_some(())
    })
    .await?;
    for client in [&mut phone, &mut tablet] {
        let rest = client.rest().await?;
        let heard = |kind: &str| rest.iter().any(|frame| frame["type"] == kind);
        assert!(!heard("receipt") && !heard("typing"), "{rest:?}");
    }
    assert!(
        marys
            .rest()
            .await?
            .iter()
            .all(|frame| frame["type"] != "receipt"),
        "once"
    );
    Ok(())
}

#[tokio::test]
async fn typing_is_shown_once_in_three_seconds_and_never_stored() -> anyhow::Result<()> {
    let world = World::new("typing").await?;
    let (a, b) = tokio::try_join!(world.pod("edge-a", &[]), world.pod("edge-b", &[]))?;
    let (mary, john) = (world.caller("mary").await?, world.caller("john").await?);
    let channel = world.channel(&[&mary, &john]).await?;
    let mary_id = mary.id();
    let mut marys = Client::connect(&a, &mary).await?;
    let mut tablet = Client::connect(&a, &mary).await?;
    let mut johns = Client::connect(&b, &john).await?;
    tablet.join(channel).await?;
    johns.join(channel).await?;
    // She types without listening there.
    let typing = json!({ "type": "typing", "channel": channel });
    let begun = Instant::now();
    let mut seen = Vec::new();
    while seen.len() < 2 {
        let reply = marys.request(typing.clone()).await?;
        assert_eq!(reply["ok"], true, "{reply}");
        let rest = johns.rest().await?;
        let shown = rest.iter().filter(|frame| frame["type"] == "typing");
        for frame in shown {
            assert_eq!(frame["user"], json!(mary_id), "{frame}");
            seen.push(begun.elapsed());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        anyhow::ensure!(begun.elapsed() < crate::support::LONG, "shown {seen:?}");
    }
    // The first was shown after that moment, however late it was seen.
    assert!(seen[1] > Duration::from_millis(2_900), "{seen:?}");
    let own = tablet.rest().await?;
    assert!(
        own.iter().all(|frame| frame["type"] != "typing"),
        "not to herself: {own:?}"
    );
    assert_eq!(world.logged(channel).await?, []);
    let ann = world.caller("ann").await?;
    let mut ann = Client::connect(&a, &ann).await?;
    let refused = ann.request(typing).await?;
    assert_eq!(refused["error"]["code"], "channel_not_found", "{refused}");
    Ok(())
}
