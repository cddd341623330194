use hubbub_protocol::http::ChannelKind;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Caller, World, token_of};

/// What the matrix asks of one channel: every operation on it that needs a membership.
fn operations(channel: &str, other: &Caller) -> Vec<(Method, String, Option<Value>)> {
    let at = |rest: &str| format!("/channels/{channel}{rest}");
    vec![
        (Method::GET, at("/messages"), None),
        (Method::GET, at("/messages?before=5&limit=1"), None),
        (Method::GET, at("/messages?at_least=1"), None),
        (Method::POST, at("/messages"), Some(json!({ "text": "hi" }))),
        (
            Method::POST,
            at("/messages"),
            Some(json!({ "text": "hi", "thread": 1 })),
        ),
        (
            Method::PATCH,
            at("/messages/1"),
            Some(json!({ "text": "hi" })),
        ),
        (Method::DELETE, at("/messages/1"), None),
        (Method::PUT, at("/messages/1/reactions/x"), None),
        (Method::DELETE, at("/messages/1/reactions/x"), None),
        (Method::GET, at("/messages/1/replies"), None),
        (Method::GET, at("/messages/1/status"), None),
        (Method::GET, at("/messages?records=1&versions=1"), None),
        (Method::GET, at("/receipts"), None),
        (
            Method::PUT,
            at("/marks?device=d"),
            Some(json!({ "read": 1 })),
        ),
        (Method::GET, at("/users"), None),
        (Method::GET, at("/members"), None),
        (Method::PUT, at(&format!("/members/{}", other.id())), None),
        (
            Method::DELETE,
            at(&format!("/members/{}", other.id())),
            None,
        ),
        (Method::DELETE, at("/members/me"), None),
    ]
}

/// An absent channel and a foreign one are the same to everybody who does not belong to it.
#[tokio::test]
async fn foreign_and_absent_channels_look_alike() -> anyhow::Result<()> {
    let world = World::new("foreign_and_absent").await?;
    let (mary, john) = (world.caller("mary").await?, world.caller("john").await?);
    let (mike, frank) = (world.caller("mike").await?, world.caller("frank").await?);
    let mut channels = Vec::new();
    for kind in [
        ChannelKind::Public,
        ChannelKind::Private,
        ChannelKind::Direct,
    ] {
        let channel = world.channel(kind, &mary, &[&john, &mike]).await?;
        world.store_messages(channel.id, &mary, 3).await?;
        world.store.remove_member(channel.id, mike.id()).await?;
        channels.push(channel);
    }
    let absent = "C00000ZZZZ";
    for stranger in [&mike, &frank] {
        for channel in &channels {
            let here = operations(&channel.id.to_string(), &john);
            for ((method, path, body), (_, gone, _)) in
                here.into_iter().zip(operations(absent, &john))
            {
                let what = format!(
                    "{} {method} {path} ({:?})",
                    stranger.user.name, channel.kind
                );
                let foreign = world
                    .send(method.clone(), &path, Some(stranger), body.as_ref())
                    .await?;
                let absent = world
                    .send(method, &gone, Some(stranger), body.as_ref())
                    .await?;
                assert_eq!(foreign.0, 404, "{what}: {}", foreign.1);
                assert_eq!(foreign.1["error"]["code"], "channel_not_found", "{what}");
                assert_eq!(foreign, absent, "{what}");
            }
            let shown = world
                .get(&format!("/channels/{}", channel.id), stranger)
                .await?;
            if channel.kind == ChannelKind::Public {
                assert_eq!((shown.0, &shown.1["is_member"]), (200, &json!(false)));
            } else {
                let absent = world.get(&format!("/channels/{absent}"), stranger).await?;
                assert_eq!(shown, absent);
                assert_eq!(shown.0, 404);
                let name = channel.name.as_deref().unwrap_or("none of that name");
                let found = world
                    .get(&format!("/channels?name={name}"), stranger)
                    .await?;
                assert_eq!(found.1["items"], json!([]));
                let here = world.get(&format!("/{name}/users"), stranger).await?;
                let nowhere = world.get("/no%20such%20room/users", stranger).await?;
                assert_eq!((here.0, &here), (404, &nowhere));
            }
        }
        let listed = world.get("/channels", stranger).await?.1;
        let listed = listed["items"].as_array().expect("items");
        assert_eq!(listed.len(), 1, "{listed:?}");
        assert_eq!(listed[0]["kind"], "public");
    }
    Ok(())
}

#[tokio::test]
async fn members_read_and_send_and_admins_decide() -> anyhow::Result<()> {
    let world = World::new("members_and_admins").await?;
    let (mary, john) = (world.caller("mary").await?, world.caller("john").await?);
    let (mike, frank) = (world.caller("mike").await?, world.caller("frank").await?);
    for (kind, may_add) in [
        (ChannelKind::Public, 200),
        (ChannelKind::Private, 403),
        (ChannelKind::Direct, 403),
    ] {
        let channel = world.channel(kind, &mary, &[&john, &mike]).await?;
        let at = |rest: &str| format!("/channels/{}{rest}", channel.id);
        for path in [at("/messages"), at("/members"), at("")] {
            assert_eq!(world.get(&path, &john).await?.0, 200, "{kind:?} {path}");
        }
        let hi = json!({ "text": "hi" });
        let sent = world
            .send(Method::POST, &at("/messages"), Some(&john), Some(&hi))
            .await?;
        assert_eq!(sent.0, 201, "{kind:?} {}", sent.1);
        let add = at(&format!("/members/{}", frank.id()));
        let added = world.send(Method::PUT, &add, Some(&john), None).await?;
        assert_eq!(added.0, may_add, "{kind:?} {}", added.1);
        let remove = at(&format!("/members/{}", mike.id()));
        let removed = world
            .send(Method::DELETE, &remove, Some(&john), None)
            .await?;
        assert_eq!(removed.0, 403, "{kind:?} {}", removed.1);
        let removed = world
            .send(Method::DELETE, &remove, Some(&mary), None)
            .await?;
        let expected = if kind == ChannelKind::Direct {
            403
        } else {
            200
        };
        assert_eq!(removed.0, expected, "{kind:?} {}", removed.1);
        let me = at("/members/me");
        let left = world.send(Method::DELETE, &me, Some(&john), None).await?;
        assert_eq!(left.0, expected, "{kind:?} {}", left.1);
    }
    let private = world.channel(ChannelKind::Private, &mary, &[]).await?;
    let add = format!("/channels/{}/members/{}", private.id, frank.id());
    assert_eq!(
        world.send(Method::PUT, &add, Some(&mary), None).await?.0,
        200
    );
    let nobody = format!("/channels/{}/members/U00000ZZZZ", private.id);
    let added = world.send(Method::PUT, &nobody, Some(&mary), None).await?;
    assert_eq!(added.1["error"]["code"], "user_not_found");
    Ok(())
}

/// Without a good token every operation is 401, whatever the rest of the request is.
#[tokio::test]
async fn nobody_without_a_token_gets_anything() -> anyhow::Result<()> {
    let world = World::new("without_a_token").await?;
    let mary = world.caller("mary").await?;
    let channel = world.channel(ChannelKind::Public, &mary, &[]).await?;
    let id = channel.id.to_string();
    let mut all = operations(&id, &mary);
    all.push((Method::GET, "/channels".to_owned(), None));
    all.push((
        Method::POST,
        "/channels".to_owned(),
        Some(json!({ "name": "x" })),
    ));
    all.push((Method::GET, format!("/channels/{id}"), None));
    all.push((Method::GET, "/users/me".to_owned(), None));
    all.push((Method::GET, format!("/users/{}", mary.id()), None));
    all.push((Method::GET, format!("/users?ids={}", mary.id()), None));
    all.push((Method::GET, format!("/users/{}/presence", mary.id()), None));
    all.push((Method::GET, "/unread".to_owned(), None));
    all.push((Method::GET, "/Maths/users".to_owned(), None));
    let other = json!({ "user": mary.id() });
    all.push((Method::POST, "/direct".to_owned(), Some(other)));
    let status = json!({ "status": "x" });
    for path in ["/users/me".to_owned(), format!("/users/{}", mary.id())] {
        all.push((Method::PATCH, path, Some(status.clone())));
    }
    let with = |token: String| Caller {
        user: mary.user.clone(),
        token,
    };
    let bad = [
        with(token_of("mary", -120)),
        with(token_of("nobody has this subject", 60)),
        with("x.y.z".to_owned()),
        with(String::new()),
    ];
    for (method, path, body) in &all {
        let callers = bad.iter().map(Some).chain([None]);
        for caller in callers {
            let (status, answer) = world
                .send(method.clone(), path, caller, body.as_ref())
                .await?;
            assert_eq!(status, 401, "{method} {path} {caller:?}: {answer}");
            assert_eq!(answer["error"]["code"], "unauthorized");
        }
    }
    for query in ["token", "access_token"] {
        let path = format!("/users/me?{query}={}", mary.token);
        assert_eq!(world.get(&path, &mary).await?.0, 401, "{query}");
    }
    let twice = world
        .request(Method::GET, "/users/me", Some(&mary))
        .header("authorization", "Bearer x");
    assert_eq!(twice.send().await?.status(), 401);
    assert_eq!(world.get("/users/me", &mary).await?.0, 200);
    Ok(())
}

#[tokio::test]
async fn unknown_subjects_become_users_where_that_is_asked_for() -> anyhow::Result<()> {
    let world = World::with("provisioned", &["--provision-users"]).await?;
    let mary = world.caller("mary").await?;
    let new = Caller {
        user: mary.user.clone(),
        token: token_of("somebody new", 60),
    };
    let (status, me) = world.get("/users/me", &new).await?;
    assert_eq!((status, &me["name"]), (200, &json!("somebody new")));
    assert_ne!(me["id"], json!(mary.id()));
    assert_eq!(world.get("/users/me", &new).await?.1, me);
    Ok(())
}
