//! A made-up Slack export that has every case.
use std::{io::Write, path::Path};

use serde_json::{Value, json};
use zip::{ZipWriter, write::SimpleFileOptions};

/// Messages that are carried from `general`.
pub(crate) const GENERAL: usize = 14;

fn day(second: u32, more: Value) -> Value {
    let mut message = json!({ "type": "message", "ts": format!("1355517{second:03}.000005") });
    message
        .as_object_mut()
        .expect("an object")
        .extend(more.as_object().expect("an object").clone());
    message
}

fn general() -> Value {
    json!([
        day(100, json!({ "user": "U1", "text": "hello <@U2>, see <#C2|random> &amp; <https://a.example|this>" })),
        day(101, json!({ "user": "U2", "text": "edited text", "edited": { "user": "U2", "ts": "1355517150.000000" } })),
        day(102, json!({ "user": "U2", "text": "reacted", "reactions": [
            { "name": "+1", "users": ["U1", "U2"], "count": 2 },
            { "name": "tada", "users": ["U1"], "count": 3 },
        ] })),
        day(103, json!({ "user": "U1", "text": "who is in?", "thread_ts": "1355517103.000005", "reply_count": 2 })),
        day(104, json!({ "user": "U2", "text": "me", "thread_ts": "1355517103.000005" })),
        day(105, json!({ "user": "U3", "text": "me too", "thread_ts": "1355517103.000005", "subtype": "thread_broadcast" })),
        day(106, json!({ "user": "U1", "text": "its thread was never exported", "thread_ts": "1300000000.000001" })),
        day(107, json!({ "subtype": "bot_message", "bot_id": "B1", "username": "deploys", "text": "",
            "attachments": [{ "title": "Build 7", "title_link": "https://ci.example/7", "text": "green" }] })),
        day(108, json!({ "user": "U1", "subtype": "me_message", "text": "waves" })),
        day(109, json!({ "user": "U1", "text": "", "files": [{ "title": "plan.pdf", "permalink": "https://files.example/1" }] })),
        day(110, json!({ "subtype": "tombstone", "user": "USLACKBOT", "text": "This message was deleted.", "thread_ts": "1355517110.000005" })),
        day(111, json!({ "user": "U2", "text": "below the deleted one", "thread_ts": "1355517110.000005" })),
        day(112, json!({ "user": "U4", "text": "somebody that users.json does not have" })),
        day(113, json!({ "user": "U1", "text": "second thoughts" })),
        day(114, json!({ "subtype": "message_changed", "message": { "ts": "1355517113.000005", "user": "U1", "text": "second thoughts" },
            "previous_message": { "ts": "1355517113.000005", "user": "U1", "text": "first thoughts" } })),
        // What is not carried.
        day(120, json!({ "user": "U1", "subtype": "channel_join", "text": "<@U1> has joined the channel" })),
        day(121, json!({ "user": "U1", "subtype": "channel_topic", "text": "set the topic" })),
        day(122, json!({ "user": "U1", "text": "" })),
        { "type": "message", "user": "U1", "text": "no time" },
        7,
        day(100, json!({ "user": "U1", "text": "hello <@U2>, see <#C2|random> &amp; <https://a.example|this>" })),
    ])
}

/// Writes the export; `many` is how many messages `random` has.
pub(crate) fn write(path: &Path, many: u32) {
    let file = std::fs::File::create(path).expect("a file");
    let mut zip = ZipWriter::new(file);
    let mut add = |name: &str, value: &Value| {
        zip.start_file(name, SimpleFileOptions::default())
            .expect("a file in the zip");
        zip.write_all(value.to_string().as_bytes())
            .expect("written");
    };
    add(
        "users.json",
        &json!([
            { "id": "U1", "name": "mary", "profile": { "display_name": "Mary", "email": "mary@a.example" } },
            { "id": "U2", "name": "john", "real_name": "John Smith", "profile": { "email": "john@a.example" } },
            { "id": "U3", "name": "frank", "deleted": true, "profile": {} },
        ]),
    );
    add(
        "channels.json",
        &json!([
            { "id": "C1", "name": "general", "creator": "U1", "members": ["U1", "U2"],
              "topic": { "value": "everything" }, "purpose": { "value": "" } },
            { "id": "C2", "name": "random", "creator": "U2", "members": ["U2"], "is_archived": true },
        ]),
    );
    add(
        "groups.json",
        &json!([{ "id": "G1", "name": "board", "creator": "U2", "members": ["U2", "U3"] }]),
    );
    add(
        "dms.json",
        &json!([{ "id": "D1", "members": ["U1", "U2"] }]),
    );
    add("general/2012-12-14.json", &general());
    let text = |n| json!({ "user": "U2", "text": format!("number {n}") });
    let random: Vec<_> = (0..many).map(|n| day(200 + n, text(n))).collect();
    let (first, second) = random.split_at(random.len() / 2);
    // Written the wrong way round: the order of the days counts.
    add("random/2012-12-15.json", &json!(second));
    add("random/2012-12-14.json", &json!(first));
    add(
        "board/2012-12-14.json",
        &json!([day(300, json!({ "user": "U3", "text": "secret" }))]),
    );
    add(
        "D1/2012-12-14.json",
        &json!([day(400, json!({ "user": "U1", "text": "just us" }))]),
    );
    add("left-over/2012-12-14.json", &json!([]));
    zip.finish().expect("a zip");
}
