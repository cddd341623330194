//! Publishing: its order, its bound, its end.

use super::*;

#[tokio::test]
async fn publish_tells_the_number_of_receivers() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let mut node = Node::start(&server.config("a"));
    assert_eq!(publish(&node.publisher, &channel(1), "x").await, 0);
    node.subscribed(&channels(1)).await;
    assert_eq!(publish(&node.publisher, &channel(1), "x").await, 1);
    assert_eq!(node.next().await, message(&channel(1), "x"));
    Ok(())
}

#[tokio::test]
async fn publishes_that_went_stale_are_dropped_and_asking_fails_at_once() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let mut node = Node::start(&server.config("a"));
    node.subscribed(&channels(1)).await;
    publish(&node.publisher, &channel(1), "before").await;
    server.redis.kill().await;
    node.until(&Event::Lost).await;
    for _ in 0..10 {
        node.publisher
            .offer(&channel(1), Bytes::from_static(b"stale"))?;
    }
    let deadline = Instant::now() + LONG;
    loop {
        let answer = node
            .publisher
            .publish(&channel(1), Bytes::from_static(b"asked"))
            .await;
        if matches!(answer, Err(Error::Disconnected)) {
            break;
        }
        assert!(answer.is_err() && Instant::now() < deadline, "{answer:?}");
    }
    // What is offered is dropped without a connection, too: this returns while Redis is down.
    timeout(LONG, node.publisher.flush()).await?;
    let dropped = node.metric("bus_publishes_total{result=\"stale\"}")
        + node.metric("bus_publishes_total{result=\"failed\"}");
    assert!(dropped >= 10, "{dropped}");
    server.redis.start().await?;
    node.until_subscribed(&channels(1)).await;
    publish(&node.publisher, &channel(1), "fresh").await;
    assert_eq!(node.until(&message(&channel(1), "fresh")).await, []);
    Ok(())
}

#[tokio::test]
async fn full_publish_queue_refuses_at_once() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let mut config = server.config("a");
    config.publish_queue = 8;
    let metrics = Metrics::default();
    // Nobody runs the task, so nothing leaves the queue.
    let (publisher, _task) = Publisher::new(&config, &metrics);
    for _ in 0..8 {
        publisher.offer(&channel(1), Bytes::from_static(b"x"))?;
    }
    let refused = publisher.offer(&channel(1), Bytes::from_static(b"x"));
    assert!(matches!(refused, Err(Error::Full)), "{refused:?}");
    Ok(())
}

#[tokio::test]
async fn stopped_publisher_writes_what_was_offered() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let mut receiver = Node::start(&server.config("receiver"));
    receiver.subscribed(&channels(1)).await;
    let sender = Node::start(&server.config("sender"));
    publish(&sender.publisher, &channel(1), "connected").await;
    for _ in 0..1_000 {
        sender
            .publisher
            .offer(&channel(1), Bytes::from_static(b"x"))?;
    }
    let publisher = sender.publisher.clone();
    sender.finished().await;
    receiver.until(&message(&channel(1), "connected")).await;
    for _ in 0..1_000 {
        assert_eq!(receiver.next().await, message(&channel(1), "x"));
    }
    let refused = publisher.offer(&channel(1), Bytes::from_static(b"x"));
    assert!(matches!(refused, Err(Error::Disconnected)), "{refused:?}");
    timeout(LONG, publisher.flush()).await?;
    Ok(())
}
