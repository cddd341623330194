//! Subscriptions, and what happens to them when the connection does not hold.

use super::*;

#[tokio::test]
async fn ten_thousand_messages_arrive_in_order_and_none_is_lost() -> anyhow::Result<()> {
    const COUNT: usize = 10_000;
    let server = Server::start().await?;
    let sender = Node::start(&server.config("sender"));
    let mut receiver = Node::start(&server.config("receiver"));
    receiver.subscribed(&channels(4)).await;
    let mut tasks = JoinSet::new();
    let publisher = sender.publisher.clone();
    tasks.spawn(async move {
        for number in 0..COUNT {
            let to = channel(1 + i64::try_from(number % 4).expect("small"));
            let payload = Bytes::from(number.to_string());
            while let Err(error) = publisher.offer(&to, payload.clone()) {
                assert!(matches!(error, Error::Full), "{error}");
                tokio::task::yield_now().await;
            }
        }
    });
    for number in 0..COUNT {
        let to = channel(1 + i64::try_from(number % 4)?);
        let payload = Bytes::from(number.to_string());
        assert_eq!(
            receiver.next().await,
            Event::Message {
                channel: to,
                payload
            }
        );
    }
    assert_eq!(sender.metric("bus_publishes_total{result=\"ok\"}"), 10_000);
    assert_eq!(receiver.metric("bus_inbox_dropped_total"), 0);
    sender.finished().await;
    receiver.finished().await;
    Ok(())
}

#[tokio::test]
async fn killed_subscriber_connection_is_lost_and_all_is_subscribed_again() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let mut node = Node::start(&server.config("a"));
    let wanted = channels(1_500);
    node.subscribed(&wanted).await;
    let mut client = server.client().await?;
    for round in 1..=3 {
        let mut kill = redis::cmd("CLIENT");
        kill.arg("KILL").arg("TYPE").arg("pubsub");
        let killed: u64 = kill.query_async(&mut client).await?;
        assert_eq!(killed, 1);
        let begun = Instant::now();
        node.until(&Event::Lost).await;
        node.until_subscribed(&wanted).await;
        assert!(begun.elapsed() < REPAIR, "{:?}", begun.elapsed());
        assert_eq!(publish(&node.publisher, &channel(7), "back").await, 1);
        assert_eq!(node.until(&message(&channel(7), "back")).await, []);
        assert_eq!(
            node.metric("bus_connects_total{connection=\"subscriber\"}"),
            round + 1
        );
    }
    Ok(())
}

#[tokio::test]
async fn restarted_redis_has_everything_again_within_two_seconds() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let mut node = Node::start(&server.config("a"));
    let wanted = channels(2_000);
    node.subscribed(&wanted).await;
    node.connected().await;
    server.redis.kill().await;
    node.until(&Event::Lost).await;
    eventually("noticed", || !node.subscriber.is_connected()).await;
    server.redis.start().await?;
    let begun = Instant::now();
    node.until_subscribed(&wanted).await;
    assert_eq!(publish(&node.publisher, &channel(9), "back").await, 1);
    assert!(begun.elapsed() < REPAIR, "{:?}", begun.elapsed());
    assert_eq!(node.until(&message(&channel(9), "back")).await, []);
    Ok(())
}

#[tokio::test]
async fn frozen_redis_fails_fast_and_works_again_after() -> anyhow::Result<()> {
    const FREEZE: Duration = Duration::from_secs(3);
    let server = Server::start().await?;
    let mut node = Node::start(&server.config("a"));
    node.subscribed(&channels(10)).await;
    node.connected().await;
    server.redis.pause();
    let begun = Instant::now();
    let mut longest = Duration::ZERO;
    while begun.elapsed() < FREEZE {
        let asked = Instant::now();
        let answer = node
            .publisher
            .publish(&channel(1), Bytes::from_static(b"frozen"))
            .await;
        assert!(answer.is_err(), "{answer:?}");
        longest = longest.max(asked.elapsed());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(longest < Duration::from_millis(1_500), "{longest:?}");
    assert!(!node.subscriber.is_connected());
    server.redis.resume();
    let begun = Instant::now();
    // Nobody knows what was missed meanwhile, so everything is confirmed again.
    node.until(&Event::Lost).await;
    node.until_subscribed(&channels(10)).await;
    publish(&node.publisher, &channel(1), "thawed").await;
    node.until(&message(&channel(1), "thawed")).await;
    node.connected().await;
    assert!(begun.elapsed() < REPAIR, "{:?}", begun.elapsed());
    Ok(())
}

#[tokio::test]
async fn deaf_connection_is_found_and_replaced() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let proxy = Proxy::start(server.addr())?;
    let mut config = server.config("a");
    config.subscribe_url = format!("redis://{}", proxy.addr());
    let mut node = Node::start(&config);
    node.subscribed(&channels(10)).await;
    node.connected().await;
    proxy.black_hole(Direction::ToClient);
    let begun = Instant::now();
    assert_eq!(publish(&node.publisher, &channel(1), "unheard").await, 1);
    assert_eq!(node.until(&Event::Lost).await, []);
    assert!(begun.elapsed() < REPAIR, "{:?}", begun.elapsed());
    assert_eq!(node.metric("bus_losses_total{reason=\"deaf\"}"), 1);
    assert!(!node.subscriber.is_connected());
    proxy.heal();
    let begun = Instant::now();
    node.until_subscribed(&channels(10)).await;
    assert!(begun.elapsed() < REPAIR, "{:?}", begun.elapsed());
    publish(&node.publisher, &channel(2), "heard").await;
    assert_eq!(node.until(&message(&channel(2), "heard")).await, []);
    Ok(())
}

#[tokio::test]
async fn probe_that_cannot_be_sent_cuts_nothing() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let proxy = Proxy::start(server.addr())?;
    let mut config = server.config("a");
    config.url = format!("redis://{}", proxy.addr());
    let mut node = Node::start(&config);
    node.subscribed(&channels(1)).await;
    node.connected().await;
    proxy.go_down();
    eventually("probes fail to be sent", || {
        node.metric("bus_probes_total{result=\"unsent\"}") >= 4
    })
    .await;
    let mut client = server.client().await?;
    let mut publish = redis::cmd("PUBLISH");
    publish.arg(channel(1).to_string()).arg("still heard");
    let receivers: u64 = publish.query_async(&mut client).await?;
    assert_eq!(receivers, 1);
    assert_eq!(node.next().await, message(&channel(1), "still heard"));
    assert_eq!(
        node.metric("bus_connects_total{connection=\"subscriber\"}"),
        1
    );
    Ok(())
}

#[tokio::test]
async fn full_inbox_says_lost_and_subscribes_again() -> anyhow::Result<()> {
    const SENT: u64 = 1_000;
    let server = Server::start().await?;
    let mut config = server.config("a");
    config.inbox_events = 64;
    let mut node = Node::start(&config);
    node.subscribed(&channels(100)).await;
    for _ in 0..SENT {
        node.publisher
            .offer(&channel(1), Bytes::from_static(b"x"))?;
    }
    node.publisher.flush().await;
    eventually("all came", || {
        node.metric("bus_inbox_dropped_total") == SENT - 64
    })
    .await;
    let before = node.until(&Event::Lost).await;
    assert_eq!(before, vec![message(&channel(1), "x"); 64]);
    node.until_subscribed(&channels(100)).await;
    publish(&node.publisher, &channel(1), "after").await;
    node.until(&message(&channel(1), "after")).await;
    assert_eq!(node.metric("bus_losses_total{reason=\"overflow\"}"), 1);
    assert_eq!(
        node.metric("bus_connects_total{connection=\"subscriber\"}"),
        1
    );
    Ok(())
}

#[tokio::test]
async fn five_thousand_channels_are_subscribed_in_batches() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let mut node = Node::start(&server.config("a"));
    node.connected().await;
    let wanted = channels(5_000);
    let begun = Instant::now();
    node.subscribed(&wanted).await;
    let took = begun.elapsed();
    assert!(took < REPAIR, "{took:?}");
    let mut client = server.client().await?;
    let stats: String = redis::cmd("INFO")
        .arg("commandstats")
        .query_async(&mut client)
        .await?;
    let line = stats
        .lines()
        .find(|line| line.starts_with("cmdstat_subscribe:"));
    let calls = line.and_then(|line| line.split(['=', ',']).nth(1));
    let calls: u32 = calls.expect("calls=").parse()?;
    // Our own channel, ten full batches, and some that began before the next calls came.
    assert!((11..=20).contains(&calls), "{calls}");
    let mut inspect = Inspect::connect(&server.redis.url()).await?;
    assert_eq!(inspect.channels("channel-*").await?.len(), 5_000);
    assert_eq!(node.metric("bus_subscriptions"), 5_000);
    for channel in &wanted[1..] {
        node.subscriber.unsubscribe(channel.clone());
    }
    let deadline = Instant::now() + LONG;
    while inspect.channels("channel-*").await? != [channel(1).to_string()] {
        assert!(Instant::now() < deadline, "not all unsubscribed");
    }
    Ok(())
}

#[tokio::test]
async fn last_order_for_a_channel_holds_and_each_subscribe_is_confirmed() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let mut node = Node::start(&server.config("a"));
    node.subscribed(&channels(1)).await;
    // Again, though it is subscribed: a fresh start.
    node.subscriber.subscribe(channel(1));
    assert_eq!(node.next().await, Event::Subscribed(channel(1)));
    for _ in 0..50 {
        node.subscriber.unsubscribe(channel(1));
        tokio::task::yield_now().await;
        node.subscriber.subscribe(channel(1));
        node.until(&Event::Subscribed(channel(1))).await;
        node.subscriber.subscribe(channel(2));
        tokio::task::yield_now().await;
        node.subscriber.unsubscribe(channel(2));
    }
    let names = [channel(1).to_string(), channel(2).to_string()];
    let expected = [(names[0].clone(), 1), (names[1].clone(), 0)];
    let mut inspect = Inspect::connect(&server.redis.url()).await?;
    let deadline = Instant::now() + LONG;
    while inspect.numsub(&names).await? != expected {
        assert!(
            Instant::now() < deadline,
            "{:?}",
            inspect.numsub(&names).await?
        );
    }
    Ok(())
}
