//! Every peer serves what the load client says to it: one publisher, three subscribers.
//!
//! What this machine cannot have is told and passed over, except where CI=true: there everything
//! that the suite installs by itself must be had.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hubbub_bench::peers::{self, Peer, Running, Settings};
use hubbub_stack::{Durability, Port, Postgres, environment};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    process::Command,
    time::timeout,
};

/// For an installation, and for a run.
const PATIENCE: Duration = Duration::from_secs(240);
const MESSAGES: u64 = 40;

/// Starts a peer; `None` if this machine does not have it.
async fn started(peer: Peer, settings: &Settings) -> Result<Option<Running>> {
    if peer.is_packaged_by_debian() {
        tokio::task::spawn_blocking(|| peers::debian::install(true)).await??;
    }
    match timeout(PATIENCE, peers::start(peer, settings)).await? {
        Ok(running) => Ok(Some(running)),
        Err(absent) if !absent.broken && environment::var("CI").is_none() => {
            println!("{} is not here: {absent}", peer.name());
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

/// Runs the load client once and gives its figures.
async fn load(running: &Running, more: &[&str]) -> Result<Value> {
    let mut load = Command::new(env!("CARGO_BIN_EXE_load"));
    load.args([
        "--once",
        "--dialect",
        running.dialect,
        "--url",
        &running.url,
    ]);
    if let Some(url) = &running.publish_url {
        load.args(["--publish-url", url]);
    }
    let messages = MESSAGES.to_string();
    load.args(["--sockets", "3", "--burst", "4", "--messages", &messages]);
    let output = load.args(more).kill_on_drop(true).output();
    let output = timeout(PATIENCE, output).await??;
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(
        output.status.success(),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let last = said.lines().last().context("it says something")?;
    let figures: Value = serde_json::from_str(last)?;
    ensure!(figures["event"] == "done", "{last}");
    Ok(figures)
}

/// Everything that was published reaches everybody once and in order; the processes named are
/// those that did it, and they end with the peer.
async fn serves(peer: Peer) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let settings = Settings {
        dir: dir.path().to_owned(),
        cpu: Some(0),
        ..Settings::default()
    };
    let Some(running) = started(peer, &settings).await? else {
        return Ok(());
    };
    let figures = load(&running, &[]).await?;
    assert_eq!(figures["delivered"], 3 * MESSAGES, "{figures}");
    for none in ["lost", "duplicated", "misordered"] {
        assert_eq!(figures[none], 0, "{figures}");
    }
    assert!(running.version.contains(char::is_numeric));
    let pids = running.pids.clone();
    assert!(running.receiver_pids.iter().all(|pid| pids.contains(pid)));
    let mut worked = 0;
    for pid in &pids {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        let allowed = status
            .lines()
            .find(|line| line.starts_with("Cpus_allowed_list"));
        assert!(
            allowed.is_some_and(|line| line.ends_with("\t0")),
            "{status}"
        );
        let stat = std::fs::read_to_string(format!("/proc/{pid}/schedstat"))?;
        let ran_ns: u64 = stat.split(' ').next().context("a figure")?.parse()?;
        worked += ran_ns;
    }
    assert!(worked > 0);
    running.stop().await;
    for pid in pids {
        assert!(
            !std::path::Path::new(&format!("/proc/{pid}")).exists(),
            "{pid} is there"
        );
    }
    Ok(())
}

#[tokio::test]
async fn ws() -> Result<()> {
    serves(Peer::Ws).await
}

#[tokio::test]
async fn socketio() -> Result<()> {
    serves(Peer::SocketIo).await
}

#[tokio::test]
async fn socketio_with_redis_between_two_servers() -> Result<()> {
    serves(Peer::SocketIoRedis).await
}

#[tokio::test]
async fn nchan() -> Result<()> {
    serves(Peer::Nchan).await
}

#[tokio::test]
async fn nats() -> Result<()> {
    serves(Peer::Nats).await
}

/// A body of `GET url`.
async fn get(url: &str) -> Result<String> {
    let rest = url.strip_prefix("http://").context("an HTTP address")?;
    let (addr, path) = rest.split_once('/').context("a path")?;
    let mut stream = TcpStream::connect(addr).await?;
    let request = format!("GET /{path} HTTP/1.1\r\nhost: {addr}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    timeout(PATIENCE, stream.read_to_string(&mut answer)).await??;
    let (head, body) = answer.split_once("\r\n\r\n").context("a head and a body")?;
    ensure!(head.starts_with("HTTP/1.1 200"), "{head}");
    Ok(body.to_owned())
}

#[tokio::test]
async fn express_answers_so_many_bytes() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let settings = Settings {
        dir: dir.path().to_owned(),
        ..Settings::default()
    };
    let Some(running) = started(Peer::ExpressHello, &settings).await? else {
        return Ok(());
    };
    for bytes in [12, 13_800] {
        let body = get(&format!("{}/{bytes}", running.url)).await?;
        assert_eq!(body.len(), bytes);
    }
    running.stop().await;
    Ok(())
}

#[tokio::test]
async fn express_reads_pages_of_a_shard() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let home = dir.path().join("postgres");
    let postgres =
        Postgres::launch("postgres", &home, Port::free()?, Durability::ThrowAway).await?;
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../migrations/shard");
    let mut files: Vec<_> = std::fs::read_dir(root)?.collect::<Result<_, _>>()?;
    files.sort_by_key(std::fs::DirEntry::file_name);
    for file in files {
        postgres
            .sql("postgres", &std::fs::read_to_string(file.path())?)
            .await?;
    }
    let rows = "insert into messages
            (channel_id, seq, kind, sender_id, client_msg_id, ts_ms, ordinal, body)
        select 5, n, 1, 1, gen_random_uuid(), n, n, '{\"type\":\"message\",\"text\":\"' || n || '\"}'
        from generate_series(1, 120) n";
    postgres.sql("postgres", rows).await?;
    let settings = Settings {
        dir: dir.path().to_owned(),
        postgres_url: Some(postgres.url("postgres")),
        ..Settings::default()
    };
    let Some(running) = started(Peer::ExpressPg, &settings).await? else {
        return Ok(());
    };
    for (query, first, last) in [("", 71, 120), ("?before=71&limit=30", 41, 70)] {
        let body = get(&format!("{}/C000000005/messages{query}", running.url)).await?;
        let page: Value = serde_json::from_str(&body)?;
        let messages = page["messages"].as_array().context("a page")?;
        assert_eq!(messages.len(), last - first + 1);
        assert_eq!(messages[0]["seq"], first);
        assert_eq!(messages[messages.len() - 1]["text"], last.to_string());
    }
    running.stop().await;
    Ok(())
}
