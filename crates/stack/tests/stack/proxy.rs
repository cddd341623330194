use hubbub_stack::{Direction, Proxy};
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
    (Proxy::start(addr).await.unwrap(), tasks)
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
    let mut stream = TcpStream::connect(proxy.addr()).await.unwrap();
    assert!(matches!(stream.read(&mut [0]).await, Ok(0) | Err(_)));
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
