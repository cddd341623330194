//! A reader of the dashboard's stream of events, as cheap as can be.

use crate::http;
use anyhow::{Context, Result, bail, ensure};
use hubbub_protocol::PodId;
use hubbub_protocol::events::{DashboardChange, DashboardSnapshot, PodRow, PodStanding, Totals};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

/// Whatever is waited for is there by then.
const PATIENCE: Duration = Duration::from_secs(30);

/// What the events so far add up to.
#[derive(Debug, Clone)]
pub(super) struct Picture {
    /// Every pod with a lease has told.
    pub(super) complete: bool,
    /// Everything together.
    pub(super) totals: Totals,
    pods: BTreeMap<PodId, PodRow>,
    /// When the last event was here.
    at: Instant,
}

impl Picture {
    /// It has so many pods, and each of them tells.
    pub(super) fn is_of(&self, pods: usize) -> bool {
        let mut rows = self.pods.values();
        let reports = rows.all(|row| row.state == PodStanding::Reporting);
        self.complete && self.pods.len() == pods && reports
    }

    fn take(&mut self, event: &str, data: &str) -> Result<()> {
        let (complete, totals, rows) = match event {
            "snapshot" => {
                let all: DashboardSnapshot = serde_json::from_str(data)?;
                self.pods.clear();
                (all.complete, all.totals, all.pods)
            }
            "change" => {
                let change: DashboardChange = serde_json::from_str(data)?;
                self.pods.retain(|pod, _| !change.pods_gone.contains(pod));
                (change.complete, change.totals, change.pods)
            }
            // Of a newer server.
            _ => return Ok(()),
        };
        self.complete = complete;
        self.totals = totals;
        let rows = rows.into_iter().map(|row| (row.pod.clone(), row));
        self.pods.extend(rows);
        self.at = Instant::now();
        Ok(())
    }
}

/// Somebody who looks. Dropping it closes the stream.
#[derive(Debug)]
pub(super) struct Stream {
    opened: Instant,
    picture: watch::Receiver<Picture>,
    bytes: Arc<AtomicU64>,
    _task: JoinSet<()>,
}

impl Stream {
    /// Opens a stream with 200 rows. `token` is a header with its line end.
    pub(super) async fn open(addr: SocketAddr, token: &str) -> Result<Self> {
        let opened = Instant::now();
        let socket = timeout(PATIENCE, TcpStream::connect(addr)).await;
        let mut socket = socket.context("no connection in time")??;
        socket.set_nodelay(true)?;
        // In HTTP/1.1 the events would come in chunks; here the bytes are the events.
        let request = http::request(addr, "/api/events?top=200", token);
        let request = String::from_utf8(request)?.replacen("HTTP/1.1", "HTTP/1.0", 1);
        socket.write_all(request.as_bytes()).await?;
        let (sender, picture) = watch::channel(Picture {
            complete: false,
            totals: Totals::default(),
            pods: BTreeMap::new(),
            at: opened,
        });
        let bytes: Arc<AtomicU64> = Arc::default();
        let (counted, mut task) = (Arc::clone(&bytes), JoinSet::new());
        task.spawn(async move {
            if let Err(error) = read(socket, &sender, &counted).await {
                eprintln!("    a stream of the dashboard: {error:#}");
            }
        });
        Ok(Self {
            opened,
            picture,
            bytes,
            _task: task,
        })
    }

    /// Waits until the picture is so; gives the moment when it was.
    pub(super) async fn until(
        &mut self,
        what: &str,
        holds: impl FnMut(&Picture) -> bool,
    ) -> Result<Instant> {
        let found = timeout(PATIENCE, self.picture.wait_for(holds)).await;
        // What is lent out of the channel goes back here.
        let ended = match found.map(|found| found.map(|picture| picture.at)) {
            Ok(Ok(at)) => return Ok(at),
            Ok(Err(_)) => "the stream ended".to_owned(),
            Err(_) => format!("not within {PATIENCE:?}"),
        };
        bail!("{what}: {ended}: {:?}", *self.picture.borrow());
    }

    /// How long it took from the first byte to the picture of so many pods.
    pub(super) async fn until_complete(&mut self, pods: usize) -> Result<Duration> {
        let what = format!("picture of {pods} pods");
        let at = self.until(&what, |picture| picture.is_of(pods)).await?;
        Ok(at - self.opened)
    }

    /// What has come so far, without the answer's head.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
}

/// Reads until the stream ends.
async fn read(socket: TcpStream, sender: &watch::Sender<Picture>, bytes: &AtomicU64) -> Result<()> {
    let mut lines = BufReader::new(socket).lines();
    let status = lines.next_line().await?.unwrap_or_default();
    ensure!(status.split(' ').nth(1) == Some("200"), "{status}");
    while let Some(header) = lines.next_line().await? {
        if header.is_empty() {
            break;
        }
        let header = header.to_ascii_lowercase();
        ensure!(!header.contains("chunked"), "{header}");
    }
    let (mut event, mut data) = (String::new(), String::new());
    while let Some(line) = lines.next_line().await? {
        bytes.fetch_add(line.len() as u64 + 1, Ordering::Relaxed);
        if let Some(name) = line.strip_prefix("event: ") {
            name.clone_into(&mut event);
        } else if let Some(text) = line.strip_prefix("data: ") {
            text.clone_into(&mut data);
        } else if line.is_empty() && !event.is_empty() {
            let mut taken = Ok(());
            sender.send_modify(|picture| taken = picture.take(&event, &data));
            taken.with_context(|| format!("understand {event}: {data}"))?;
            event.clear();
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn picture_is_complete_when_every_pod_reports() {
        let mut picture = Picture {
            complete: false,
            totals: Totals::default(),
            pods: BTreeMap::new(),
            at: Instant::now(),
        };
        let row = |pod: &str, state: &str| {
            format!(
                r#"{{"pod":"{pod}","region":"","sockets":1,"channels":0,"messages_per_s":0,"state":"{state}"}}"#
            )
        };
        let event = |complete: bool, rows: &[String]| {
            format!(
                r#"{{"at_ms":1,"complete":{complete},"missing":[],"totals":{{"pods":2,"sockets":2,"channels":0,"messages_per_s":0}},"pods":[{}],"channels":[],"more":0}}"#,
                rows.join(",")
            )
        };
        let first = event(false, &[row("a", "reporting"), row("b", "silent")]);
        picture.take("snapshot", &first).expect("a snapshot");
        assert!(!picture.is_of(2));
        let change = event(true, &[row("b", "reporting")]);
        picture.take("change", &change).expect("a change");
        assert!(picture.is_of(2) && !picture.is_of(3));
        assert_eq!(picture.totals.sockets, 2);
        picture.take("later", "?").expect("no event of ours");
        assert!(picture.take("change", "?").is_err());
    }
}
