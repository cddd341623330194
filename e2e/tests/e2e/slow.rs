//! Slow readers and long absences.

use std::time::Duration;

use hubbub_client::{Config, JoinOptions, TokenSource};
use hubbub_e2e::{Device, World};
use hubbub_protocol::Seq;
use hubbub_stack::Proxy;
use tokio::time::Instant;

#[tokio::test]
async fn reader_at_a_kilobyte_a_second_is_not_cut_and_costs_a_mebibyte() -> anyhow::Result<()> {
    let world = World::start("slow-reader", 1, 1).await?;
    let busy = world.channel("Maths").await?;
    let proxy = Proxy::start(world.stack.edge(0).addr())?;
    let slow = world.device_at("Mike", proxy.addr()).await?;
    slow.join(busy).await?;
    let quick = world.device_on("John", 0).await?;
    quick.join(busy).await?;
    let mary = world.device_on("Mary", 0).await?;
    // One warm-up, then the measure.
    mary.client.send(busy, "warm")?.wait().await?;
    quick.wait_text(busy, "warm").await?;
    let before = world.edge_rss(0)?;

    proxy.limit_bandwidth(1_024);
    let text = "x".repeat(4_000);
    let mut slowest = Duration::ZERO;
    const MESSAGES: usize = 3_000;
    for n in 0..MESSAGES {
        let sent = Instant::now();
        mary.client
            .send(busy, format!("{n} {text}"))?
            .wait()
            .await?;
        if n % 100 == 0 {
            quick
                .wait("the message", |heard| heard.view.len(busy) > n + 1)
                .await?;
            slowest = slowest.max(sent.elapsed());
            // What is not stored yet the edge keeps for everybody.
            world.wait_caught_up().await?;
        }
    }
    quick
        .wait("all", |heard| heard.view.len(busy) == MESSAGES + 1)
        .await?;
    let metrics = world.metric("edge-1", "hubbub_edge_outbox_bytes").await?;
    assert!(
        metrics <= 1_024.0 * 1_024.0 + 65_536.0,
        "outboxes hold {metrics} bytes"
    );
    world.wait_caught_up().await?;
    let grown = world.edge_rss(0)?.saturating_sub(before);
    assert!(
        grown < 12 * 1_024 * 1_024,
        "12 MB went by and the edge has grown by {grown} bytes"
    );
    assert_eq!(
        slow.heard(|heard| heard.disconnected.clone()),
        Vec::<String>::new(),
        "not cut"
    );
    assert!(
        slow.heard(|heard| heard.view.len(busy)) < MESSAGES / 2,
        "it was slow"
    );
    assert!(
        slowest < Duration::from_secs(5),
        "the others did not notice: {slowest:?}"
    );

    // The line is mended: everything comes, once, on the same connection.
    proxy.heal();
    slow.wait_for("all", Duration::from_secs(60), |heard| {
        heard.view.len(busy) == MESSAGES + 1
    })
    .await?;
    assert_eq!(
        slow.heard(|heard| heard.disconnected.clone()),
        Vec::<String>::new(),
        "not cut"
    );
    assert_eq!(slow.doubled_on_the_wire(), None);
    world.finish().await
}

#[tokio::test]
async fn device_away_for_twenty_thousand_messages_catches_up_also_when_cut() -> anyhow::Result<()> {
    let world = World::start("away", 2, 1).await?;
    let busy = world.channel("general").await?;
    let mary = world.device("Mary").await?;
    let since = mary.join(busy).await?.head.unwrap_or(Seq::ZERO);
    const MESSAGES: usize = 20_000;
    let mut sends = std::collections::VecDeque::new();
    for n in 0..MESSAGES {
        if sends.len() >= 500 {
            let send: hubbub_client::SendHandle = sends.pop_front().expect("not empty");
            send.wait().await?;
        }
        sends.push_back(mary.client.send(busy, format!("m{n}"))?);
    }
    for send in sends {
        send.wait().await?;
    }
    world.wait_caught_up().await?;

    let proxy = Proxy::start(world.stack.haproxy().front())?;
    for ordered in [false, true] {
        let url = format!("ws://{}/ws", proxy.addr());
        let mut config = Config::new(url, TokenSource::Fixed(world.token("John")?));
        config.limits.backoff_first = Duration::from_millis(50);
        let away = Device::with_config(config).await?;
        let options = JoinOptions {
            since: Some(since),
            ordered,
        };
        let reply = away.join_with(busy, options).await?;
        assert!(reply.recovered, "{reply:?}");
        // Cut twice on the way; it comes back through either edge and goes on.
        for part in [1, 2] {
            away.wait("a part", |heard| {
                heard.view.len(busy) >= part * MESSAGES / 4
            })
            .await?;
            proxy.cut();
        }
        away.wait_for("all", Duration::from_secs(60), |heard| {
            heard.view.len(busy) >= MESSAGES
        })
        .await?;
        assert!(
            !away.heard(|heard| heard.disconnected.is_empty()),
            "it was cut on the way"
        );
        let (seqs, handed_on) = away.heard(|heard| {
            let seqs: Vec<Seq> = heard.view.records(busy).map(|(seq, _)| seq).collect();
            (seqs, heard.records.len())
        });
        assert_eq!(seqs.len(), MESSAGES);
        assert_eq!(handed_on, MESSAGES, "each once, over all connections");
        assert_eq!(away.doubled_on_the_wire(), None);
    }
    world.finish().await
}
