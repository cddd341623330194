//! Leases of pods.

use super::*;

#[tokio::test]
async fn lease_expires_five_seconds_after_its_last_renewal() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let node = Node::start(&server.config("a"));
    let (a, b) = (server.pod("a"), server.pod("b"));
    publish(&node.publisher, &channel(1), "connected").await;
    let leases = Leases::new(&node.publisher);
    assert_eq!(leases.pods().await?, []);
    leases.renew(&b).await?;
    let asked = Instant::now();
    leases.renew(&a).await?;
    let renewed = Instant::now();
    assert_eq!(leases.pods().await?, [a.clone(), b.clone()]);
    leases.release(&b).await?;
    assert_eq!(leases.pods().await?, [a]);
    while !leases.pods().await?.is_empty() {
        assert!(renewed.elapsed() < LEASE + REPAIR);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(asked.elapsed() > LEASE - Duration::from_millis(100));
    Ok(())
}

#[tokio::test]
async fn leases_are_found_among_many_keys() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let node = Node::start(&server.config("a"));
    publish(&node.publisher, &channel(1), "connected").await;
    let leases = Leases::new(&node.publisher);
    let mut client = server.client().await?;
    let mut set = redis::pipe();
    for number in 0..5_000 {
        set.set(format!("ticket:{number}"), 1).ignore();
    }
    let _: () = set.query_async(&mut client).await?;
    let mut expected = Vec::new();
    for number in 0..50 {
        let pod = server.pod(&format!("pod-{number:02}"));
        leases.renew(&pod).await?;
        expected.push(pod);
    }
    assert_eq!(leases.pods().await?, expected);
    Ok(())
}
