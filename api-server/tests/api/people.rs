//! What people do beside talking: change what was said, answer in threads, mark, be somebody.
use hubbub_protocol::{
    ListeningSocket, PresenceState, Record, UserPresence,
    http::{ChannelKind, DeliveryStatus, MessagePage, MessageStatus, Receipts, Role, Unread},
};
use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    membership::Pod,
    support::{Caller, World, eventually},
};

/// Sends a change and gives status and error code (or nothing).
async fn change(
    world: &World,
    method: Method,
    path: &str,
    who: &Caller,
    body: Option<Value>,
) -> anyhow::Result<(u16, Option<String>)> {
    let (status, answer) = world.send(method, path, Some(who), body.as_ref()).await?;
    let code = answer["error"]["code"].as_str().map(str::to_owned);
    if let Some(code) = &code {
        let rejected = answer["error"]["outcome"] == "rejected";
        assert!(rejected || code == "rate_limited", "{answer}");
    }
    Ok((status, code))
}

#[tokio::test]
async fn history_shows_the_latest_version_and_the_earlier_ones_on_request() -> anyhow::Result<()> {
    let world = World::new("latest_version").await?;
    let (mary, john) = (world.caller("mary").await?, world.caller("john").await?);
    let mike = world.caller("mike").await?;
    let channel = world
        .channel(ChannelKind::Private, &mary, &[&john, &mike])
        .await?;
    let seq = world
        .say(channel.id, &john, &json!({ "text": "helo" }))
        .await?;
    let message = format!("/channels/{}/messages/{seq}", channel.id);
    let text = |text: &str| Some(json!({ "text": text }));

    let edited = change(&world, Method::PATCH, &message, &john, text("hello")).await?;
    assert_eq!(edited, (200, None));
    world.consume().await?;
    let by_member = change(&world, Method::PATCH, &message, &mike, text("bye")).await?;
    assert_eq!(by_member, (403, Some("forbidden".to_owned())));
    let by_admin = change(&world, Method::PATCH, &message, &mary, text("hello!")).await?;
    assert_eq!(by_admin, (200, None));
    let thumb = format!("{message}/reactions/%2B1");
    for who in [&mike, &john, &mike] {
        assert_eq!(
            change(&world, Method::PUT, &thumb, who, None).await?,
            (200, None)
        );
    }
    let options = Some(json!({ "client_msg_id": "00000000-0000-0000-0000-00000000000a" }));
    let taken = change(&world, Method::DELETE, &thumb, &john, options).await?;
    assert_eq!(taken, (200, None));
    world.consume().await?;

    let at = |query: &str| format!("/channels/{}/messages{query}", channel.id);
    let (_, page) = world.get(&at("?versions=1"), &mike).await?;
    let shown = &page["messages"][0];
    assert_eq!(shown["text"], "hello!");
    assert_eq!(shown["edited"]["user"], json!(mary.id()));
    assert_eq!(
        shown["reactions"],
        json!([{ "reaction": "+1", "users": [mike.id()] }])
    );
    let versions = shown["versions"].as_array().expect("versions");
    let said: Vec<_> = versions.iter().map(|v| (&v["text"], &v["user"])).collect();
    let (first, second) = (json!("helo"), json!("hello"));
    let author = json!(john.id());
    assert_eq!(said, [(&first, &author), (&second, &author)]);
    let (_, page) = world.get(&at(""), &mike).await?;
    assert_eq!(page["messages"].as_array().map(Vec::len), Some(1));
    assert_eq!(page["messages"][0]["versions"], Value::Null);
    let (_, page) = world.get(&at("?records=1"), &mike).await?;
    let parsed: MessagePage = serde_json::from_value(page.clone())?;
    let kinds: Vec<_> = page["messages"]
        .as_array()
        .expect("records")
        .iter()
        .map(|record| record["type"].as_str().unwrap_or_default())
        .collect();
    let expected = [
        "message",
        "message_changed",
        "message_changed",
        "reaction_added",
        "reaction_added",
        "reaction_added",
        "reaction_removed",
    ];
    assert_eq!(kinds, expected);
    assert_eq!(parsed.messages.len(), expected.len());

    let deleted = change(&world, Method::DELETE, &message, &john, None).await?;
    assert_eq!(deleted, (200, None));
    world.consume().await?;
    let (_, page) = world.get(&at("?records=1&versions=1"), &mike).await?;
    assert_eq!(page["messages"][0]["deleted"], true);
    let all = page.to_string();
    assert!(
        !all.contains("hel"),
        "nothing of it can be read any more: {all}"
    );
    for (method, path, body) in [
        (Method::PATCH, &message, text("again")),
        (Method::DELETE, &message, None),
        (Method::PUT, &thumb, None),
    ] {
        let gone = change(&world, method, path, &john, body).await?;
        assert_eq!(gone, (404, Some("message_not_found".to_owned())));
    }
    Ok(())
}

#[tokio::test]
async fn what_cannot_be_changed_is_said_to_be_rejected() -> anyhow::Result<()> {
    let world = World::new("not_changed").await?;
    let mary = world.caller("mary").await?;
    let channel = world.channel(ChannelKind::Private, &mary, &[]).await?;
    let seq = world
        .say(channel.id, &mary, &json!({ "text": "hi" }))
        .await?;
    let at = |rest: &str| format!("/channels/{}/messages/{rest}", channel.id);
    let hi = || Some(json!({ "text": "x" }));
    for (method, path, body, expected) in [
        (Method::PATCH, at("0"), hi(), (400, "invalid_field")),
        (Method::PATCH, at("x"), hi(), (400, "invalid_field")),
        (
            Method::PATCH,
            at(&seq.to_string()),
            None,
            (415, "unsupported_media_type"),
        ),
        (
            Method::PATCH,
            at(&seq.to_string()),
            Some(json!({})),
            (400, "missing_field"),
        ),
        (
            Method::PATCH,
            at(&(seq + 9).to_string()),
            hi(),
            (503, "not_stored_yet"),
        ),
        (
            Method::PUT,
            at(&format!("{seq}/reactions/a%20b")),
            None,
            (400, "invalid_field"),
        ),
        (
            Method::PUT,
            at(&format!("{seq}/reactions/{}", "x".repeat(65))),
            None,
            (400, "invalid_field"),
        ),
        (
            Method::DELETE,
            at(&seq.to_string()),
            Some(json!({ "retry": 7 })),
            (400, "invalid_field"),
        ),
    ] {
        let what = format!("{method} {path}");
        let (status, code) = change(&world, method, &path, &mary, body).await?;
        assert_eq!(
            (status, code.as_deref()),
            (expected.0, Some(expected.1)),
            "{what}"
        );
    }
    let untyped = world
        .request(Method::DELETE, &at(&seq.to_string()), Some(&mary))
        .body("x");
    assert_eq!(untyped.send().await?.status(), 415);
    Ok(())
}

#[tokio::test]
async fn threads_are_read_page_by_page() -> anyhow::Result<()> {
    let world = World::new("threads").await?;
    let (mary, john) = (world.caller("mary").await?, world.caller("john").await?);
    let channel = world.channel(ChannelKind::Public, &mary, &[&john]).await?;
    let root = world
        .say(channel.id, &mary, &json!({ "text": "who is in?" }))
        .await?;
    world
        .say(channel.id, &mary, &json!({ "text": "something else" }))
        .await?;
    let mut replies = Vec::new();
    for n in 0..5 {
        let who = if n % 2 == 0 { &john } else { &mary };
        let body = json!({ "text": format!("reply {n}"), "thread": root });
        replies.push(world.say(channel.id, who, &body).await?);
    }
    let at = |rest: &str| format!("/channels/{}/messages{rest}", channel.id);
    let (_, page) = world.get(&at(""), &john).await?;
    let summary = &page["messages"][0]["replies"];
    assert_eq!(summary["count"], 5);
    assert_eq!(summary["last_seq"], json!(replies[4]));
    assert_eq!(summary["users"], json!([john.id(), mary.id()]));
    assert_eq!(page["messages"][2]["thread"], json!(root));

    let mut seen = Vec::new();
    let mut after = 0;
    loop {
        let path = at(&format!("/{root}/replies?limit=2&after={after}"));
        let (status, page) = world.get(&path, &john).await?;
        assert_eq!(
            (status, &page["root"]["seq"]),
            (200, &json!(root)),
            "{page}"
        );
        for reply in page["messages"].as_array().expect("replies") {
            after = reply["seq"].as_u64().expect("a seq");
            seen.push(after);
        }
        if page["has_more"] == false {
            break;
        }
    }
    assert_eq!(seen, replies);

    let nested = json!({ "text": "x", "thread": replies[0] });
    let (status, body) = world
        .send(Method::POST, &at(""), Some(&john), Some(&nested))
        .await?;
    assert!((400..500).contains(&status), "{body}");
    assert_eq!(body["error"]["outcome"], "rejected", "{body}");
    let (status, body) = world.get(&at("/999/replies"), &john).await?;
    assert_eq!(
        (status, &body["error"]["code"]),
        (404, &json!("message_not_found"))
    );
    Ok(())
}

#[tokio::test]
async fn direct_channel_is_the_same_whoever_starts() -> anyhow::Result<()> {
    let world = World::new("direct").await?;
    let (mary, john) = (world.caller("mary").await?, world.caller("john").await?);
    let open = async |from: &Caller, to: Value| {
        let body = json!({ "user": to });
        world
            .send(Method::POST, "/direct", Some(from), Some(&body))
            .await
    };
    let (status, first) = open(&mary, json!(john.id())).await?;
    assert_eq!(status, 200, "{first}");
    let id = first["channel"].as_str().expect("an id").to_owned();
    assert!(id.starts_with('D'), "{id}");
    for (from, to) in [(&mary, &john), (&john, &mary)] {
        assert_eq!(open(from, json!(to.id())).await?, (200, first.clone()));
        let (_, listed) = world.get("/channels", from).await?;
        let channel = &listed["items"][0];
        assert_eq!(
            (&channel["id"], &channel["with"]),
            (&json!(id), &json!(to.id()))
        );
        assert_eq!(
            (&channel["kind"], &channel["name"]),
            (&json!("direct"), &Value::Null)
        );
    }
    let (_, own) = open(&mary, json!(mary.id())).await?;
    assert_ne!(own, first, "a channel with oneself");
    for (to, expected) in [
        (json!("U00000ZZZZ"), (404, "user_not_found")),
        (json!("x"), (400, "invalid_field")),
        (Value::Null, (400, "missing_field")),
    ] {
        let (status, body) = open(&mary, to).await?;
        assert_eq!(
            (status, body["error"]["code"].as_str()),
            (expected.0, Some(expected.1))
        );
    }
    // Of the two letters only the right one names it.
    let wrong = format!("/channels/C{}/messages", &id[1..]);
    assert_eq!(world.get(&wrong, &mary).await?.0, 404);
    Ok(())
}

#[tokio::test]
async fn marks_become_receipts_and_status_and_unread_counts() -> anyhow::Result<()> {
    let world = World::new("receipts").await?;
    let (mary, john) = (world.caller("mary").await?, world.caller("john").await?);
    let body = json!({ "user": john.id() });
    let (_, direct) = world
        .send(Method::POST, "/direct", Some(&mary), Some(&body))
        .await?;
    let channel: hubbub_protocol::ChannelId = serde_json::from_value(direct["channel"].clone())?;
    let mut seqs = Vec::new();
    for n in 0..3 {
        let body = json!({ "text": format!("message {n}") });
        seqs.push(world.say(channel, &mary, &body).await?);
    }
    let status = async |seq: u64| -> anyhow::Result<Vec<_>> {
        let path = format!("/channels/{channel}/messages/{seq}/status");
        let (code, body) = world.get(&path, &mary).await?;
        anyhow::ensure!(code == 200, "{body}");
        let status: MessageStatus = serde_json::from_value(body)?;
        let johns = status.devices.into_iter().filter(|d| d.user == john.id());
        Ok(johns
            .map(|d| (d.device.map(|d| d.to_string()), d.status))
            .collect())
    };
    use DeliveryStatus::{Delivered, Read, Sent};
    assert_eq!(status(seqs[0]).await?, [(None, Sent)]);
    assert_eq!(status(seqs[2] + 50).await?, [(None, DeliveryStatus::None)]);

    let mark = async |device: &str, body: Value| {
        let path = format!("/channels/{channel}/marks?device={device}");
        world
            .send(Method::PUT, &path, Some(&john), Some(&body))
            .await
    };
    let expected = json!({ "channel": channel });
    let phone = json!({ "delivered": seqs[1], "read": seqs[0] });
    assert_eq!(mark("phone", phone).await?, (200, expected.clone()));
    // Cursors never go back.
    assert_eq!(mark("phone", json!({ "read": 0 })).await?, (200, expected));
    world.consume().await?;
    let phone = || Some("phone".to_owned());
    assert_eq!(status(seqs[0]).await?, [(phone(), Read)]);
    assert_eq!(status(seqs[1]).await?, [(phone(), Delivered)]);
    assert_eq!(status(seqs[2]).await?, [(phone(), Sent)]);

    let (_, body) = world
        .get(&format!("/channels/{channel}/receipts"), &mary)
        .await?;
    let receipts: Receipts = serde_json::from_value(body)?;
    let cursors: Vec<_> = receipts
        .receipts
        .iter()
        .map(|r| (r.user, r.delivered.0, r.read.0))
        .collect();
    assert_eq!(cursors, [(john.id(), seqs[1], seqs[0])]);

    let unread = async |who: &Caller| -> anyhow::Result<Vec<(u64, u64)>> {
        let (_, body) = world.get("/unread", who).await?;
        let unread: Unread = serde_json::from_value(body)?;
        assert!(
            unread
                .channels
                .iter()
                .all(|c| c.channel == channel && c.last_ts_ms > 0)
        );
        let counts = unread.channels.iter().map(|c| (c.read.0, c.unread));
        Ok(counts.collect())
    };
    assert_eq!(unread(&john).await?, [(seqs[0], 2)]);
    mark("laptop", json!({ "read": seqs[2] })).await?;
    world.consume().await?;
    assert_eq!(unread(&john).await?, [(seqs[2], 0)]);

    for (path, body, expected) in [
        (
            "?device=a%2Fb",
            json!({ "read": 1 }),
            (400, "invalid_field"),
        ),
        ("", json!({ "read": 1 }), (400, "missing_field")),
        ("?device=a", json!({}), (400, "missing_field")),
        ("?device=a", json!({ "read": -1 }), (400, "invalid_field")),
        (
            "?device=a",
            json!({ "read": seqs[2] + 50 }),
            (503, "not_stored_yet"),
        ),
    ] {
        let path = format!("/channels/{channel}/marks{path}");
        let (status, answer) = world
            .send(Method::PUT, &path, Some(&john), Some(&body))
            .await?;
        let code = answer["error"]["code"].as_str();
        assert_eq!(
            (status, code),
            (expected.0, Some(expected.1)),
            "{path} {body}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn large_channel_shows_only_ones_own_cursors() -> anyhow::Result<()> {
    let world = World::new("large_channel").await?;
    let mary = world.caller("mary").await?;
    let channel = world.channel(ChannelKind::Public, &mary, &[]).await?;
    let mut members = Vec::new();
    for n in 0..50 {
        let member = world.caller(&format!("member {n}")).await?;
        world
            .store
            .add_member(channel.id, member.id(), Role::Member)
            .await?;
        members.push(member);
    }
    let seq = world
        .say(channel.id, &mary, &json!({ "text": "hi" }))
        .await?;
    for who in [&members[0], &members[1]] {
        let path = format!("/channels/{}/marks?device=d", channel.id);
        let body = json!({ "read": seq });
        let marked = world
            .send(Method::PUT, &path, Some(who), Some(&body))
            .await?;
        assert_eq!(marked.0, 200, "{}", marked.1);
    }
    world.consume().await?;
    let path = format!("/channels/{}/receipts", channel.id);
    let (_, body) = world.get(&path, &members[0]).await?;
    let receipts: Receipts = serde_json::from_value(body)?;
    let users: Vec<_> = receipts.receipts.iter().map(|r| r.user).collect();
    assert_eq!(users, [members[0].id()]);
    Ok(())
}

#[tokio::test]
async fn identity_is_ones_own_and_every_channel_is_told() -> anyhow::Result<()> {
    let world = World::new("identity").await?;
    let (mary, john) = (world.caller("mary").await?, world.caller("john").await?);
    let mut channels = Vec::new();
    for kind in [ChannelKind::Public, ChannelKind::Private] {
        channels.push(world.channel(kind, &mary, &[&john]).await?.id);
    }
    let patch = async |path: &str, who: &Caller, body: Value| {
        world
            .send(Method::PATCH, path, Some(who), Some(&body))
            .await
    };
    let own = format!("/users/{}", mary.id());
    let (status, changed) = patch(
        &own,
        &mary,
        json!({ "name": "Marie", "status": "at lunch" }),
    )
    .await?;
    assert_eq!(status, 200, "{changed}");
    assert_eq!(
        (&changed["name"], &changed["status"]),
        (&json!("Marie"), &json!("at lunch"))
    );
    assert_eq!(
        (&changed["announced"], &changed["channels"]),
        (&json!(2), &json!(2))
    );
    let version = changed["version"].as_i64().expect("a version");
    let told: Vec<_> = hubbub_log::read_all(&world.log)
        .await?
        .into_iter()
        .filter_map(|(_, logged)| Record::decode(&logged.payload?).ok())
        .filter_map(|record| match record {
            Record::Identity {
                channel,
                user,
                version,
                ..
            } => Some((channel, user, version)),
            _ => None,
        })
        .collect();
    assert_eq!(told.len(), 2);
    for channel in channels {
        assert!(told.contains(&(channel, mary.id(), version)), "{told:?}");
    }

    let (status, soon) = patch("/users/me", &mary, json!({ "name": "Maria" })).await?;
    assert_eq!(
        (status, &soon["error"]["code"]),
        (429, &json!("rate_limited")),
        "{soon}"
    );
    let (status, foreign) = patch(&own, &john, json!({ "name": "John" })).await?;
    assert_eq!(
        (status, &foreign["error"]["code"]),
        (403, &json!("forbidden"))
    );
    for bad in [
        json!({}),
        json!({ "name": "" }),
        json!({ "name": 7 }),
        json!({ "picture": "javascript:alert(1)" }),
        json!({ "status": "x".repeat(141) }),
    ] {
        let (status, body) = patch("/users/me", &john, bad.clone()).await?;
        assert_eq!(
            (status, &body["error"]["code"]),
            (400, &json!("invalid_field")),
            "{bad}"
        );
    }
    let ids = format!("/users?ids={},{},U00000ZZZZ", john.id(), mary.id());
    let (_, users) = world.get(&ids, &john).await?;
    let names: Vec<_> = users["users"]
        .as_array()
        .expect("users")
        .iter()
        .map(|u| &u["name"])
        .collect();
    assert_eq!(names, ["Marie", "john"]);
    Ok(())
}

#[tokio::test]
async fn who_is_here_is_asked_of_every_pod() -> anyhow::Result<()> {
    let world = World::new("who").await?;
    let (mary, john) = (world.caller("mary").await?, world.caller("john").await?);
    let name = "Maths & more";
    let channel = world
        .store
        .create_channel(name, ChannelKind::Private, mary.id())
        .await?;
    let (one, two) =
        tokio::try_join!(Pod::start(&world, "pod-one"), Pod::start(&world, "pod-two"))?;
    let socket = |n: u32, who: &Caller| ListeningSocket {
        socket: format!("s-{n}"),
        user: who.id(),
        device: "phone".parse().expect("a device"),
    };
    one.here.lock().sockets = vec![socket(1, &mary), socket(2, &john)];
    two.here.lock().sockets = vec![socket(3, &mary)];
    let path = format!("/channels/{}/users", channel.id);
    // A pod that is busy for a quarter of a second is missing in an answer, and asked again.
    let until = async |path: &str, wanted: &dyn Fn(&Value) -> bool| {
        eventually(path, || async {
            let (status, body) = world.get(path, &mary).await.ok()?;
            (status == 200 && wanted(&body)).then_some(body)
        })
        .await
    };
    let body = until(&path, &|body| body["complete"] == true).await?;
    assert_eq!(body["missing"], json!([]));
    let mut sockets: Vec<_> = body["users"]
        .as_array()
        .expect("users")
        .iter()
        .map(|l| format!("{} {} {}", l["socket"], l["user"], l["pod"]))
        .collect();
    sockets.sort();
    let expected = [
        format!("\"s-1\" \"{}\" \"pod-one\"", mary.id()),
        format!("\"s-2\" \"{}\" \"pod-one\"", john.id()),
        format!("\"s-3\" \"{}\" \"pod-two\"", mary.id()),
    ];
    assert_eq!(sockets, expected);
    let three = |room: &Value| room.as_array().expect("a bare list").len() == 3;
    let room = until("/Maths%20%26%20more/users", &three).await?;
    let room = room.as_array().expect("a bare list");
    assert!(
        room.iter()
            .all(|r| r["id_socket"].is_string() && r["id_user"].is_string())
    );

    let presence = async |of: &Caller, state: &str, complete: bool| {
        let expected = json!({ "user": of.id(), "state": state, "complete": complete });
        let path = format!("/users/{}/presence", of.id());
        until(&path, &|body| *body == expected).await
    };
    let state = |user: &Caller, state| UserPresence {
        user: user.id(),
        state,
    };
    one.here.lock().states = vec![state(&mary, PresenceState::Away)];
    two.here.lock().states = vec![state(&mary, PresenceState::Active)];
    presence(&mary, "active", true).await?;
    presence(&john, "offline", true).await?;

    *two.answers.lock() = false;
    let without_two = |body: &Value| {
        assert_eq!(body["complete"], false, "{body}");
        body["missing"] == json!(["pod-two"])
    };
    let body = until(&path, &without_two).await?;
    assert_eq!(body["users"].as_array().map(Vec::len), Some(2));
    presence(&mary, "away", false).await?;
    Ok(())
}
