use std::time::Duration;

use hubbub_protocol::{ChannelId, Record, RecordKind};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::{
    client::Client,
    support::{OnBus, RunningPod, World, eventually},
};

fn about(kind: &str, channel: ChannelId, target: &Value, more: Value) -> Value {
    let mut request = json!({ "type": kind, "channel": channel, "target": target });
    for (key, value) in more.as_object().into_iter().flatten() {
        request[key] = value.clone();
    }
    request
}

/// How often the pod has looked for the message of a change.
async fn looks(world: &World, pod: &RunningPod) -> anyhow::Result<f64> {
    let mut looks = 0.0;
    for shard in 0..world.env.shard_urls.len() {
        let call = format!("database=\"shard-{shard}\",query=\"messages.target\",outcome=\"ok\"");
        looks += pod.metric(&format!("store_calls_total{{{call}}}")).await?;
    }
    Ok(looks)
}

#[tokio::test]
async fn changes_go_through_the_log_to_everybody_who_listens() -> anyhow::Result<()> {
    let world = World::new("changes").await?;
    let (a, b) = tokio::try_join!(world.pod("edge-a", &[]), world.pod("edge-b", &[]))?;
    let (mary, john) = (world.caller("mary").await?, world.caller("john").await?);
    let (mary_id, john_id) = (json!(mary.id()), json!(john.id()));
    let channel = world.channel(&[&mary, &john]).await?;
    let mut mary = Client::connect(&a, &mary).await?;
    let mut john = Client::connect(&b, &john).await?;
    mary.join(channel).await?;
    john.join(channel).await?;
    let said = mary.say(channel, "frist").await?;
    let target = said["seq"].clone();
    world.store_log().await?;

    let edit = about("edit", channel, &target, json!({ "text": "first" }));
    let edited = mary.request(edit).await?;
    assert_eq!(edited["ok"], true, "{edited}");
    assert!(
        edited["seq"].as_u64() > target.as_u64(),
        "a seq of its own: {edited}"
    );
    let changed = john.of_type("message_changed").await?;
    assert_eq!(changed["target"], target);
    assert_eq!(
        (&changed["text"], &changed["user"]),
        (&json!("first"), &mary_id)
    );
    assert_eq!(changed["seq"], edited["seq"]);

    let like = about("reaction", channel, &target, json!({ "reaction": "+1" }));
    assert_eq!(john.request(like.clone()).await?["ok"], true);
    let added = mary.of_type("reaction_added").await?;
    assert_eq!(
        (&added["reaction"], &added["user"]),
        (&json!("+1"), &john_id)
    );
    let mut unlike = like;
    unlike["remove"] = json!(true);
    assert_eq!(john.request(unlike).await?["ok"], true);
    mary.of_type("reaction_removed").await?;

    let reply = json!({ "type": "message", "channel": channel, "text": "re", "thread": target });
    let replied = john.request(reply).await?;
    assert_eq!(replied["ok"], true, "{replied}");
    assert_eq!(mary.hears("re").await?["thread"], target);
    world.store_log().await?;
    // A thread has one level.
    let nested = json!({ "type": "message", "channel": channel, "text": "re re",
        "thread": replied["seq"] });
    let refused = mary.request(nested).await?;
    assert_eq!(refused["error"]["field"], "thread", "{refused}");
    assert_eq!(refused["error"]["outcome"], "rejected", "{refused}");

    // A plain member changes nothing of somebody else's; the channel's admin does.
    let foreign = about("edit", channel, &target, json!({ "text": "mine" }));
    let refused = john.request(foreign).await?;
    assert_eq!(refused["error"]["code"], "forbidden", "{refused}");
    let gone = mary
        .request(about("delete", channel, &replied["seq"], json!({})))
        .await?;
    assert_eq!(gone["ok"], true, "{gone}");
    assert_eq!(
        john.of_type("message_deleted").await?["target"],
        replied["seq"]
    );
    world.store_log().await?;
    let late = about(
        "edit",
        channel,
        &replied["seq"],
        json!({ "text": "too late" }),
    );
    let refused = john.request(late).await?;
    assert_eq!(refused["error"]["code"], "message_not_found", "{refused}");

    let logged = world.logged(channel).await?;
    let kinds: Vec<RecordKind> = logged.iter().map(|(_, record)| record.kind()).collect();
    use RecordKind::{Delete, Edit, Message, Reaction};
    assert_eq!(kinds, [Message, Edit, Reaction, Reaction, Message, Delete]);
    let admin: Vec<bool> = logged.iter().map(|(_, record)| record.as_admin()).collect();
    assert_eq!(admin, [false, false, false, false, false, true]);
    Ok(())
}

#[tokio::test]
async fn change_of_a_message_that_is_not_stored_waits_and_holds_up_nobody() -> anyhow::Result<()> {
    let world = World::new("not_stored").await?;
    let pod = world.pod("edge-1", &[]).await?;
    let mary = world.caller("mary").await?;
    let channel = world.channel(&[&mary]).await?;
    let mut mary = Client::connect(&pod, &mary).await?;
    mary.join(channel).await?;
    let target = mary.say(channel, "one").await?["seq"].clone();
    let begun = Instant::now();
    let edit = about("edit", channel, &target, json!({ "text": "two" }));
    let waits = mary.ask(edit.clone()).await?;
    mary.say(channel, "meanwhile").await?;
    assert!(
        begun.elapsed() < Duration::from_secs(2),
        "it held up another send"
    );
    let refused = mary.reply_to(waits).await?;
    assert_eq!(refused["error"]["code"], "not_stored_yet", "{refused}");
    assert_eq!(refused["error"]["retryable"], true, "{refused}");
    assert_eq!(refused["error"]["outcome"], "rejected", "{refused}");
    assert!(
        begun.elapsed() >= Duration::from_secs(2),
        "{:?}",
        begun.elapsed()
    );
    // Stored while it waits: done.
    let (batches, looked) = (world.read_log().await?, looks(&world, &pod).await?);
    let waits = mary.ask(edit).await?;
    eventually("it was looked for", async || {
        (looks(&world, &pod).await.ok()? > looked).then_some(())
    })
    .await?;
    world.store(batches).await?;
    let done = mary.reply_to(waits).await?;
    assert_eq!(done["ok"], true, "{done}");
    // A seq of another channel's record, below the head: no such message.
    world.store_log().await?;
    let none = about("delete", channel, &json!(done["seq"]), json!({}));
    let refused = mary.request(none).await?;
    assert_eq!(
        refused["error"]["code"], "message_not_found",
        "an edit is no message: {refused}"
    );
    Ok(())
}

#[tokio::test]
async fn resend_of_a_change_is_one_change() -> anyhow::Result<()> {
    let world = World::new("change_resent").await?;
    let pod = world.pod("edge-1", &[]).await?;
    let mary = world.caller("mary").await?;
    let channel = world.channel(&[&mary]).await?;
    let mut mary = Client::connect(&pod, &mary).await?;
    mary.join(channel).await?;
    let target = mary.say(channel, "one").await?["seq"].clone();
    world.store_log().await?;
    let id = "6f9619ff-8b86-4d01-b42d-00c04fc964ff";
    let delete = about("delete", channel, &target, json!({ "client_msg_id": id }));
    assert_eq!(mary.request(delete.clone()).await?["ok"], true);
    world.store_log().await?;
    let mut resent = delete.clone();
    resent["retry"] = json!(true);
    let again = mary.request(resent).await?;
    assert_eq!(again["ok"], true, "{again}");
    assert_eq!(
        (&again["seq"], again["fence"].is_u64()),
        (&Value::Null, true),
        "{again}"
    );
    world.store_log().await?;
    // Without the word that it is a resend, the message is gone.
    let refused = mary.request(delete).await?;
    assert_eq!(refused["error"]["code"], "message_not_found", "{refused}");
    let seq = hubbub_protocol::Seq(again["fence"].as_u64().expect("a seq"));
    let rows = world.store.rows(channel, &[seq]).await?;
    assert!(rows.is_empty(), "the copy is no row");
    Ok(())
}

#[tokio::test]
async fn removed_member_changes_nothing_more() -> anyhow::Result<()> {
    let world = World::new("change_evicted").await?;
    let pod = world.pod("edge-1", &[]).await?;
    let mut bus = OnBus::start(&world).await?;
    let (mary, john) = (world.caller("mary").await?, world.caller("john").await?);
    let channel = world.channel(&[&mary, &john]).await?;
    let john_id = john.id();
    let mut phone = Client::connect(&pod, &john).await?;
    phone.join(channel).await?;
    let target = phone.say(channel, "mine").await?["seq"].clone();
    let batches = world.read_log().await?;
    // It waits for the store when he is removed, and the store comes after.
    let waits = phone
        .ask(about(
            "edit",
            channel,
            &target,
            json!({ "text": "still mine" }),
        ))
        .await?;
    assert!(world.store.remove_member(channel, john_id).await?);
    bus.evict(channel, john_id).await?;
    world.store(batches).await?;
    let refused = phone.reply_to(waits).await?;
    assert_eq!(refused["error"]["code"], "channel_not_found", "{refused}");
    for (kind, more) in [
        ("edit", json!({ "text": "x" })),
        ("delete", json!({})),
        ("reaction", json!({ "reaction": "+1" })),
        ("typing", json!({})),
        ("mark", json!({ "read": 1 })),
    ] {
        let refused = phone.request(about(kind, channel, &target, more)).await?;
        assert_eq!(
            refused["error"]["code"], "channel_not_found",
            "{kind}: {refused}"
        );
    }
    let logged = world.logged(channel).await?;
    assert!(
        matches!(&logged[..], [(_, Record::Message { .. })]),
        "{logged:?}"
    );
    assert_eq!(world.marked(channel).await?, []);
    Ok(())
}
