//! What Redis is told meanwhile.

use anyhow::{Context, Result};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

/// Commands that were seen.
#[derive(Debug, Default)]
pub(super) struct Heard {
    /// Of any kind.
    pub(super) all: u64,
    /// On `dashboard`, on `pods`, and listings of leases.
    pub(super) for_dashboard: Vec<String>,
}

/// Listens to every command for a while.
pub(super) async fn listen(redis: SocketAddr, window: Duration) -> Result<Heard> {
    let (read, mut write) = TcpStream::connect(redis).await?.into_split();
    write.write_all(b"MONITOR\r\n").await?;
    let mut lines = BufReader::new(read).lines();
    lines.next_line().await?.context("no answer to MONITOR")?;
    let end = Instant::now() + window;
    let mut heard = Heard::default();
    while let Ok(line) = timeout_at(end, lines.next_line()).await {
        let line = line?.context("Redis closed the connection")?;
        heard.all += 1;
        let words = ["\"dashboard\"", "\"pods\"", "\"SCAN\"", "snapshot"];
        if words.iter().any(|word| line.contains(word)) {
            heard.for_dashboard.push(line);
        }
    }
    Ok(heard)
}
