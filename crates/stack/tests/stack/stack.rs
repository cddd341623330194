//! The orchestration, with stand-ins for our own programs: HAProxy answering by itself. What the
//! real programs do in a stack is the business of the end-to-end tests.

use hubbub_stack::{Options, Stack};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

const STAND_IN: &str = r#"
defaults
    mode http
    timeout client 10s
    timeout server 10s
    timeout connect 1s
frontend ops
    bind "${HUBBUB_OPS_ADDR}"
    http-request return status 200 content-type text/plain string "ready"
"#;

const STAND_IN_CLIENTS: &str = r#"
frontend clients
    bind "${HUBBUB_LISTEN}"
    http-request return status 200 content-type text/plain string "${HUBBUB_POD_ID} ${EXTRA-plain}"
"#;

/// A directory of programs that answer with their pod id.
pub(crate) fn stand_ins() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("ops.cfg"), STAND_IN).unwrap();
    std::fs::write(dir.path().join("clients.cfg"), STAND_IN_CLIENTS).unwrap();
    let script = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
    };
    let idle = "#!/bin/sh\ncd \"${0%/*}\" && exec haproxy -f ops.cfg";
    let serve = format!("{idle} -f clients.cfg");
    script("hubbub-edge-server", &serve);
    script("hubbub-api-server", &serve);
    script("hubbub-consumer", idle);
    script(
        "hubbub",
        "#!/bin/sh\necho \"$@\" >>\"${0%/*}/calls\"\nenv >\"${0%/*}/env\"\n",
    );
    dir
}

pub(crate) fn options(bin_dir: &Path) -> Options {
    let mut options = Options::for_test().unwrap();
    options.bin_dir = bin_dir.to_owned();
    options
}

/// Status and body of a GET through HAProxy.
async fn get(stack: &Stack, path: &str, headers: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(stack.haproxy().front()).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\n{headers}Connection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    let status = text[9..12].parse().unwrap();
    let body = text.split_once("\r\n\r\n").unwrap().1;
    (status, body.to_owned())
}

/// Asks until the answer is the wanted one.
async fn eventually_from(stack: &Stack, path: &str, wanted: &str) {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let (_, body) = get(stack, path, "").await;
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

#[tokio::test]
async fn whole_stack_starts_routes_and_stops() {
    let programs = stand_ins();
    let stack = Stack::start(options(programs.path())).await.unwrap();
    for server in stack.servers() {
        assert!(server.is_ready().await, "{}", server.name());
    }

    let calls = std::fs::read_to_string(programs.path().join("calls")).unwrap();
    assert_eq!(calls, "admin init --seed\n");
    let env = std::fs::read_to_string(programs.path().join("env")).unwrap();
    for (key, value) in stack.endpoints().env() {
        assert!(env.contains(&format!("{key}={value}\n")), "{key}");
    }

    // Round robin, sockets to the edges, all else to the API servers.
    for (path, wanted) in [
        ("/ws", ["edge-1", "edge-2"]),
        ("/channels", ["api-1", "api-2"]),
    ] {
        let mut seen = Vec::new();
        for _ in 0..4 {
            let (status, body) = get(&stack, path, "").await;
            assert_eq!(status, 200);
            seen.push(body.split(' ').next().unwrap().to_owned());
        }
        seen.sort();
        assert_eq!(seen, [wanted[0], wanted[0], wanted[1], wanted[1]]);
    }

    let dir = stack.dir().to_owned();
    let pids: Vec<u32> = stack.servers().iter().map(|s| s.pid().unwrap()).collect();
    stack.stop().await;
    for pid in pids {
        assert!(
            !Path::new(&format!("/proc/{pid}")).exists(),
            "process {pid} is left"
        );
    }
    assert!(!dir.exists());
}

#[tokio::test]
async fn haproxy_refuses_foreign_origins_and_avoids_dead_servers() {
    let programs = stand_ins();
    let mut options = options(programs.path()).with_shared_kafka().await.unwrap();
    options.shards = 1;
    let stack = Stack::start(options).await.unwrap();

    let front = stack.front_url();
    let own = format!("Origin: {front}\r\n");
    assert_eq!(get(&stack, "/ws", &own).await.0, 200);
    let evil = [
        "http://evil.example",
        "null",
        "",
        &front.to_uppercase(),
        &format!("{front}.example"),
    ];
    for origin in evil {
        let (status, body) = get(&stack, "/ws", &format!("Origin: {origin}\r\n")).await;
        assert_eq!(status, 403, "{origin:?}");
        assert!(body.contains("\"code\":\"forbidden\""), "{body}");
    }
    let two = format!("{own}Origin: http://evil.example\r\n");
    assert_eq!(get(&stack, "/ws", &two).await.0, 403);

    // A dead server, then none at all, then one that is back with another environment.
    stack.api(0).kill().await;
    for _ in 0..6 {
        let (status, body) = get(&stack, "/", "").await;
        assert_eq!(status, 200);
        assert!(body.starts_with("api-2"), "{body}");
    }
    stack.api(1).kill().await;
    eventually_from(&stack, "/", "{\"error\":{\"code\":\"overloaded\"").await;
    stack.api(0).set_env("EXTRA", "changed");
    stack.api(0).start().await.unwrap();
    eventually_from(&stack, "/", "api-1 changed").await;
}

#[tokio::test]
async fn killed_servers_come_back_on_their_ports() {
    let programs = stand_ins();
    let mut options = options(programs.path());
    options.shards = 1;
    let mut stack = Stack::start(options).await.unwrap();
    let consumer = stack.add_consumer(&[("EXTRA", "second")]).await.unwrap();
    assert!(consumer.is_ready().await);
    assert_eq!(stack.consumers().len(), 2);

    stack.shard(0).pause();
    assert!(!stack.shard(0).is_ready().await);
    stack.shard(0).resume();
    assert!(stack.shard(0).is_ready().await);

    let begin = Instant::now();
    for server in stack.servers() {
        server.kill().await;
        assert!(!server.is_ready().await, "{}", server.name());
        server.start().await.unwrap();
        assert!(server.is_ready().await, "{}", server.name());
    }
    assert!(
        begin.elapsed() < Duration::from_secs(30),
        "{:?}",
        begin.elapsed()
    );
}

#[tokio::test]
async fn failed_start_names_the_program_and_shows_its_log() {
    let programs = stand_ins();
    let broken = programs.path().join("hubbub-consumer");
    std::fs::write(&broken, "#!/bin/sh\necho the reason it failed\nexit 64\n").unwrap();
    let mut options = options(programs.path()).with_shared_kafka().await.unwrap();
    options.shards = 1;
    let error = Stack::start(options).await.unwrap_err().to_string();
    assert!(error.contains("consumer-1"), "{error}");
    assert!(error.contains("exit code 64"), "{error}");
    assert!(error.contains("the reason it failed"), "{error}");
}
