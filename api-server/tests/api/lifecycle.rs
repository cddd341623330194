use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use hubbub_api_server::{Api, Config};
use hubbub_protocol::{Seq, http::ChannelKind};
use hubbub_service::{Lifecycle, OnError};
use hubbub_stack::{Proxy, TestEnv};
use reqwest::Method;
use serde_json::json;

use crate::support::{LONG, World, eventually, through};

#[tokio::test]
async fn drain_answers_what_is_under_way_and_ends_cleanly() -> anyhow::Result<()> {
    let mut world = World::new("drain").await?;
    let mary = world.caller("mary").await?;
    let channel = world.channel(ChannelKind::Private, &mary, &[]).await?;
    let stored = world.store_messages(channel.id, &mary, 1).await?;
    let messages = format!("/channels/{}/messages", channel.id);
    let waits = world
        .request(
            Method::GET,
            &format!("{messages}?at_least={}", Seq::MAX),
            Some(&mary),
        )
        .send();
    let metrics = format!("{}/metrics", world.ops);
    let readyz = format!("{}/readyz", world.ops);
    let drain = async {
        eventually("the request waits", || async {
            let text = reqwest::get(&metrics).await.ok()?.text().await.ok()?;
            text.lines()
                .find(|line| *line == "hubbub_api_waiters 1")
                .map(drop)
        })
        .await?;
        world.lifecycle.begin_drain("test");
        eventually("not ready any more", || async {
            let status = reqwest::get(&readyz).await.ok()?.status();
            (status == 404).then_some(())
        })
        .await
    };
    let (answer, drained) = tokio::join!(waits, drain);
    drained?;
    let answer = answer?;
    assert_eq!(answer.status(), 200);
    let page: serde_json::Value = answer.json().await?;
    assert_eq!(
        page["head"],
        json!(stored[0]),
        "cut short, and the head tells"
    );
    let ended = tokio::time::timeout(LONG, world.running.join_next()).await?;
    ended.expect("one task was begun")??;
    let code = world.lifecycle.finish(LONG).await;
    assert_eq!(format!("{code:?}"), format!("{:?}", ExitCode::SUCCESS));
    let refused = reqwest::get(format!("{}/openapi.json", world.api)).await;
    assert!(refused.is_err(), "nobody listens");
    Ok(())
}

#[tokio::test]
async fn document_is_open_and_metrics_count() -> anyhow::Result<()> {
    let world = World::new("metrics").await?;
    let mary = world.caller("mary").await?;
    assert_eq!(world.get("/users/me", &mary).await?.0, 200);
    assert_eq!(
        world.send(Method::GET, "/users/me", None, None).await?.0,
        401
    );
    let metrics = reqwest::get(format!("{}/metrics", world.ops))
        .await?
        .text()
        .await?;
    for line in [
        "hubbub_api_requests_total{route=\"getMe\",status=\"200\"} 1",
        "hubbub_api_requests_total{route=\"getMe\",status=\"401\"} 1",
        "hubbub_api_request_seconds_count{route=\"getMe\"} 2",
        "hubbub_api_waiters 0",
    ] {
        assert!(
            metrics.lines().any(|l| l == line),
            "{line} is not in\n{metrics}"
        );
    }
    for path in ["/livez", "/readyz", "/metrics"] {
        assert_eq!(
            world.get(path, &mary).await?.0,
            404,
            "{path} on the public port"
        );
    }
    Ok(())
}

#[tokio::test]
async fn stop_before_the_start_is_done_is_no_failure() -> anyhow::Result<()> {
    let env = TestEnv::new("stopped").await?;
    let core = Proxy::start(env.postgres_addr())?;
    core.go_down();
    let bound = Api::bind(config(&env, &core)?, Ok(())).await?;
    let readyz = format!("http://{}/readyz", bound.ops_addr());
    let lifecycle = Lifecycle::new();
    let shared = lifecycle.clone();
    lifecycle.spawn("api", OnError::Stop, async move { bound.run(shared).await });
    eventually("it starts", || async {
        let status = reqwest::get(&readyz).await.ok()?.status();
        (status == 503).then_some(())
    })
    .await?;
    lifecycle.begin_drain("test");
    let code = lifecycle.finish(LONG).await;
    assert_eq!(format!("{code:?}"), format!("{:?}", ExitCode::SUCCESS));
    Ok(())
}

/// Of a server whose core database is behind `core`.
fn config(env: &TestEnv, core: &Proxy) -> anyhow::Result<Config> {
    let secret = env.dir().join("secret");
    std::fs::write(&secret, "a secret of the tests with more than 32 bytes")?;
    let core_url = through(&env.core_url, env, core);
    let shard_urls = env.shard_urls.join(",");
    Ok(Config::try_parse_from([
        "hubbub-api-server",
        "--listen=127.0.0.1:0",
        "--ops-addr=127.0.0.1:0",
        "--redis-url",
        &env.redis_url,
        "--kafka-brokers",
        &env.kafka_brokers,
        "--topic",
        &env.topic,
        "--core-database-url",
        &core_url,
        "--shard-database-urls",
        &shard_urls,
        "--jwt-secret-file",
        secret.to_str().context("a path of the test is UTF-8")?,
    ])?)
}
