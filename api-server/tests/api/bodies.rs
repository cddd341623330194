use hubbub_protocol::http::ChannelKind;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::support::{LONG, ORIGIN, World, error, text};

#[tokio::test]
async fn bodies_have_limits_and_a_type() -> anyhow::Result<()> {
    let world = World::new("bodies").await?;
    let mary = world.caller("mary").await?;
    let channel = world.channel(ChannelKind::Private, &mary, &[]).await?;
    let messages = format!("/channels/{}/messages", channel.id);
    let post = |path: &str| world.request(Method::POST, path, Some(&mary));
    let json = "application/json";
    for path in [messages.as_str(), "/channels"] {
        let fits = format!("{{\"x\":\"{}\"}}", "y".repeat(65_536 - 8));
        assert_eq!(fits.len(), 65_536);
        let answer = post(path)
            .header("content-type", json)
            .body(fits.clone())
            .send()
            .await?;
        assert_eq!(answer.status(), 400, "it is read, and lacks its field");
        assert_eq!(error(&answer.json().await?).code.as_str(), "missing_field");

        let answer = post(path)
            .header("content-type", json)
            .body(fits + " ")
            .send()
            .await?;
        assert_eq!(answer.status(), 413);
        let body = error(&answer.json().await?);
        assert_eq!(
            (body.code.as_str(), body.limit),
            ("body_too_large", Some(65_536))
        );

        for media in [
            "text/plain",
            "application/x-www-form-urlencoded",
            "application/xml",
        ] {
            let answer = post(path)
                .header("content-type", media)
                .body("{}")
                .send()
                .await?;
            assert_eq!(answer.status(), 415, "{media}");
            assert_eq!(
                error(&answer.json().await?).code.as_str(),
                "unsupported_media_type"
            );
        }
        let untyped = post(path).body("{}").send().await?;
        assert_eq!(untyped.status(), 415);
        let gzip = post(path)
            .header("content-type", json)
            .header("content-encoding", "gzip")
            .body("{}");
        assert_eq!(gzip.send().await?.status(), 415);

        for bad in [
            "",
            "nonsense",
            "[1]",
            "\"text\"",
            "{\"text\":\"\\ud800\"}",
            "{\"a\":1",
        ] {
            let answer = post(path)
                .header("content-type", json)
                .body(bad)
                .send()
                .await?;
            assert_eq!(answer.status(), 400, "{bad}");
            let code = error(&answer.json().await?).code;
            assert!(
                ["invalid_json", "invalid_field"].contains(&code.as_str()),
                "{bad}: {code:?}"
            );
        }
        let deep = "[".repeat(60_000);
        let answer = post(path)
            .header("content-type", json)
            .body(deep)
            .send()
            .await?;
        assert_eq!(answer.status(), 400);
        let binary = post(path)
            .header("content-type", json)
            .body(vec![0xff, 0xfe, 0]);
        assert_eq!(binary.send().await?.status(), 400);
    }
    Ok(())
}

/// Without a length a body is counted while it is read.
#[tokio::test]
async fn endless_body_is_cut_off() -> anyhow::Result<()> {
    let world = World::new("endless_body").await?;
    let mary = world.caller("mary").await?;
    let addr = world.api.trim_start_matches("http://");
    let (mut from, mut to) = TcpStream::connect(addr).await?.into_split();
    let head = format!(
        "POST /channels HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\n\
         content-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n",
        mary.token
    );
    to.write_all(head.as_bytes()).await?;
    let endless = async {
        let chunk = format!("3e8\r\n{}\r\n", " ".repeat(1_000));
        while to.write_all(chunk.as_bytes()).await.is_ok() {}
        // The server has closed; the answer came before that.
        std::future::pending::<()>().await;
    };
    let answered = async {
        let mut answer = Vec::new();
        while !answer.ends_with(b"}}") {
            anyhow::ensure!(
                from.read_buf(&mut answer).await? > 0,
                "closed without an answer"
            );
        }
        Ok(String::from_utf8(answer)?)
    };
    let answer = tokio::select! {
        answer = tokio::time::timeout(LONG, answered) => answer??,
        () = endless => unreachable!("it goes on for ever"),
    };
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    assert!(answer.contains("body_too_large"), "{answer}");
    Ok(())
}

#[tokio::test]
async fn wrong_fields_of_a_send_are_named() -> anyhow::Result<()> {
    let world = World::new("wrong_fields").await?;
    let mary = world.caller("mary").await?;
    let channel = world.channel(ChannelKind::Private, &mary, &[]).await?;
    let messages = format!("/channels/{}/messages", channel.id);
    for (body, code, field, limit) in [
        (json!({ "text": 7 }), "invalid_field", "text", None),
        (json!({ "text": "" }), "invalid_field", "text", None),
        (json!({ "text": "a\u{0}b" }), "invalid_field", "text", None),
        (
            json!({ "text": "x".repeat(16_385) }),
            "text_too_long",
            "text",
            Some(16_384),
        ),
        (
            json!({ "text": "x", "client_msg_id": "7" }),
            "invalid_field",
            "client_msg_id",
            None,
        ),
        (
            json!({ "text": "x", "client_msg_id": 7 }),
            "invalid_field",
            "client_msg_id",
            None,
        ),
        (
            json!({ "text": "x", "retry": "yes" }),
            "invalid_field",
            "retry",
            None,
        ),
        (json!({}), "missing_field", "text", None),
    ] {
        let (status, answer) = world
            .send(Method::POST, &messages, Some(&mary), Some(&body))
            .await?;
        let error = error(&answer);
        assert_eq!((status, error.code.as_str()), (400, code), "{answer}");
        assert_eq!(
            (error.field.as_deref(), error.limit),
            (Some(field), limit),
            "{answer}"
        );
        let outcome = serde_json::to_value(error.outcome)?;
        assert_eq!(outcome, "rejected", "it never reached the log");
    }
    Ok(())
}

#[tokio::test]
async fn wrong_methods_and_addresses_are_the_same_error_object() -> anyhow::Result<()> {
    let world = World::new("wrong_methods").await?;
    let mary = world.caller("mary").await?;
    let document: Value = serde_json::from_str(
        &text(
            world
                .request(Method::GET, "/openapi.json", None)
                .send()
                .await?,
        )
        .await,
    )?;
    let paths = document["paths"].as_object().expect("paths");
    assert!(paths.len() >= 19, "{paths:?}");
    let all = [
        "GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD", "PURGE",
    ];
    for (path, item) in paths {
        let path = path
            .replace("{channel}", "C000000001")
            .replace("{user}", "U000000001")
            .replace("{seq}", "1")
            .replace("{reaction}", "x")
            .replace("{room}", "Maths");
        for name in all {
            let method = Method::from_bytes(name.as_bytes())?;
            let answer = world.request(method, &path, Some(&mary)).send().await?;
            let status = answer.status();
            if item.get(name.to_lowercase()).is_some() {
                assert_ne!(status, 405, "{name} {path}");
                continue;
            }
            assert_eq!(status, 405, "{name} {path}");
            let allow = answer.headers()["allow"].to_str()?.to_lowercase();
            let mut allowed: Vec<_> = allow.split(", ").collect();
            allowed.sort_unstable();
            let mut documented: Vec<_> = item.as_object().expect("an item").keys().collect();
            documented.sort_unstable();
            assert_eq!(allowed, documented, "{path}");
            if name != "HEAD" {
                assert_eq!(
                    error(&answer.json().await?).code.as_str(),
                    "method_not_allowed"
                );
            }
        }
    }
    for path in [
        "/",
        "/nothing",
        "/channels/C000000001/nothing",
        "/metrics",
        "/livez",
        "/..%2f",
    ] {
        let (status, body) = world.get(path, &mary).await?;
        assert_eq!(
            (status, &body["error"]["code"]),
            (404, &Value::from("not_found")),
            "{path}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn only_allowed_origins_may_call() -> anyhow::Result<()> {
    let world = World::new("origins").await?;
    let mary = world.caller("mary").await?;
    for foreign in [
        "null",
        "https://evil.example",
        "https://chat.example.com.evil.example",
    ] {
        for path in ["/users/me", "/openapi.json", "/nothing"] {
            let request = world
                .request(Method::GET, path, Some(&mary))
                .header("origin", foreign);
            let answer = request.send().await?;
            assert_eq!(answer.status(), 403, "{foreign} {path}");
            assert!(!answer.headers().contains_key("access-control-allow-origin"));
        }
    }
    let get = world
        .request(Method::GET, "/users/me", Some(&mary))
        .header("origin", ORIGIN);
    let answer = get.send().await?;
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["access-control-allow-origin"], ORIGIN);
    assert_eq!(answer.headers()["vary"], "origin");
    let failed = world
        .request(Method::GET, "/users/me", None)
        .header("origin", ORIGIN);
    let failed = failed.send().await?;
    assert_eq!(failed.status(), 401);
    assert_eq!(
        failed.headers()["access-control-allow-origin"],
        ORIGIN,
        "errors are read too"
    );

    let preflight = |path: &str, origin: &str| {
        world
            .request(Method::OPTIONS, path, None)
            .header("origin", origin)
            .header("access-control-request-method", "DELETE")
            .header("access-control-request-headers", "authorization")
    };
    let path = "/channels/C000000001/members/me";
    let answer = preflight(path, ORIGIN).send().await?;
    assert_eq!(answer.status(), 204);
    assert_eq!(
        answer.headers()["access-control-allow-methods"],
        "PUT, DELETE"
    );
    assert_eq!(
        answer.headers()["access-control-allow-headers"],
        "authorization, content-type, last-event-id"
    );
    assert_eq!(
        preflight(path, "https://evil.example")
            .send()
            .await?
            .status(),
        403
    );
    assert_eq!(preflight("/nothing", ORIGIN).send().await?.status(), 404);
    Ok(())
}
