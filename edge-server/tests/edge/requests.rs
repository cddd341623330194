use hubbub_protocol::{ChannelId, ChannelLetter};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use crate::{
    client::{Client, records},
    support::World,
};

#[tokio::test]
async fn request_that_is_wrong_is_told_what_is_wrong_and_keeps_the_socket() -> anyhow::Result<()> {
    let world = World::new("requests").await?;
    let pod = world.pod("edge-1", &[]).await?;
    let mary = world.caller("mary").await?;
    let here = world.channel(&[&mary]).await?;
    let mut client = Client::connect(&pod, &mary).await?;
    let long = "x".repeat(16 * 1024 + 1);
    let cases = [
        (json!({}), "missing_field", Some("type"), None),
        (json!({ "type": 1 }), "invalid_field", Some("type"), None),
        (
            json!({ "type": "confetti" }),
            "unknown_type",
            Some("type"),
            None,
        ),
        (
            json!({ "type": "join" }),
            "missing_field",
            Some("channel"),
            None,
        ),
        (
            json!({ "type": "join", "channel": null }),
            "missing_field",
            Some("channel"),
            None,
        ),
        (
            json!({ "type": "join", "channel": "c1" }),
            "invalid_field",
            Some("channel"),
            None,
        ),
        (
            json!({ "type": "join", "channel": 1 }),
            "invalid_field",
            Some("channel"),
            None,
        ),
        (
            json!({ "type": "join", "channel": here, "since": -1 }),
            "invalid_field",
            Some("since"),
            None,
        ),
        (
            json!({ "type": "join", "channel": here, "since": "7" }),
            "invalid_field",
            Some("since"),
            None,
        ),
        (
            json!({ "type": "join", "channel": here, "since": 1_u64 << 53 }),
            "invalid_field",
            Some("since"),
            Some((1_u64 << 53) - 1),
        ),
        (
            json!({ "type": "join", "channel": here, "ordered": 1 }),
            "invalid_field",
            Some("ordered"),
            None,
        ),
        (
            json!({ "type": "leave" }),
            "missing_field",
            Some("channel"),
            None,
        ),
        (
            json!({ "type": "message", "channel": here }),
            "missing_field",
            Some("text"),
            None,
        ),
        (
            json!({ "type": "message", "text": "x" }),
            "missing_field",
            Some("channel"),
            None,
        ),
        (
            json!({ "type": "message", "channel": here, "text": "" }),
            "invalid_field",
            Some("text"),
            None,
        ),
        (
            json!({ "type": "message", "channel": here, "text": ["x"] }),
            "invalid_field",
            Some("text"),
            None,
        ),
        (
            json!({ "type": "message", "channel": here, "text": "a\u{0}b" }),
            "invalid_field",
            Some("text"),
            None,
        ),
        (
            json!({ "type": "message", "channel": here, "text": long }),
            "text_too_long",
            Some("text"),
            Some(16_384),
        ),
        (
            json!({ "type": "message", "channel": here, "text": "x", "client_msg_id": "7" }),
            "invalid_field",
            Some("client_msg_id"),
            None,
        ),
        (
            json!({ "type": "message", "channel": here, "text": "x", "retry": "yes" }),
            "invalid_field",
            Some("retry"),
            None,
        ),
        (
            json!({ "type": "message", "channel": "C000099999", "text": "x" }),
            "channel_not_found",
            None,
            None,
        ),
        (
            json!({ "type": "join", "channel": "C000099999" }),
            "channel_not_found",
            None,
            None,
        ),
    ];
    for (request, code, field, limit) in cases {
        let said = client.request(request.clone()).await?;
        assert_eq!(said["ok"], false, "{request}: {said}");
        let error = &said["error"];
        assert_eq!(error["code"], code, "{request}: {said}");
        assert_eq!(error["field"], json!(field), "{request}: {said}");
        assert_eq!(error["limit"], json!(limit), "{request}: {said}");
        assert_eq!(error["retryable"], false, "{request}: {said}");
        assert!(error["message"].is_string(), "{request}: {said}");
    }
    // An id that is none cannot be answered by its id.
    for id in [json!(1.5), json!([1]), json!("x".repeat(65))] {
        client.send(&json!({ "type": "ping", "id": id })).await?;
        let said = client.reply(&Value::Null).await?;
        assert_eq!(said["error"]["field"], "id", "{id}: {said}");
    }
    for id in [
        json!(-7),
        json!("seven"),
        json!("x".repeat(64)),
        json!(i64::MAX),
    ] {
        client.send(&json!({ "type": "ping", "id": id })).await?;
        let said = client.reply(&id).await?;
        assert_eq!(said, json!({ "reply_to": id, "ok": true }));
    }
    let deep = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
    let deep = &deep[..60_000];
    let nested = format!(
        r#"{{"id":1,"type":"ping","x":{}1{}}}"#,
        "[".repeat(16),
        "]".repeat(16)
    );
    for bad in [
        "",
        "x",
        "[]",
        "7",
        "\"ping\"",
        "{\"id\":1",
        "{} {}",
        "{\"id\":1,\"text\":\"\\ud800\",\"type\":\"message\",\"channel\":1}",
        deep,
        &nested,
    ] {
        client.send_raw(Message::text(bad)).await?;
        let any = client
            .find("an error", |frame| frame["ok"] == false)
            .await?;
        let code = &any["error"]["code"];
        assert!(
            code == "invalid_json" || code == "invalid_field",
            "{bad:.40}: {any}"
        );
        assert!(
            bad.contains("ud800") || code == "invalid_json",
            "{bad:.40}: {any}"
        );
    }
    // All of that on one socket, which listens and speaks still.
    client.join(here).await?;
    client.say(here, "still here").await?;
    client.hears("still here").await?;
    Ok(())
}

#[tokio::test]
async fn request_without_an_id_gets_no_reply() -> anyhow::Result<()> {
    let world = World::new("no_id").await?;
    let pod = world.pod("edge-1", &[]).await?;
    let mary = world.caller("mary").await?;
    let channel = world.channel(&[&mary]).await?;
    let mut client = Client::connect(&pod, &mary).await?;
    let text = "without an id";
    client
        .send(&json!({ "type": "join", "channel": channel }))
        .await?;
    client
        .send(&json!({ "type": "message", "channel": channel, "text": text }))
        .await?;
    client.hears(text).await?;
    client
        .send(&json!({ "type": "leave", "channel": channel }))
        .await?;
    // What fails without an id fails in silence, too.
    client
        .send(&json!({ "type": "join", "channel": "C000099999" }))
        .await?;
    client
        .send(&json!({ "type": "message", "channel": "C000099999", "text": "x" }))
        .await?;
    let replies = |frames: Vec<Value>| {
        frames
            .into_iter()
            .filter(|f| f.get("reply_to").is_some())
            .count()
    };
    assert_eq!(replies(client.rest().await?), 0);
    client.send(&json!({ "type": "ping" })).await?;
    assert_eq!(client.of_type("pong").await?, json!({ "type": "pong" }));
    Ok(())
}

#[tokio::test]
async fn foreign_channel_is_answered_as_one_that_does_not_exist() -> anyhow::Result<()> {
    let world = World::new("foreign").await?;
    let pod = world.pod("edge-1", &[]).await?;
    let (mary, john) = (world.caller("mary").await?, world.caller("john").await?);
    let hers = world.channel(&[&mary]).await?;
    let absent = ChannelId::new(ChannelLetter::Channel, 99_999).expect("from 1");
    // The channel is open here, so that nothing is known of it by accident.
    let mut mary = Client::connect(&pod, &mary).await?;
    mary.join(hers).await?;
    let mut john = Client::connect(&pod, &john).await?;
    for request in [
        json!({ "type": "join" }),
        json!({ "type": "join", "since": 0, "ordered": true }),
        json!({ "type": "message", "text": "let me in" }),
        json!({ "type": "message", "text": "let me in", "retry": true }),
    ] {
        let mut said = Vec::new();
        for channel in [hers, absent] {
            let mut request = request.clone();
            request["channel"] = json!(channel);
            let mut reply = john.request(request).await?;
            assert_eq!(reply["error"]["code"], "channel_not_found", "{reply}");
            reply["reply_to"] = Value::Null;
            said.push(reply);
        }
        assert_eq!(said[0], said[1], "{request}");
    }
    // Leaving tells nothing either.
    for channel in [hers, absent] {
        let left = john
            .request(json!({ "type": "leave", "channel": channel }))
            .await?;
        assert_eq!(
            (&left["ok"], &left["channel"]),
            (&json!(true), &json!(channel))
        );
    }
    mary.say(hers, "ours").await?;
    mary.hears("ours").await?;
    assert_eq!(john.rest().await?, Vec::<Value>::new());
    assert_eq!(
        world.logged(hers).await?.len(),
        1,
        "nothing of his is in the log"
    );
    Ok(())
}

#[tokio::test]
async fn requests_of_a_socket_take_effect_in_order() -> anyhow::Result<()> {
    let world = World::new("order").await?;
    let pod = world.pod("edge-1", &[]).await?;
    let mary = world.caller("mary").await?;
    let channel = world.channel(&[&mary]).await?;
    let mut client = Client::connect(&pod, &mary).await?;
    // 100 sends, which is more than may be in flight, with a join in the middle, all in one go.
    let message =
        |n: usize| json!({ "type": "message", "id": n, "channel": channel, "text": n.to_string() });
    for n in 0..100 {
        if n == 50 {
            client
                .feed(&json!({ "type": "join", "id": "join", "channel": channel }))
                .await?;
        }
        client.feed(&message(n)).await?;
    }
    client
        .send(&json!({ "type": "ping", "id": "done" }))
        .await?;
    let mut seqs = Vec::new();
    for n in 0..100 {
        let reply = client.reply(&json!(n)).await?;
        assert_eq!(reply["ok"], true, "{reply}");
        seqs.push(reply["seq"].as_u64().expect("a seq"));
    }
    client.reply(&json!("done")).await?;
    assert!(seqs.is_sorted(), "{seqs:?}");
    let logged: Vec<u64> = world
        .logged(channel)
        .await?
        .iter()
        .map(|(seq, _)| seq.0)
        .collect();
    assert_eq!(logged, seqs);
    for n in 50..100 {
        client.hears(&n.to_string()).await?;
    }
    // Those that were on their way to the log when the join took effect.
    client.rest().await?;

    let left = client
        .request(json!({ "type": "leave", "channel": channel }))
        .await?;
    assert_eq!(left["ok"], true, "{left}");
    client.say(channel, "after the leave").await?;
    assert!(
        records(&client.rest().await?).is_empty(),
        "a member may speak without listening"
    );
    Ok(())
}

#[tokio::test]
async fn second_join_replaces_the_first_and_answers_it() -> anyhow::Result<()> {
    let world = World::new("second_join").await?;
    let pod = world.pod("edge-1", &[]).await?;
    let mary = world.caller("mary").await?;
    let channel = world.channel(&[&mary]).await?;
    let mut client = Client::connect(&pod, &mary).await?;
    client.say(channel, "one").await?;
    client.say(channel, "two").await?;
    world.store_log().await?;
    let first = client.join(channel).await?;
    let head = first["head"].as_u64().expect("a head");
    assert!(head > 0, "{first}");
    let again = client
        .request(json!({ "type": "join", "channel": channel, "since": 0 }))
        .await?;
    assert_eq!(
        (&again["ok"], &again["recovered"]),
        (&json!(true), &json!(true))
    );
    client.hears("one").await?;
    client.hears("two").await?;
    client.say(channel, "three").await?;
    client.hears("three").await?;
    let rest = client.rest().await?;
    assert!(
        records(&rest).is_empty(),
        "once joined, once heard: {rest:?}"
    );
    assert_eq!(
        pod.state().await?["feeds"][channel.to_string()]["listeners"],
        1
    );

    // Two at once, on a channel that is not open yet: both are answered, one way or the other,
    // and there is one listener.
    let other = world.channel(&[&mary]).await?;
    for id in ["a", "b"] {
        client
            .feed(&json!({ "type": "join", "id": id, "channel": other }))
            .await?;
    }
    let a = client.ask(json!({ "type": "ping" })).await?;
    client.reply(&json!(a)).await?;
    let (a, b) = (
        client.reply(&json!("a")).await?,
        client.reply(&json!("b")).await?,
    );
    assert_eq!(b["ok"], true, "{b}");
    if a["ok"] == false {
        assert_eq!(a["error"]["code"], "invalid_field", "{a}");
    }
    assert_eq!(
        pod.state().await?["feeds"][other.to_string()]["listeners"],
        1
    );
    Ok(())
}

#[tokio::test]
async fn text_of_16_kib_is_taken_to_the_byte() -> anyhow::Result<()> {
    let world = World::new("text").await?;
    let pod = world.pod("edge-1", &[]).await?;
    let mary = world.caller("mary").await?;
    let channel = world.channel(&[&mary]).await?;
    let mut client = Client::connect(&pod, &mary).await?;
    client.join(channel).await?;
    // Bytes of UTF-8, not characters: the last one has four.
    let fits = format!("{}\u{1F600}", "\u{e9}".repeat(8_190));
    assert_eq!(fits.len(), 16 * 1024);
    client.say(channel, &fits).await?;
    client.hears(&fits).await?;
    let over = format!("{fits}x");
    let said = client
        .request(json!({ "type": "message", "channel": channel, "text": over }))
        .await?;
    assert_eq!(said["error"]["code"], "text_too_long", "{said}");
    // What JSON must escape comes back as it went.
    let odd = "\u{1}\u{7f}\u{2028}\u{feff}\"\\/\n\r\t\u{202e}e\u{301}\u{1F469}\u{200D}\u{1F680}";
    client.say(channel, odd).await?;
    client.hears(odd).await?;
    Ok(())
}
