use hubbub_protocol::{ChannelEvent, Record};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::{
    client::{Client, records},
    support::{Awake, OnBus, World},
};

const ID: &str = "5f0c7f1e-58c1-4d4e-9d6c-6a4d2f6f6a01";

#[tokio::test]
async fn message_reaches_every_device_of_every_member_and_is_in_the_log() -> anyhow::Result<()> {
    let world = World::new("fan_out").await?;
    let pod = world.pod("edge-1", &[]).await?;
    let (mary, john) = (world.caller("mary").await?, world.caller("john").await?);
    let channel = world.channel(&[&mary, &john]).await?;
    let other = world.channel(&[&mary, &john]).await?;
    let mut phone = Client::connect(&pod, &mary).await?;
    let mut tablet = Client::connect(&pod, &mary).await?;
    let mut john = Client::connect(&pod, &john).await?;
    let mut elsewhere = Client::connect(&pod, &mary).await?;
    for client in [&mut phone, &mut tablet, &mut john] {
        client.join(channel).await?;
    }
    elsewhere.join(other).await?;
    let request = json!({
        "type": "message", "channel": channel, "text": "hi \u{1F600}", "client_msg_id": ID,
        "user": "U000000099", "unknown": [1],
    });
    let ok = phone.request(request).await?;
    // The log has it by the time of the `ok`.
    let logged = world.logged(channel).await?;
    let [(seq, Record::Message { user, text, .. })] = &logged[..] else {
        panic!("{logged:?}");
    };
    assert_eq!((*user, text.as_str()), (mary.id(), "hi \u{1F600}"));
    let ts_ms = ok["ts_ms"].clone();
    let expected = json!({
        "reply_to": ok["reply_to"], "ok": true, "channel": channel, "message_id": ID,
        "seq": seq, "ts_ms": ts_ms,
    });
    assert_eq!(ok, expected);
    let frame = json!({
        "type": "message", "channel": channel, "seq": seq, "message_id": ID, "user": mary.id(),
        "text": "hi \u{1F600}", "ts_ms": ts_ms,
    });
    for client in [&mut phone, &mut tablet, &mut john] {
        assert_eq!(client.hears("hi \u{1F600}").await?, frame);
        assert!(records(&client.rest().await?).is_empty(), "once each");
    }
    assert!(records(&elsewhere.rest().await?).is_empty());
    // Without an id of hers one is chosen.
    let chosen = phone.say(channel, "no id").await?;
    let heard = john.hears("no id").await?;
    assert_eq!(chosen["message_id"], heard["message_id"]);
    assert_ne!(chosen["message_id"], ID);
    Ok(())
}

#[tokio::test]
async fn resend_is_logged_with_a_fence_and_not_published() -> anyhow::Result<()> {
    let world = World::new("resend").await?;
    let pod = world.pod("edge-1", &[]).await?;
    let bus = OnBus::start(&world).await?;
    let mary = world.caller("mary").await?;
    let channel = world.channel(&[&mary]).await?;
    let mut client = Client::connect(&pod, &mary).await?;
    client.join(channel).await?;
    let request = |text: &str, retry: bool| {
        json!({ "type": "message", "channel": channel, "text": text, "client_msg_id": ID,
                "retry": retry })
    };
    // The first copy was appended by a pod that died before its publish.
    let first = client.request(request("hi", true)).await?;
    assert_eq!(
        (&first["ok"], &first["seq"]),
        (&json!(true), &Value::Null),
        "{first}"
    );
    let fence = first["fence"].as_u64().expect("a fence");
    let again = client.request(request("another text", true)).await?;
    assert!(again["fence"].as_u64() > Some(fence), "{again}");
    client.say(channel, "something else").await?;
    client.hears("something else").await?;
    assert!(
        records(&client.rest().await?).is_empty(),
        "a resend is not shown before it is stored"
    );
    assert_eq!(world.logged(channel).await?.len(), 3);
    // The store keeps the first copy, and that one is shown, once.
    bus.announce(&world.store_log().await?).await?;
    let shown = client.hears("hi").await?;
    assert_eq!(
        (&shown["seq"], &shown["message_id"]),
        (&json!(fence), &json!(ID))
    );
    client
        .find("synced", |frame| {
            frame["type"] == "synced" && frame["seq"].as_u64() > again["fence"].as_u64()
        })
        .await?;
    assert!(records(&client.rest().await?).is_empty());
    Ok(())
}

#[tokio::test]
async fn same_id_on_two_pods_at_once_is_one_message() -> anyhow::Result<()> {
    let world = World::new("same_id").await?;
    let (a, b) = tokio::try_join!(world.pod("edge-a", &[]), world.pod("edge-b", &[]))?;
    let bus = OnBus::start(&world).await?;
    let (mary, john) = (world.caller("mary").await?, world.caller("john").await?);
    let channel = world.channel(&[&mary, &john]).await?;
    let mut phone = Client::connect(&a, &mary).await?;
    let mut tablet = Client::connect(&b, &mary).await?;
    let mut john = Client::connect(&b, &john).await?;
    let mut ordered = Client::connect(&a, &mary).await?;
    for client in [&mut phone, &mut tablet, &mut john] {
        client.join(channel).await?;
    }
    let join = json!({ "type": "join", "channel": channel, "ordered": true });
    assert_eq!(ordered.request(join).await?["ok"], true);
    let request =
        json!({ "type": "message", "channel": channel, "text": "hi", "client_msg_id": ID });
    let (one, two) = tokio::try_join!(phone.request(request.clone()), tablet.request(request))?;
    assert_eq!((&one["ok"], &two["ok"]), (&json!(true), &json!(true)));
    assert_ne!(one["seq"], two["seq"], "two records");
    // A live copy is shown once on each pod; the store decides which one stays.
    john.hears("hi").await?;
    bus.announce(&world.store_log().await?).await?;
    let last = one["seq"].as_u64().max(two["seq"].as_u64());
    for client in [&mut phone, &mut tablet, &mut john, &mut ordered] {
        client
            .find("synced", |f| {
                f["type"] == "synced" && f["seq"].as_u64() >= last
            })
            .await?;
        let rest = client.rest().await?;
        let mut seqs: Vec<_> = records(&rest).iter().map(|r| r["seq"].as_u64()).collect();
        let seen = seqs.len();
        seqs.sort_unstable();
        seqs.dedup();
        assert_eq!(seqs.len(), seen, "no record twice: {rest:?}");
    }
    let first = one["seq"].as_u64().min(two["seq"].as_u64()).expect("a seq");
    let page = world
        .store
        .range(
            channel,
            hubbub_protocol::Seq(0),
            hubbub_protocol::Seq(1_000),
            10,
        )
        .await?;
    assert_eq!(
        page.iter().map(|row| row.seq.0).collect::<Vec<_>>(),
        [first]
    );
    Ok(())
}

#[tokio::test]
async fn published_is_what_was_acknowledged_in_the_order_of_the_log() -> anyhow::Result<()> {
    let world = World::new("bus_order").await?;
    let pod = world.pod("edge-1", &[]).await?;
    let (mary, john) = (world.caller("mary").await?, world.caller("john").await?);
    let channel = world.channel(&[&mary, &john]).await?;
    let mut mary = Client::connect(&pod, &mary).await?;
    let mut john = Client::connect(&pod, &john).await?;
    john.join(channel).await?;
    for n in 0..200 {
        let frame = json!({ "type": "message", "channel": channel, "text": n.to_string() });
        mary.feed(&frame).await?;
    }
    mary.say(channel, "last").await?;
    john.hears("last").await?;
    let rest = john.rest().await?;
    let heard: Vec<u64> = records(&rest)
        .iter()
        .map(|r| r["seq"].as_u64().expect("a seq"))
        .collect();
    let logged: Vec<u64> = world
        .logged(channel)
        .await?
        .iter()
        .map(|(seq, _)| seq.0)
        .collect();
    assert_eq!(heard, logged[..200]);
    // What goes over the bus is what the client gets, and it can be read back.
    let event = ChannelEvent::decode(channel, rest[0].to_string().as_bytes());
    assert!(event.is_ok() || rest[0]["type"] != "message", "{event:?}");
    Ok(())
}

/// Of one a second and `burst` at once, as many were taken as there was time for.
fn assert_taken(taken: u64, burst: u64, begun: Instant) {
    let most = burst + begun.elapsed().as_secs();
    assert!(
        (burst..=most).contains(&taken),
        "{taken} of {burst}..={most}"
    );
}

#[tokio::test]
async fn user_above_the_rate_is_told_when_and_then_closed() -> anyhow::Result<()> {
    let world = World::new("rate").await?;
    let flags = ["--send-rate=1", "--send-burst=3"];
    let pod = world.pod("edge-1", &flags).await?;
    let (mary, john) = (world.caller("mary").await?, world.caller("john").await?);
    let channel = world.channel(&[&mary, &john]).await?;
    let mut phone = Client::connect(&pod, &mary).await?;
    let mut tablet = Client::connect(&pod, &mary).await?;
    let mut other = Client::connect(&pod, &john).await?;
    let message = json!({ "type": "message", "channel": channel, "text": "x" });
    let (begun, mut taken) = (Instant::now(), 0);
    // The bucket is the user's, not the socket's.
    for client in [&mut phone, &mut tablet] {
        let mut asked = Vec::new();
        for _ in 0..5 {
            asked.push(client.ask(message.clone()).await?);
        }
        for id in asked {
            let said = client.reply_to(id).await?;
            if said["ok"] == true {
                taken += 1;
                continue;
            }
            let error = &said["error"];
            assert_eq!(
                (&error["code"], &error["outcome"]),
                (&json!("rate_limited"), &json!("rejected"))
            );
            assert_eq!(error["retryable"], true, "{said}");
            let wait = error["retry_after_ms"].as_u64().expect("a delay");
            assert!((1..=1_001).contains(&wait), "{said}");
        }
    }
    assert_taken(taken, 3, begun);
    other.say(channel, "others are free").await?;
    // Going on for three seconds is one too many.
    let awake = Awake::start();
    let closed = loop {
        phone.send(&message).await?;
        let seen = tokio::time::timeout(std::time::Duration::from_millis(50), phone.see());
        if let Ok(seen) = seen.await
            && let crate::client::Seen::Close(code, _) = seen?
        {
            break code;
        }
        anyhow::ensure!(awake.elapsed().as_secs() < 8, "it goes on for ever");
    };
    assert_eq!(closed, 4009);
    let took = begun.elapsed().as_secs_f64();
    assert!(took >= 2.9, "after {took} s");
    assert_eq!(tablet.request(json!({ "type": "ping" })).await?["ok"], true);
    Ok(())
}

#[tokio::test]
async fn socket_above_the_frame_rate_is_told_and_then_closed() -> anyhow::Result<()> {
    let world = World::new("frame_rate").await?;
    let flags = ["--frame-rate=1", "--frame-burst=5"];
    let pod = world.pod("edge-1", &flags).await?;
    let mary = world.caller("mary").await?;
    let mut client = Client::connect(&pod, &mary).await?;
    let (begun, mut taken, mut asked) = (Instant::now(), 0, Vec::new());
    for _ in 0..10 {
        asked.push(client.ask(json!({ "type": "ping" })).await?);
    }
    for id in asked {
        let said = client.reply_to(id).await?;
        if said["ok"] == true {
            taken += 1;
            continue;
        }
        assert_eq!(said["error"]["code"], "rate_limited", "{said}");
        assert!(said["error"]["retry_after_ms"].as_u64() > Some(0), "{said}");
    }
    assert_taken(taken, 5, begun);
    let mut every = tokio::time::interval(std::time::Duration::from_millis(50));
    let code = loop {
        // Waits for the time of the next request, or for whatever the server says.
        tokio::select! {
            _ = every.tick() => client.send(&json!({ "type": "ping", "id": 0 })).await?,
            seen = client.see() => if let crate::client::Seen::Close(code, _) = seen? { break code },
        }
    };
    assert_eq!(code, 4009);
    Ok(())
}

#[tokio::test]
async fn resume_gets_what_was_missed_and_goes_on_live() -> anyhow::Result<()> {
    let world = World::new("resume").await?;
    let (a, b) = tokio::try_join!(world.pod("edge-a", &[]), world.pod("edge-b", &[]))?;
    let bus = OnBus::start(&world).await?;
    let (mary, john) = (world.caller("mary").await?, world.caller("john").await?);
    let channel = world.channel(&[&mary, &john]).await?;
    let mut mary = Client::connect(&a, &mary).await?;
    for n in 0..250 {
        let frame = json!({ "type": "message", "channel": channel, "text": n.to_string() });
        mary.feed(&frame).await?;
    }
    mary.say(channel, "stored").await?;
    bus.announce(&world.store_log().await?).await?;
    let cursor = world.logged(channel).await?[49].0;
    let mut john = Client::connect(&b, &john).await?;
    let join = json!({ "type": "join", "channel": channel, "since": cursor });
    let reply = john.request(join).await?;
    assert_eq!(
        (&reply["ok"], &reply["recovered"]),
        (&json!(true), &json!(true)),
        "{reply}"
    );
    mary.say(channel, "live").await?;
    john.hears("live").await?;
    let frames = john.rest().await?;
    let texts: Vec<&str> = records(&frames)
        .iter()
        .filter_map(|r| r["text"].as_str())
        .collect();
    let expected: Vec<String> = (50..250)
        .map(|n| n.to_string())
        .chain(["stored".to_owned()])
        .collect();
    assert_eq!(texts, expected);
    let first = frames
        .iter()
        .find(|f| f["type"] == "replay")
        .expect("a replay");
    assert_eq!(
        (&first["since"], &first["channel"]),
        (&json!(cursor), &json!(channel))
    );
    Ok(())
}
