//! A stack whose every way leads through a proxy. Our own programs are stand-ins again.

use crate::stack::{options, stand_ins};
use hubbub_stack::{Haproxy, Link, Proxy, Service, Stack};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

const SERVERS: [&str; 4] = ["redis", "kafka", "core", "shard-0"];

async fn linked(programs: &Path) -> Stack {
    let mut options = options(programs);
    (options.edges, options.apis, options.consumers) = (2, 1, 1);
    (options.spare_consumers, options.haproxies, options.shards) = (1, 2, 1);
    options.links = true;
    Stack::start(options).await.unwrap()
}

/// Two front doors and nothing else that takes long to start.
async fn two_doors(programs: &Path) -> Stack {
    let mut options = options(programs).with_shared_kafka().await.unwrap();
    (options.haproxies, options.shards) = (2, 1);
    Stack::start(options).await.unwrap()
}

/// A variable in the environment that a process was started with.
fn env_of(service: &Service, key: &str) -> String {
    let path = format!("/proc/{}/environ", service.pid().unwrap());
    let env = String::from_utf8(std::fs::read(path).unwrap()).unwrap();
    let found = env
        .split('\0')
        .find_map(|pair| pair.strip_prefix(key)?.strip_prefix('='));
    found
        .unwrap_or_else(|| panic!("{} has no {key}", service.name()))
        .to_owned()
}

/// Status and body of a GET.
async fn get(front: SocketAddr, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(front).await?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await?;
    let body = text.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    Ok(body.to_owned())
}

async fn eventually_from(front: SocketAddr, path: &str, wanted: &str) {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let body = get(front, path).await.unwrap_or_default();
        if body.starts_with(wanted) {
            return;
        }
        assert!(
            Instant::now() < deadline,
            "still {body:?} instead of {wanted:?}"
        );
        sleep(Duration::from_millis(20)).await;
    }
}

/// Where Kafka tells whoever connects here to connect.
async fn advertised(at: SocketAddr) -> std::io::Result<String> {
    let mut request = Vec::new();
    request.extend_from_slice(&3_i16.to_be_bytes()); // Metadata
    request.extend_from_slice(&5_i16.to_be_bytes()); // version
    request.extend_from_slice(&1_i32.to_be_bytes()); // correlation
    request.extend_from_slice(&(-1_i16).to_be_bytes()); // no client id
    request.extend_from_slice(&0_i32.to_be_bytes()); // no topics
    request.push(0);
    let mut stream = TcpStream::connect(at).await?;
    stream.write_i32(request.len() as i32).await?;
    stream.write_all(&request).await?;
    // Length, correlation, throttle, number of brokers, the first one's id.
    stream.read_exact(&mut [0; 20]).await?;
    let mut host = vec![0; stream.read_u16().await?.into()];
    stream.read_exact(&mut host).await?;
    let port = stream.read_i32().await?;
    Ok(format!("{}:{port}", String::from_utf8(host).unwrap()))
}

#[tokio::test]
async fn every_way_has_a_link_of_its_own() {
    let programs = stand_ins();
    let mut stack = linked(programs.path()).await;
    let mut expected = BTreeSet::new();
    for from in ["edge-1", "edge-2", "api-1", "consumer-1", "consumer-2"] {
        expected.extend(SERVERS.map(|to| (from, to)));
    }
    for from in ["haproxy-1", "haproxy-2"] {
        expected.extend(["edge-1", "edge-2", "api-1"].map(|to| (from, to)));
    }
    let pair = |link: &Link| (link.from.clone(), link.to.clone());
    let expected: BTreeSet<_> = expected
        .iter()
        .map(|(from, to)| (from.to_string(), to.to_string()))
        .collect();
    assert_eq!(
        stack.links().iter().map(pair).collect::<BTreeSet<_>>(),
        expected
    );
    assert_eq!(stack.links().len(), expected.len());
    let addrs: BTreeSet<_> = stack.links().iter().map(|link| link.addr()).collect();
    assert_eq!(addrs.len(), expected.len());

    // A spare consumer runs when it is told to; one more can be added.
    assert!(!stack.spare_consumers()[0].is_running());
    stack.spare_consumers()[0].start().await.unwrap();
    stack.add_consumer(&[]).await.unwrap();
    let added = stack.consumers().last().unwrap();
    assert_eq!(added.name(), "consumer-3");

    let services = stack
        .edges()
        .iter()
        .chain(stack.apis())
        .chain(stack.consumers());
    for service in services.chain(stack.spare_consumers()) {
        let name = service.name();
        let link = |to| stack.link(&name, to).unwrap().addr().to_string();
        let direct = stack.endpoints();
        let told = |key| env_of(service, key);
        assert_eq!(told("REDIS_URL"), format!("redis://{}", link("redis")));
        assert_eq!(told("KAFKA_BROKERS"), link("kafka"));
        assert_eq!(
            told("CORE_DATABASE_URL"),
            format!("postgres://postgres@{}/hubbub", link("core"))
        );
        let shard = format!("postgres://postgres@{}/hubbub_shard_0", link("shard-0"));
        assert_eq!(told("SHARD_DATABASE_URLS"), shard);
        assert_eq!(told("HUBBUB_TOPIC"), direct.topic);
        let origins = told("HUBBUB_ALLOWED_ORIGINS");
        for haproxy in stack.haproxies() {
            assert!(
                origins.contains(&format!("http://{}", haproxy.front())),
                "{origins}"
            );
        }
    }
    // The direct addresses stay direct.
    assert_eq!(stack.endpoints().redis_url, stack.redis().url());
    assert_eq!(stack.endpoints().kafka_brokers, stack.kafka().brokers());
}

#[tokio::test]
async fn kafka_tells_everybody_the_address_of_their_own_link() {
    let programs = stand_ins();
    let mut stack = linked(programs.path()).await;
    stack.add_consumer(&[]).await.unwrap();
    stack.add_consumer(&[]).await.unwrap();
    let error = stack.add_consumer(&[]).await.unwrap_err().to_string();
    assert!(error.contains("no listener for consumer-5"), "{error}");
    for round in 0..2 {
        let links: Vec<&Link> = stack
            .links()
            .iter()
            .filter(|link| link.to == "kafka")
            .collect();
        assert_eq!(links.len(), 7);
        for link in links {
            let told = advertised(link.addr()).await.unwrap();
            assert_eq!(
                told,
                link.addr().to_string(),
                "{} in round {round}",
                link.from
            );
        }
        let direct = stack.kafka().brokers();
        assert_eq!(advertised(direct.parse().unwrap()).await.unwrap(), direct);
        if round == 1 {
            break;
        }
        stack.kafka().kill().await;
        assert!(
            advertised(stack.link("edge-1", "kafka").unwrap().addr())
                .await
                .is_err()
        );
        stack.kafka().start().await.unwrap();
    }
}

#[tokio::test]
async fn link_is_disturbed_alone_and_checks_go_past_it() {
    let programs = stand_ins();
    let stack = linked(programs.path()).await;
    let [first, second] = [0, 1].map(|i| stack.haproxies()[i].front());
    for edge in stack.edges() {
        let link = stack.link("haproxy-1", &edge.name()).unwrap();
        link.go_down();
    }
    // HAProxy says so itself: the edges are well, but no connection to them lives.
    let answer = get(first, "/ws").await.unwrap();
    assert!(answer.contains("\"code\":"), "{answer}");
    eventually_from(first, "/", "api-1").await;
    eventually_from(second, "/ws", "edge-").await;
    let stat = stack
        .haproxy()
        .command("show servers state edges")
        .await
        .unwrap();
    let up = stat
        .lines()
        .filter(|line| line.split(' ').nth(5) == Some("2"))
        .count();
    assert_eq!(up, 2, "{stat}");
    for edge in stack.edges() {
        stack.link("haproxy-1", &edge.name()).unwrap().heal();
    }
    eventually_from(first, "/ws", "edge-").await;

    // A frozen edge is noticed, although its link takes connections.
    stack.edge(0).pause();
    eventually_from(first, "/ws", "edge-2").await;
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let stat = stack
            .haproxy()
            .command("show servers state edges")
            .await
            .unwrap();
        if stat
            .lines()
            .any(|l| l.contains(" edge-1 ") && l.split(' ').nth(5) == Some("0"))
        {
            break;
        }
        assert!(Instant::now() < deadline, "{stat}");
        sleep(Duration::from_millis(20)).await;
    }
    stack.edge(0).resume();
}

#[tokio::test]
async fn each_haproxy_is_reloaded_killed_and_started_alone() {
    let programs = stand_ins();
    let stack = two_doors(programs.path()).await;
    let front = |i: usize| stack.haproxies()[i].front();
    for i in [0, 1] {
        let haproxy: &Haproxy = &stack.haproxies()[i];
        assert_eq!(haproxy.name(), format!("haproxy-{}", i + 1));
        let before = haproxy.worker().await.unwrap();
        // Nobody is refused meanwhile.
        let asking = async {
            loop {
                assert!(get(front(i), "/ws").await.unwrap().starts_with("edge-"));
            }
        };
        tokio::select! {
            () = asking => {}
            after = haproxy.reloaded() => assert_ne!(after.unwrap(), before),
        }
        haproxy.kill().await;
        assert!(get(front(i), "/ws").await.is_err());
        assert!(get(front(1 - i), "/ws").await.unwrap().starts_with("edge-"));
        haproxy.start().await.unwrap();
        eventually_from(front(i), "/ws", "edge-").await;
    }
}

#[tokio::test]
async fn client_links_take_turns_and_avoid_a_dead_haproxy() {
    let programs = stand_ins();
    let stack = two_doors(programs.path()).await;
    let clients: Vec<Proxy> = (0..4).map(|_| stack.client_link().unwrap()).collect();
    let [first, second] = [0, 1].map(|i| stack.haproxies()[i].front());
    for (i, client) in clients.iter().enumerate() {
        let order = if i % 2 == 0 {
            [first, second]
        } else {
            [second, first]
        };
        assert_eq!(client.upstreams(), order);
        assert!(
            get(client.addr(), "/ws")
                .await
                .unwrap()
                .starts_with("edge-")
        );
    }
    stack.haproxies()[0].kill().await;
    for client in &clients {
        assert!(
            get(client.addr(), "/ws")
                .await
                .unwrap()
                .starts_with("edge-")
        );
    }
}
