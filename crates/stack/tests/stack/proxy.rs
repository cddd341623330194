use hubbub_stack::{Direction, Proxy};
use std::io::ErrorKind;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

/// A server that sends back what it gets, and a proxy before it.
async fn echo() -> (Proxy, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut echoes = JoinSet::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            echoes.spawn(async move {
                let (mut read, mut write) = stream.split();
                tokio::io::copy(&mut read, &mut write).await.ok();
            });
        }
    });
    (Proxy::start(addr).unwrap(), tasks)
}

async fn round_trip(stream: &mut TcpStream, text: &[u8]) {
    stream.write_all(text).await.unwrap();
    let mut answer = vec![0; text.len()];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(answer, text);
}

#[tokio::test]
async fn forwards_and_counts() {
    let (proxy, _echo) = echo().await;
    let mut stream = TcpStream::connect(proxy.addr()).await.unwrap();
    round_trip(&mut stream, &vec![7; 300_000]).await;
    assert_eq!(proxy.connections(), 1);
    stream.shutdown().await.unwrap();
    assert_eq!(stream.read(&mut [0]).await.unwrap(), 0);
    let gone = async {
        while proxy.connections() > 0 {
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(5), gone).await.unwrap();
}

#[tokio::test]
async fn cut_resets_open_connections_and_takes_new_ones() {
    let (proxy, _echo) = echo().await;
    let mut stream = TcpStream::connect(proxy.addr()).await.unwrap();
    round_trip(&mut stream, b"before").await;
    proxy.cut();
    let error = stream.read(&mut [0]).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    let mut stream = TcpStream::connect(proxy.addr()).await.unwrap();
    round_trip(&mut stream, b"after").await;
}

#[tokio::test]
async fn down_closes_new_connections_until_healed() {
    let (proxy, _echo) = echo().await;
    proxy.go_down();
    // It may be closed before we see that it was made.
    if let Ok(mut stream) = TcpStream::connect(proxy.addr()).await {
        assert!(matches!(stream.read(&mut [0]).await, Ok(0) | Err(_)));
    }
    proxy.heal();
    let mut stream = TcpStream::connect(proxy.addr()).await.unwrap();
    round_trip(&mut stream, b"healed").await;
}

#[tokio::test]
async fn black_hole_holds_one_way_and_delivers_late() {
    let (proxy, _echo) = echo().await;
    let mut stream = TcpStream::connect(proxy.addr()).await.unwrap();
    round_trip(&mut stream, b"before").await;
    for direction in [Direction::ToClient, Direction::ToServer, Direction::Both] {
        proxy.black_hole(direction);
        stream.write_all(b"held").await.unwrap();
        let mut answer = [0; 4];
        let silent = stream.read_exact(&mut answer);
        assert!(timeout(Duration::from_millis(150), silent).await.is_err());
        proxy.heal();
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"held");
    }
}

#[tokio::test]
async fn delay_and_bandwidth_take_their_time() {
    let (proxy, _echo) = echo().await;
    let mut stream = TcpStream::connect(proxy.addr()).await.unwrap();
    proxy.delay(Duration::from_millis(50));
    let start = Instant::now();
    round_trip(&mut stream, b"slow").await;
    assert!(start.elapsed() >= Duration::from_millis(100));
    proxy.heal();
    proxy.limit_bandwidth(10_000);
    let start = Instant::now();
    round_trip(&mut stream, &[1; 4_000]).await;
    assert!(
        start.elapsed() >= Duration::from_millis(300),
        "{:?}",
        start.elapsed()
    );
}

/// Polls until it is true.
async fn eventually(mut is_so: impl FnMut() -> bool) {
    let turn = async {
        while !is_so() {
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(5), turn).await.unwrap();
}

/// Both ends of a connection through a proxy.
async fn pair() -> (Proxy, TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let proxy = Proxy::start(addr).unwrap();
    let client = TcpStream::connect(proxy.addr()).await.unwrap();
    let (server, _) = listener.accept().await.unwrap();
    (proxy, client, server)
}

#[tokio::test]
async fn cut_is_a_reset_on_both_sides_and_is_counted() {
    let (proxy, mut client, mut server) = pair().await;
    server.write_all(b"hello").await.unwrap();
    client.read_exact(&mut [0; 5]).await.unwrap();
    proxy.cut();
    for stream in [&mut client, &mut server] {
        let error = stream.read(&mut [0]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    }
    eventually(|| proxy.connections() == 0).await;
    assert_eq!(proxy.connections_cut(), 1);
    assert_eq!(proxy.forwarded(), [0, 5]);
}

#[tokio::test]
async fn tear_lets_so_many_bytes_pass_to_the_client_then_resets() {
    let (proxy, mut client, mut server) = pair().await;
    server.write_all(b"before").await.unwrap();
    client.read_exact(&mut [0; 6]).await.unwrap();
    proxy.tear_after(10);
    // The other way is not counted.
    client.write_all(&[1; 100]).await.unwrap();
    server.read_exact(&mut [0; 100]).await.unwrap();
    server.write_all(b"1234567").await.unwrap();
    client.read_exact(&mut [0; 7]).await.unwrap();
    server.write_all(b"890ABCDEF").await.unwrap();
    let mut rest = Vec::new();
    let error = client.read_to_end(&mut rest).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    assert_eq!(rest, b"890");
    let error = server.read(&mut [0]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    eventually(|| proxy.connections_cut() == 1).await;
    assert_eq!(proxy.forwarded(), [100, 16]);
}

#[tokio::test]
async fn tear_spares_new_connections_and_ends_with_heal() {
    let (proxy, _echo) = echo().await;
    let mut old = TcpStream::connect(proxy.addr()).await.unwrap();
    round_trip(&mut old, b"before").await;
    proxy.tear_after(100);
    let mut new = TcpStream::connect(proxy.addr()).await.unwrap();
    round_trip(&mut new, &[1; 5_000]).await;
    round_trip(&mut old, &[1; 99]).await;
    proxy.heal();
    round_trip(&mut old, &[1; 5_000]).await;
    assert_eq!(proxy.connections_cut(), 0);
}

#[tokio::test]
async fn silent_connections_carry_nothing_and_are_never_closed() {
    let (proxy, mut client, mut server) = pair().await;
    server.write_all(b"before").await.unwrap();
    client.read_exact(&mut [0; 6]).await.unwrap();
    proxy.go_silent();
    eventually(|| proxy.connections_silenced() == 1).await;
    proxy.heal();
    server.write_all(b"lost").await.unwrap();
    client.write_all(b"lost").await.unwrap();
    // Not even the end of the one side reaches the other.
    client.shutdown().await.unwrap();
    let silent = timeout(Duration::from_millis(150), server.read(&mut [0])).await;
    assert!(silent.is_err(), "{silent:?}");
    drop(client);
    let silent = timeout(Duration::from_millis(150), server.read(&mut [0])).await;
    assert!(silent.is_err(), "{silent:?}");
    assert_eq!(proxy.connections(), 1);
    assert_eq!(proxy.forwarded(), [0, 6]);
    proxy.cut();
    let error = server.read(&mut [0]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn silent_link_takes_new_connections() {
    let (proxy, _echo) = echo().await;
    let mut old = TcpStream::connect(proxy.addr()).await.unwrap();
    round_trip(&mut old, b"before").await;
    proxy.go_silent();
    let mut new = TcpStream::connect(proxy.addr()).await.unwrap();
    round_trip(&mut new, b"after").await;
    assert_eq!(proxy.connections(), 2);
}

#[tokio::test]
async fn next_upstream_is_taken_when_the_first_is_not_there() {
    let (proxy, _echo) = echo().await;
    // Nobody has listened there since this was dropped.
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let gone = nobody.local_addr().unwrap();
    drop(nobody);
    let many = Proxy::start_many(vec![gone, proxy.addr()]).unwrap();
    let mut stream = TcpStream::connect(many.addr()).await.unwrap();
    round_trip(&mut stream, b"there").await;
    assert_eq!(proxy.connections(), 1);
}

#[tokio::test]
async fn end_of_one_way_leaves_the_other() {
    let (proxy, mut client, mut server) = pair().await;
    client.write_all(b"question").await.unwrap();
    client.shutdown().await.unwrap();
    let mut question = Vec::new();
    server.read_to_end(&mut question).await.unwrap();
    assert_eq!(question, b"question");
    server.write_all(b"answer").await.unwrap();
    drop(server);
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).await.unwrap();
    assert_eq!(answer, b"answer");
    eventually(|| proxy.connections() == 0).await;
    assert_eq!(proxy.connections_cut(), 0);
}

#[tokio::test]
async fn delayed_bytes_keep_their_order_and_come_at_once_when_healed() {
    let (proxy, _echo) = echo().await;
    let mut stream = TcpStream::connect(proxy.addr()).await.unwrap();
    proxy.delay(Duration::from_secs(3600));
    let text: Vec<u8> = (0..100_000_u32).map(|i| i as u8).collect();
    for piece in text.chunks(1_000) {
        stream.write_all(piece).await.unwrap();
    }
    let silent = timeout(Duration::from_millis(100), stream.read(&mut [0])).await;
    assert!(silent.is_err());
    proxy.heal();
    let mut answer = vec![0; text.len()];
    let read = stream.read_exact(&mut answer);
    timeout(Duration::from_secs(5), read)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(answer, text);
}

/// A thousand links in one process, a message on each in turn: what a torture run does.
#[tokio::test]
async fn thousand_links_carry_messages_cheaply() {
    const LINKS: usize = 500;
    const MESSAGES: usize = 12_000;
    let (_first, _echo) = echo().await;
    let upstream = _first.upstreams()[0];
    let mut links = Vec::new();
    for _ in 0..LINKS {
        let far = Proxy::start(upstream).unwrap();
        let near = Proxy::start(far.addr()).unwrap();
        let stream = TcpStream::connect(near.addr()).await.unwrap();
        links.push((near, far, stream));
    }
    let start = Instant::now();
    for i in 0..MESSAGES {
        round_trip(&mut links[i % LINKS].2, &[7; 400]).await;
    }
    let per_second = MESSAGES as f64 / start.elapsed().as_secs_f64();
    // 3,000 a second are wanted while seven other processes run, too.
    assert!(per_second > 1_000.0, "{per_second:.0} round trips a second");
    eprintln!("{per_second:.0} round trips a second through two proxies each");
    for (near, far, _) in &links {
        let each = (MESSAGES / LINKS * 400) as u64;
        // The last bytes are counted when they are on their way.
        eventually(|| near.forwarded() == [each; 2] && far.forwarded() == [each; 2]).await;
    }
}

#[tokio::test]
async fn dropping_the_proxy_ends_its_connections() {
    let (proxy, _echo) = echo().await;
    let mut busy = TcpStream::connect(proxy.addr()).await.unwrap();
    round_trip(&mut busy, b"before").await;
    let mut held = TcpStream::connect(proxy.addr()).await.unwrap();
    round_trip(&mut held, b"before").await;
    proxy.black_hole(Direction::Both);
    busy.write_all(b"on its way").await.unwrap();
    drop(proxy);
    for stream in [&mut busy, &mut held] {
        let end = timeout(Duration::from_secs(5), stream.read(&mut [0])).await;
        assert!(matches!(end.unwrap(), Ok(0) | Err(_)));
    }
}
