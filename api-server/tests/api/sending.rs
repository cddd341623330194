use hubbub_bus::{Event, Subscriber};
use hubbub_protocol::{BusChannel, ChannelEvent, Record, Seq, http::ChannelKind};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::support::{LONG, World};

#[tokio::test]
async fn message_is_logged_then_published_and_a_resend_is_not_published() -> anyhow::Result<()> {
    let world = World::new("sending").await?;
    let mary = world.caller("mary").await?;
    let channel = world.channel(ChannelKind::Private, &mary, &[]).await?;
    let messages = format!("/channels/{}/messages", channel.id);
    let config = hubbub_bus::Config::new(&world.env.redis_url, "listener".parse()?);
    let (subscriber, mut inbox, task) = Subscriber::new(&config, &hubbub_bus::Metrics::default());
    let stop = CancellationToken::new();
    let _guard = stop.clone().drop_guard();
    let mut tasks = JoinSet::new();
    tasks.spawn(task.run(stop));
    let bus = BusChannel::Channel(channel.id);
    subscriber.subscribe(bus.clone());
    let mut events = Vec::new();
    while !events.contains(&Event::Subscribed(bus.clone())) {
        tokio::time::timeout(LONG, inbox.recv_all(&mut events)).await?;
    }
    events.clear();

    let id = "5f0c7f1e-58c1-4d4e-9d6c-6a4d2f6f6a01";
    let body = json!({ "text": "hi \u{1F600}", "client_msg_id": id });
    let (status, sent) = world
        .send(Method::POST, &messages, Some(&mary), Some(&body))
        .await?;
    assert_eq!(status, 201, "{sent}");
    assert_eq!(
        (&sent["message_id"], &sent["channel"]),
        (&json!(id), &json!(channel.id))
    );
    let seq = Seq(sent["seq"].as_u64().expect("a seq"));
    assert_eq!(sent.get("fence"), None);

    let again = json!({ "text": "hi \u{1F600}", "client_msg_id": id, "retry": true });
    let (status, resent) = world
        .send(Method::POST, &messages, Some(&mary), Some(&again))
        .await?;
    assert_eq!((status, &resent["seq"]), (201, &Value::Null), "{resent}");
    let fence = Seq(resent["fence"].as_u64().expect("a fence"));
    assert!(fence > seq);
    let last = json!({ "text": "the last" });
    let (status, third) = world
        .send(Method::POST, &messages, Some(&mary), Some(&last))
        .await?;
    assert_eq!(status, 201, "{third}");
    assert_ne!(third["message_id"], json!(id), "an id was chosen for it");
    let end = Seq(third["seq"].as_u64().expect("a seq"));

    // What was published, up to the last: the first and the last, in order, and no resend.
    let mut published = Vec::new();
    while published.last() != Some(&end) {
        tokio::time::timeout(LONG, inbox.recv_all(&mut events)).await?;
        for event in events.drain(..) {
            let Event::Message { payload, .. } = event else {
                continue;
            };
            match ChannelEvent::decode(channel.id, &payload).map_err(anyhow::Error::msg)? {
                ChannelEvent::Record { seq, key, .. } => {
                    assert_eq!(key.user, mary.id());
                    published.push(seq);
                }
                other => panic!("{other:?}"),
            }
        }
    }
    assert_eq!(published, [seq, end]);

    // And the log has all three.
    let logged: Vec<_> = hubbub_log::read_all(&world.log)
        .await?
        .into_iter()
        .map(|(_, record)| {
            let payload = record.payload.expect("a payload");
            (record.seq, Record::decode(&payload).expect("a record"))
        })
        .collect();
    let seqs: Vec<_> = logged.iter().map(|(seq, _)| *seq).collect();
    assert_eq!(seqs, [seq, fence, end]);
    assert_eq!(logged[0].1, logged[1].1);
    Ok(())
}

#[tokio::test]
async fn sends_are_limited_per_user() -> anyhow::Result<()> {
    let world = World::with("send_rate", &["--send-rate=0.01", "--send-burst=3"]).await?;
    let (mary, john) = (world.caller("mary").await?, world.caller("john").await?);
    let channel = world.channel(ChannelKind::Private, &mary, &[&john]).await?;
    let messages = format!("/channels/{}/messages", channel.id);
    let hi = json!({ "text": "hi" });
    for _ in 0..3 {
        let sent = world
            .send(Method::POST, &messages, Some(&mary), Some(&hi))
            .await?;
        assert_eq!(sent.0, 201, "{}", sent.1);
    }
    let (status, refused) = world
        .send(Method::POST, &messages, Some(&mary), Some(&hi))
        .await?;
    assert_eq!(status, 429);
    assert_eq!(refused["error"]["outcome"], "rejected");
    assert!(refused["error"]["retry_after_ms"].as_u64() > Some(0));
    let sent = world
        .send(Method::POST, &messages, Some(&john), Some(&hi))
        .await?;
    assert_eq!(sent.0, 201);
    Ok(())
}

/// The bus is no part of the promise: without it sends are acknowledged all the same.
#[tokio::test]
async fn redis_away_does_not_stop_sending_and_reading() -> anyhow::Result<()> {
    let world = World::new("redis_away").await?;
    let mary = world.caller("mary").await?;
    let channel = world.channel(ChannelKind::Private, &mary, &[]).await?;
    let messages = format!("/channels/{}/messages", channel.id);
    world.env.redis().kill().await;
    let hi = json!({ "text": "hi" });
    for _ in 0..10 {
        let sent = world
            .send(Method::POST, &messages, Some(&mary), Some(&hi))
            .await?;
        assert_eq!(sent.0, 201, "{}", sent.1);
    }
    assert_eq!(world.get(&messages, &mary).await?.0, 200);
    let ready = reqwest::get(format!("{}/readyz", world.ops)).await?;
    assert_eq!(ready.status(), 200);
    let remove = format!("/channels/{}/members/me", channel.id);
    let (status, body) = world
        .send(Method::DELETE, &remove, Some(&mary), None)
        .await?;
    assert_eq!(
        (status, &body["error"]["code"]),
        (503, &json!("bus_unavailable"))
    );
    let gone = world.store.membership(channel.id, mary.id()).await?;
    assert_eq!(gone, None, "the removal stands");
    Ok(())
}

/// Who is no member never takes a send from the rate of sends, and costs the core a query.
#[tokio::test]
async fn sends_of_a_stranger_are_limited_too() -> anyhow::Result<()> {
    let flags = ["--request-rate=0.01", "--request-burst=3"];
    let world = World::with("stranger_rate", &flags).await?;
    let (mary, john) = (world.caller("mary").await?, world.caller("john").await?);
    let channel = world.channel(ChannelKind::Private, &mary, &[]).await?;
    let messages = format!("/channels/{}/messages", channel.id);
    let hi = json!({ "text": "hi" });
    let mut answers = Vec::new();
    for _ in 0..4 {
        let (status, body) = world
            .send(Method::POST, &messages, Some(&john), Some(&hi))
            .await?;
        assert_eq!(body["error"]["outcome"], "rejected", "{body}");
        answers.push(status);
    }
    assert_eq!(answers, [404, 404, 404, 429]);
    let (status, sent) = world
        .send(Method::POST, &messages, Some(&mary), Some(&hi))
        .await?;
    assert_eq!(status, 201, "{sent}");
    Ok(())
}
