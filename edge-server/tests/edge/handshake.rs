use std::time::Duration;

use anyhow::Context;
use futures_util::future::try_join_all;
use hubbub_protocol::ErrorReply;
use serde_json::json;
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use crate::{
    client::Client,
    raw::{Raw, Upgrade},
    support::{Awake, LONG, ORIGIN, World, eventually, token_of},
};

#[tokio::test]
async fn refused_handshake_says_why_in_our_error_object() -> anyhow::Result<()> {
    let world = World::new("handshake").await?;
    let pod = world.pod("edge-1", &[]).await?;
    let mary = world.caller("mary").await?;
    let good = || Upgrade::new(&mary.token);
    let without = |name| good().without(name);
    let bearer = |token: &str| Upgrade::new(token);
    let truncated = &mary.token[..mary.token.len() - 2];
    let origin = |value: &str| good().with("Origin", value);
    let in_url =
        |name: &str| Upgrade::bare().line(&format!("GET /ws?{name}={} HTTP/1.1", mary.token));
    let cases = [
        ("no token", Upgrade::bare(), 401, "unauthorized"),
        (
            "a cookie",
            Upgrade::bare().with("Cookie", &mary.token),
            401,
            "unauthorized",
        ),
        ("no JWT", bearer("x.y.z"), 401, "unauthorized"),
        ("a truncated token", bearer(truncated), 401, "unauthorized"),
        (
            "an expired one",
            bearer(&token_of("mary", None, -60)),
            401,
            "unauthorized",
        ),
        (
            "an unknown subject",
            bearer(&token_of("nobody", None, 60)),
            401,
            "unauthorized",
        ),
        (
            "64 KiB of token",
            bearer(&"x".repeat(9_000)),
            401,
            "unauthorized",
        ),
        ("a token in the URL", in_url("token"), 401, "unauthorized"),
        (
            "another name for it",
            in_url("access_token"),
            401,
            "unauthorized",
        ),
        (
            "both",
            good().line(&format!("GET /ws?token={} HTTP/1.1", mary.token)),
            401,
            "unauthorized",
        ),
        (
            "two subprotocol tokens",
            Upgrade::bare().with("Sec-WebSocket-Protocol", "bearer.a, bearer.b"),
            401,
            "unauthorized",
        ),
        (
            "a foreign origin",
            origin("https://evil.com"),
            403,
            "forbidden",
        ),
        ("the null origin", origin("null"), 403, "forbidden"),
        (
            "a longer origin",
            origin(&format!("{ORIGIN}.evil.com")),
            403,
            "forbidden",
        ),
        (
            "two origins",
            origin(ORIGIN).with("Origin", ORIGIN),
            403,
            "forbidden",
        ),
        (
            "two, the first foreign",
            origin("null").with("Origin", ORIGIN),
            403,
            "forbidden",
        ),
        (
            "another path",
            good().line("GET /wss HTTP/1.1"),
            404,
            "not_found",
        ),
        ("the root", good().line("GET / HTTP/1.1"), 404, "not_found"),
        (
            "another method",
            good().line("POST /ws HTTP/1.1"),
            405,
            "method_not_allowed",
        ),
        ("no upgrade", without("Upgrade"), 426, "invalid_field"),
        (
            "no connection header",
            without("Connection"),
            426,
            "invalid_field",
        ),
        (
            "another upgrade",
            without("Upgrade").with("Upgrade", "h2c"),
            426,
            "invalid_field",
        ),
        (
            "an old version",
            without("Sec-WebSocket-Version").with("Sec-WebSocket-Version", "8"),
            426,
            "invalid_field",
        ),
        (
            "HTTP/1.0",
            good().line("GET /ws HTTP/1.0"),
            426,
            "invalid_field",
        ),
        ("no key", without("Sec-WebSocket-Key"), 400, "invalid_field"),
        (
            "a short key",
            without("Sec-WebSocket-Key").with("Sec-WebSocket-Key", "c2hvcnQ="),
            400,
            "invalid_field",
        ),
        (
            "no device name",
            good().line("GET /ws?device=a%20b HTTP/1.1"),
            400,
            "invalid_field",
        ),
    ];
    for (what, upgrade, status, code) in cases {
        let (_, answer) = upgrade.answer(pod.addr).await.context(what)?;
        assert_eq!(answer.status, status, "{what}: {answer:?}");
        assert_eq!(
            answer.header("content-type"),
            Some("application/json"),
            "{what}"
        );
        let reply: ErrorReply = serde_json::from_value(answer.body.clone()).context(what)?;
        assert_eq!(reply.error.code.as_str(), code, "{what}");
        assert!(!reply.error.retryable, "{what}: {answer:?}");
        assert!(!answer.head.contains("bearer."), "{what}: {answer:?}");
        match status {
            426 => assert_eq!(answer.header("sec-websocket-version"), Some("13"), "{what}"),
            405 => assert_eq!(answer.header("allow"), Some("GET"), "{what}"),
            _ => {}
        }
    }
    // hyper's own refusals have no body, and take no upgrade either.
    for bad in [
        "GET /ws HTTP/1.1\r\nbad header\r\n\r\n",
        "\x16\x03\x01\x02\r\n\r\n",
    ] {
        let mut raw = Raw::connect(pod.addr).await?;
        raw.send(bad.as_bytes()).await?;
        assert_eq!(raw.answer().await?.status, 400, "{bad:?}");
    }
    let long = Upgrade::new(&mary.token).with("X-Long", &"x".repeat(20_000));
    let mut raw = Raw::connect(pod.addr).await?;
    raw.send(&long.bytes()).await?;
    assert_eq!(raw.answer().await?.status, 431);
    assert_eq!(pod.state().await?["sockets"], 0);
    Ok(())
}

#[tokio::test]
async fn token_is_taken_from_either_header_and_never_echoed() -> anyhow::Result<()> {
    let world = World::new("token").await?;
    let pod = world.pod("edge-1", &[]).await?;
    let mary = world.caller("mary").await?;
    let offered = |value: &str| Upgrade::bare().with("Sec-WebSocket-Protocol", value);
    let token = &mary.token;
    for (what, upgrade, selected) in [
        ("by header", Upgrade::new(token), None),
        (
            "by header, from a browser",
            Upgrade::new(token).by_a_browser(),
            None,
        ),
        (
            "by header, hubbub.v1 offered",
            Upgrade::new(token).with("Sec-WebSocket-Protocol", "hubbub.v1"),
            Some("hubbub.v1"),
        ),
        (
            "by subprotocol",
            offered(&format!("hubbub.v1, bearer.{token}")),
            Some("hubbub.v1"),
        ),
        (
            "the other way round",
            offered(&format!("bearer.{token},hubbub.v1")),
            Some("hubbub.v1"),
        ),
        (
            "from a browser",
            offered(&format!("hubbub.v1, bearer.{token}")).by_a_browser(),
            Some("hubbub.v1"),
        ),
        (
            "without hubbub.v1",
            offered(&format!("bearer.{token}")),
            None,
        ),
    ] {
        let (mut raw, answer) = upgrade.answer(pod.addr).await.context(what)?;
        assert_eq!(answer.status, 101, "{what}: {answer:?}");
        assert_eq!(answer.header("sec-websocket-protocol"), selected, "{what}");
        // The example of RFC 6455, 1.3.
        let accept = Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!(answer.header("sec-websocket-accept"), accept, "{what}");
        assert_eq!(answer.header("sec-websocket-extensions"), None, "{what}");
        assert!(!answer.head.contains(token), "{what}: {answer:?}");
        let (_, hello) = raw.frame().await?.context("a hello")?;
        let hello = String::from_utf8(hello)?;
        assert!(hello.contains(&mary.id().to_string()), "{what}: {hello}");
        assert!(!hello.contains(token), "{what}: {hello}");
    }
    let compressed = Upgrade::new(token).with("Sec-WebSocket-Extensions", "permessage-deflate");
    let (_, answer) = compressed.answer(pod.addr).await?;
    assert_eq!(answer.status, 101);
    assert_eq!(
        answer.header("sec-websocket-extensions"),
        None,
        "no extension"
    );
    Ok(())
}

#[tokio::test]
async fn hello_names_the_device_of_the_claim_then_of_the_query_then_a_random_one()
-> anyhow::Result<()> {
    let world = World::new("device").await?;
    let flags = ["--heartbeat-ms=5000", "--region=north"];
    let pod = world.pod("edge-7", &flags).await?;
    let mary = world.caller("mary").await?;
    let hello = async |path: &str, token: &str| -> anyhow::Result<_> {
        let mut request = format!("ws://{}{path}", pod.addr).into_client_request()?;
        let bearer = format!("Bearer {token}").parse()?;
        request.headers_mut().insert("authorization", bearer);
        let tcp = tokio::net::TcpStream::connect(pod.addr).await?;
        Ok(Client::upgrade(tcp, request).await?.hello)
    };
    let claimed = token_of("mary", Some("phone"), 60);
    let first = hello("/ws?device=tablet", &claimed).await?;
    assert_eq!(first.device.as_str(), "phone", "the issuer's word counts");
    assert_eq!((first.user, first.pod.as_str()), (mary.id(), "edge-7"));
    assert_eq!(
        (first.region.as_str(), first.heartbeat_ms),
        ("north", 5_000)
    );
    assert_eq!(first.max_frame_bytes, 65_536);
    let second = hello("/ws?x=1&device=tablet", &mary.token).await?;
    assert_eq!(second.device.as_str(), "tablet");
    let third = hello("/ws", &mary.token).await?;
    let fourth = hello("/ws", &mary.token).await?;
    assert_ne!(third.device, fourth.device, "random ones differ");
    let ids = [&first, &second, &third, &fourth].map(|hello| &hello.connection_id);
    assert!(ids.iter().all(|id| id.starts_with("edge-7-")), "{ids:?}");
    Ok(())
}

#[tokio::test]
async fn unknown_subject_becomes_a_user_where_that_is_allowed() -> anyhow::Result<()> {
    let world = World::new("provision").await?;
    let pod = world.pod("edge-1", &["--provision-users"]).await?;
    let first = Client::open(pod.addr, &token_of("newcomer", None, 60)).await?;
    let user = world
        .store
        .user_by_subject("newcomer")
        .await?
        .context("a user")?;
    assert_eq!(first.hello.user, user.id);
    let second = Client::open(pod.addr, &token_of("newcomer", None, 60)).await?;
    assert_eq!(second.hello.user, user.id, "one subject, one user");
    Ok(())
}

#[tokio::test]
async fn core_that_is_away_refuses_newcomers_and_lets_known_ones_in() -> anyhow::Result<()> {
    let world = World::new("core_away").await?;
    let pod = world.pod("edge-1", &[]).await?;
    let (mary, john) = (world.caller("mary").await?, world.caller("john").await?);
    drop(Client::connect(&pod, &mary).await?);
    world.core.go_down();
    let (_, answer) = Upgrade::new(&john.token).answer(pod.addr).await?;
    assert_eq!(answer.status, 503, "{answer:?}");
    assert_eq!(answer.body["error"]["code"], "core_unavailable");
    assert_eq!(answer.body["error"]["retryable"], true);
    assert_eq!(answer.header("retry-after"), Some("1"));
    Client::connect(&pod, &mary).await?;
    world.core.heal();
    eventually("john comes in", async || {
        Client::connect(&pod, &john).await.ok()
    })
    .await?;
    Ok(())
}

#[tokio::test]
async fn slow_loris_is_cut_after_five_seconds() -> anyhow::Result<()> {
    let world = World::new("loris").await?;
    let pod = world.pod("edge-1", &[]).await?;
    let mary = world.caller("mary").await?;
    let request = Upgrade::new(&mary.token).bytes();
    let (begun, awake) = (Instant::now(), Awake::start());
    let now = || (begun.elapsed(), awake.elapsed());
    let cut = async |first: &[u8], drip: &[u8]| -> anyhow::Result<(Duration, Duration)> {
        let mut raw = Raw::connect(pod.addr).await?;
        raw.send(first).await?;
        for byte in drip {
            // Waits for the end, or for the time of the next drop.
            tokio::select! {
                ended = raw.end() => {
                    ended?;
                    return Ok(now());
                }
                () = tokio::time::sleep(Duration::from_millis(200)) => {}
            }
            if raw.send(&[*byte]).await.is_err() {
                return Ok(now());
            }
        }
        raw.end().await?;
        Ok(now())
    };
    let healthy = async {
        Client::connect(&pod, &mary).await?;
        anyhow::Ok(begun.elapsed())
    };
    let (silent, partial, dripping, healthy) = tokio::try_join!(
        cut(b"", b""),
        cut(&request[..40], b""),
        cut(&request[..1], &request[1..]),
        healthy,
    )?;
    for (what, (took, seen)) in [
        ("silent", silent),
        ("partial", partial),
        ("dripping", dripping),
    ] {
        assert!(took.as_secs_f64() >= 4.5, "{what}: {took:?}");
        assert!(seen.as_secs_f64() < 7.0, "{what}: {seen:?}");
        assert!(healthy < took, "{what}: {healthy:?} and {took:?}");
    }
    Ok(())
}

#[tokio::test]
async fn full_pod_answers_503_until_somebody_leaves() -> anyhow::Result<()> {
    let world = World::new("full").await?;
    let pod = world.pod("edge-1", &["--max-connections=3"]).await?;
    let mary = world.caller("mary").await?;
    let mut here = Vec::new();
    for _ in 0..3 {
        here.push(Client::connect(&pod, &mary).await?);
    }
    let upgrade = Upgrade::new(&mary.token);
    let refused = try_join_all((0..20).map(|_| upgrade.answer(pod.addr))).await?;
    for (_, answer) in refused {
        assert_eq!(answer.status, 503, "{answer:?}");
        assert_eq!(answer.body["error"]["code"], "overloaded");
        assert_eq!(answer.body["error"]["retry_after_ms"], json!(2_000));
        assert_eq!(answer.header("retry-after"), Some("2"));
    }
    let first = &mut here[0];
    first.request(json!({ "type": "ping" })).await?;
    drop(here.pop());
    let again = eventually("room", async || Client::connect(&pod, &mary).await.ok());
    tokio::time::timeout(LONG, again).await??;
    Ok(())
}
