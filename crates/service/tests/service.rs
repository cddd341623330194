//! The HTTP listener and the ops port over real sockets.
use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, atomic::AtomicUsize, atomic::Ordering},
    time::Duration,
};

use hubbub_service::{
    Lifecycle, OnError, Ops, OpsConfig, Readiness,
    http::{HttpLimits, HttpMetrics, serve_counted},
};
use prometheus_client::{encoding::text::encode, metrics::counter::Counter, registry::Registry};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::JoinSet,
    time::{Instant, timeout},
};
use warp::Filter;

const LONG: Duration = Duration::from_secs(20);

struct Server {
    addr: SocketAddr,
    lifecycle: Lifecycle,
    metrics: Registry,
    /// Each answer of `/slow` takes one permit.
    slow: Arc<Semaphore>,
    /// Requests that reached `/slow`.
    begun: Arc<AtomicUsize>,
}

async fn server(max_connections: usize) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let addr = listener.local_addr().expect("an address");
    let slow = Arc::new(Semaphore::new(0));
    let begun = Arc::new(AtomicUsize::new(0));
    let (gate, count) = (slow.clone(), begun.clone());
    let hello = warp::path!("hello").map(|| "hello".to_owned());
    let echo = warp::path!("echo")
        .and(warp::body::bytes())
        .map(|body: bytes::Bytes| format!("{} bytes", body.len()));
    let slow_route = warp::path!("slow").then(move || {
        let gate = gate.clone();
        count.fetch_add(1, Ordering::SeqCst);
        async move {
            let permit = gate.acquire().await.expect("never closed");
            permit.forget();
            "slow".to_owned()
        }
    });
    let routes = hello
        .or(echo)
        .unify()
        .or(slow_route)
        .unify()
        .or_else(|_| async { Ok::<_, Infallible>(("not found".to_owned(),)) });
    let lifecycle = Lifecycle::new();
    let (life, counters) = (lifecycle.clone(), HttpMetrics::default());
    let mut metrics = Registry::default();
    counters.register(&mut metrics);
    lifecycle.spawn("http", OnError::Stop, async move {
        let limits = HttpLimits { max_connections };
        serve_counted(listener, routes, limits, &life, &counters).await
    });
    Server {
        addr,
        lifecycle,
        metrics,
        slow,
        begun,
    }
}

impl Server {
    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.addr).await.expect("connected")
    }

    fn shows(&self, line: &str) -> bool {
        let mut text = String::new();
        encode(&mut text, &self.metrics).expect("encoded");
        text.lines().any(|other| other == line)
    }
}

async fn eventually(what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + LONG;
    while !holds() {
        assert!(Instant::now() < deadline, "{what} does not happen");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn send(stream: &mut TcpStream, text: &str) {
    stream.write_all(text.as_bytes()).await.expect("written");
}

/// Everything until the server closes.
async fn rest(stream: &mut TcpStream) -> String {
    let mut text = Vec::new();
    timeout(LONG, stream.read_to_end(&mut text))
        .await
        .expect("the server closes")
        .expect("without a reset");
    String::from_utf8(text).expect("text")
}

#[tokio::test]
async fn request_is_answered_and_the_connection_kept() {
    let server = server(10).await;
    let mut stream = server.connect().await;
    for _ in 0..2 {
        send(&mut stream, "GET /hello HTTP/1.1\r\nhost: x\r\n\r\n").await;
        let mut answer = vec![0u8; 1024];
        let size = stream.read(&mut answer).await.expect("an answer");
        let answer = String::from_utf8_lossy(&answer[..size]);
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        assert!(answer.ends_with("hello"), "{answer}");
    }
    server.lifecycle.stop_now();
}

/// Real time: the deadlines are those of hyper and of the kernel's sockets.
#[tokio::test]
async fn silent_partial_dripping_and_idle_connections_are_closed_at_their_deadline() {
    let server = server(10).await;
    let begun = Instant::now();
    let mut cases = JoinSet::new();
    for first in ["", "GET /hel", "GET /hello HTTP/1.1\r\nhost: x\r\n"] {
        let mut stream = server.connect().await;
        cases.spawn(async move {
            send(&mut stream, first).await;
            rest(&mut stream).await
        });
    }
    let mut dripping = server.connect().await;
    cases.spawn(async move {
        send(&mut dripping, "GET /hello HTTP/1.1\r\nx: ").await;
        loop {
            let mut byte = [0u8; 64];
            // One byte of a header now and then, until the server has enough.
            match timeout(Duration::from_millis(300), dripping.read(&mut byte)).await {
                Ok(Ok(0) | Err(_)) => return String::new(),
                Ok(Ok(_)) => {}
                Err(_) => {
                    if dripping.write_all(b"y").await.is_err() {
                        return String::new();
                    }
                }
            }
        }
    });
    let mut idle = server.connect().await;
    cases.spawn(async move {
        send(&mut idle, "GET /hello HTTP/1.1\r\nhost: x\r\n\r\n").await;
        rest(&mut idle).await
    });
    while let Some(case) = cases.join_next().await {
        let answer = case.expect("no panic");
        let took = begun.elapsed().as_secs_f64();
        assert!((4.5..8.0).contains(&took), "{answer:?} took {took}");
    }
    assert!(server.shows("http_silent_total 1"));
    server.lifecycle.stop_now();
}

#[tokio::test]
async fn dripping_body_is_cut() {
    let server = server(10).await;
    let begun = Instant::now();
    let mut stream = server.connect().await;
    send(
        &mut stream,
        "POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\nabc",
    )
    .await;
    // The route's rejection is the tests' `not found`; what matters is that the wait ends.
    rest(&mut stream).await;
    let took = begun.elapsed().as_secs_f64();
    assert!((7.5..12.0).contains(&took), "took {took}");
    server.lifecycle.stop_now();
}

#[tokio::test]
async fn connection_above_the_permits_is_refused_fast_and_the_next_is_served_after_one_ended() {
    let server = server(2).await;
    let mut held = vec![server.connect().await, server.connect().await];
    for stream in &mut held {
        send(stream, "GET /slow HTTP/1.1\r\nhost: x\r\n\r\n").await;
    }
    eventually("both permits taken", || {
        server.begun.load(Ordering::SeqCst) == 2
    })
    .await;
    let mut refused = server.connect().await;
    send(&mut refused, "GET /hello HTTP/1.1\r\nhost: x\r\n\r\n").await;
    refused.shutdown().await.expect("half closed");
    let begun = Instant::now();
    let answer = rest(&mut refused).await;
    assert!(begun.elapsed() < Duration::from_secs(1));
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert!(answer.contains("\r\nretry-after: 1\r\n"), "{answer}");
    let body = answer.split_once("\r\n\r\n").expect("a body").1;
    let length = format!("\r\ncontent-length: {}\r\n", body.len());
    assert!(answer.contains(&length), "{answer}");
    let body: serde_json::Value = serde_json::from_str(body).expect("JSON");
    assert_eq!(body["error"]["code"], "overloaded");
    assert!(server.shows("http_refused_total 1"));

    drop(held.pop());
    server.slow.add_permits(1);
    let url = format!("http://{}/hello", server.addr);
    let deadline = Instant::now() + LONG;
    while !reqwest::get(&url).await.is_ok_and(|r| r.status() == 200) {
        assert!(Instant::now() < deadline, "no permit came back");
    }
    server.lifecycle.stop_now();
}

#[tokio::test]
async fn drain_finishes_the_request_under_way_and_takes_no_new_one() {
    let server = server(10).await;
    let mut busy = server.connect().await;
    send(&mut busy, "GET /slow HTTP/1.1\r\nhost: x\r\n\r\n").await;
    let mut silent = server.connect().await;
    eventually(
        "the request is under way, and the other one is there",
        || server.begun.load(Ordering::SeqCst) == 1 && server.shows("http_accepted_total 2"),
    )
    .await;
    server.lifecycle.begin_drain("test");
    assert_eq!(rest(&mut silent).await, "");
    eventually("the port is closed", || {
        std::net::TcpStream::connect(server.addr).is_err()
    })
    .await;
    server.slow.add_permits(1);
    let answer = rest(&mut busy).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(answer.ends_with("slow"), "{answer}");
    let outcome = server.lifecycle.finished(LONG).await;
    assert!(!outcome.failed && outcome.cut.is_empty(), "{outcome:?}");
}

#[tokio::test]
async fn hard_cuts_the_request_under_way() {
    let server = server(10).await;
    let mut busy = server.connect().await;
    send(&mut busy, "GET /slow HTTP/1.1\r\nhost: x\r\n\r\n").await;
    eventually("the request is under way", || {
        server.begun.load(Ordering::SeqCst) == 1
    })
    .await;
    server.lifecycle.begin_drain("test");
    let outcome = server.lifecycle.finished(Duration::from_millis(100)).await;
    assert_eq!(outcome.cut, ["http"]);
    assert!(!rest(&mut busy).await.contains("200"));
}

#[tokio::test]
async fn ops_port_shows_health_metrics_and_state_until_hard() {
    let mut registry = Registry::default();
    let counter = Counter::<u64>::default();
    registry.register("things", "Things", counter.clone());
    counter.inc_by(3);
    let config = OpsConfig {
        ops_addr: SocketAddr::from(([127, 0, 0, 1], 0)),
    };
    let readiness = Readiness::default();
    let debug: hubbub_service::ops::DebugState = Arc::new(|| serde_json::json!({"sockets": 7}));
    let ops = Ops::bind(&config, Arc::new(registry), readiness.clone(), Some(debug))
        .await
        .expect("bound");
    let addr = ops.addr();
    let lifecycle = Lifecycle::new();
    ops.start(&lifecycle);
    let get = |path: &'static str| async move {
        let answer = reqwest::get(format!("http://{addr}{path}")).await?;
        Ok::<_, reqwest::Error>((answer.status().as_u16(), answer.text().await?))
    };
    let status = |path: &'static str| async move { get(path).await.expect("an answer").0 };

    assert_eq!(status("/readyz").await, 503);
    assert_eq!(status("/livez").await, 200);
    readiness.set_ready();
    assert_eq!(status("/readyz").await, 200);
    let (code, text) = get("/metrics").await.expect("an answer");
    assert_eq!(code, 200);
    assert!(
        text.contains("things_total 3\n") && text.ends_with("# EOF\n"),
        "{text}"
    );
    let (code, text) = get("/debug/state").await.expect("an answer");
    assert_eq!((code, text.as_str()), (200, r#"{"sockets":7}"#));
    assert_eq!(status("/").await, 404);
    let posted = reqwest::Client::new().post(format!("http://{addr}/livez"));
    assert_eq!(posted.send().await.expect("an answer").status(), 405);

    lifecycle.begin_drain("test");
    readiness.set_draining();
    readiness.set_ready();
    assert_eq!(status("/readyz").await, 404);
    assert_eq!(status("/livez").await, 200);
    let outcome = lifecycle.finished(LONG).await;
    assert!(outcome.cut.is_empty(), "{outcome:?}");
    assert!(get("/livez").await.is_err());
}

#[tokio::test]
async fn ops_port_that_is_taken_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let config = OpsConfig {
        ops_addr: taken.local_addr().expect("an address"),
    };
    let bound = Ops::bind(&config, Arc::default(), Readiness::default(), None).await;
    let error = bound.expect_err("taken").to_string();
    assert!(error.contains(&config.ops_addr.to_string()), "{error}");
}

#[tokio::test]
async fn first_signal_drains_and_the_second_cuts() {
    use nix::sys::signal::{Signal, raise};
    let lifecycle = Lifecycle::new();
    let (soft, hard) = (lifecycle.soft(), lifecycle.hard());
    let signals = async {
        raise(Signal::SIGTERM).expect("raised");
        timeout(LONG, soft.cancelled()).await.expect("soft");
        assert!(!hard.is_cancelled());
        raise(Signal::SIGINT).expect("raised");
        timeout(LONG, hard.cancelled()).await.expect("hard");
    };
    // Biased, so that the handlers are there before the first signal, which would end this process.
    let (watched, ()) = tokio::join!(biased; lifecycle.watch_signals(), signals);
    watched.expect("ends well at hard");
}

#[cfg(feature = "failpoints")]
#[tokio::test]
async fn failpoints_are_set_and_taken_away_while_the_process_runs() {
    /// Whether the failpoint is met.
    fn met() -> bool {
        fail::fail_point!("service::tests", |_| true);
        false
    }
    let config = OpsConfig {
        ops_addr: SocketAddr::from(([127, 0, 0, 1], 0)),
    };
    let ops = Ops::bind(&config, Arc::default(), Readiness::default(), None)
        .await
        .expect("bound");
    let url = format!("http://{}/failpoints", ops.addr());
    let lifecycle = Lifecycle::new();
    ops.start(&lifecycle);
    let post = async |body: &'static str| {
        let request = reqwest::Client::new().post(&url).body(body);
        let answer = request.send().await.expect("an answer");
        let status = answer.status().as_u16();
        (status, answer.text().await.expect("a body"))
    };

    assert!(!met());
    let two = post("service::tests=return\nservice::other=20%return\n").await;
    assert_eq!(two, (204, String::new()));
    assert!(met());
    let (status, problem) = post("service::tests=explode").await;
    assert_eq!(status, 400);
    assert!(problem.contains("service::tests=explode"), "{problem}");
    assert_eq!(post("nothing").await.0, 400);
    assert!(met(), "a mistake changes nothing");
    assert_eq!(post("service::tests=off").await.0, 204);
    assert!(!met());
    let ready = reqwest::get(url.replace("failpoints", "livez")).await;
    assert_eq!(ready.expect("an answer").status(), 200);
    assert_eq!(reqwest::get(&url).await.expect("an answer").status(), 404);
    lifecycle.stop_now();
}
