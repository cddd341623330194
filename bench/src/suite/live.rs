//! What people see live, on four edges behind HAProxy and two API servers: the dashboard's first
//! picture, the quiet after the last look, a pod that is started meanwhile, the bytes of a stream;
//! and who listens to a channel, with all pods and with one that stands still.

mod monitor;
mod stream;
mod who;

use super::Bench;
use crate::client::{Load, words};
use crate::http;
use crate::results::{Row, Target};
use crate::town::{Size, Town};
use anyhow::{Context, Result, ensure};
use hubbub_protocol::events::ConnectionsPage;
use std::net::SocketAddr;
use std::time::Duration;
use stream::Stream;
use tokio::time::{Instant, sleep};

/// Edges of the town.
const EDGES: usize = 4;
/// Sockets need two descriptors each in HAProxy.
const FILES: u64 = 12_000;
/// Pods are quiet by then.
const QUIET: Duration = Duration::from_secs(30);
/// Between two looks at a pod's metrics.
const LOOK: Duration = Duration::from_millis(2);
/// Rows of a page of `GET /api/connections`.
const PAGE: usize = 200;
/// What is promised of the picture and of the quiet, and of a pod that starts.
const PROMISE_MS: f64 = 500.0;
const POD_PROMISE_MS: f64 = 1_000.0;

/// A dashboard behind a front.
struct Watched<'a> {
    town: &'a Town,
    front: SocketAddr,
    /// A header with its line end.
    token: &'a str,
}

pub(super) async fn run(bench: &mut Bench) -> Result<Vec<Row>> {
    let (sockets, channels) = bench.pick((5_000, 500), (5_000, 500), (40, 4));
    if sockets > 1_000 {
        hubbub_service::config::check_nofile(FILES)?;
    }
    // Four edges are of this one alone, and so are the sockets.
    let size = Size {
        edges: EDGES,
        apis: 2,
    };
    let town = bench.town_of(size).await?;
    let (ids, file) = town.channels(channels).await?;
    let town = bench.running();
    let token = format!("Authorization: Bearer {}\r\n", town.everybodys_token()?);
    let watched = Watched {
        town,
        front: town.stack.haproxy().front(),
        token: &token,
    };
    let nobody = "the dashboard, nobody connected";
    let times = bench.pick(20, 10, 2);
    let mut rows = watched.looks(nobody, times).await?;
    rows.push(watched.pod_starts(bench.pick(5, 3, 1)).await?);

    let rate = bench.pick(100, 100, 40);
    let mut target = town.target(file);
    target.url = town.stack.ws_url();
    target.publish_url = Some(town.stack.ws_url());
    let more = words(&[
        "--sockets",
        &sockets.to_string(),
        "--rate",
        &rate.to_string(),
        "--seconds",
        "1",
    ]);
    let mut load = bench.client("live", &target, &more).await?;
    let crowd = format!("the dashboard, {sockets} sockets in {channels} channels");
    rows.extend(watched.looks(&crowd, times).await?);
    let window = Duration::from_secs(bench.pick(10, 5, 1));
    rows.extend(watched.bytes(&crowd, &mut load, rate, window).await?);
    watched.counts(sockets, channels).await?;
    rows.push(watched.silence(&crowd, &mut load, rate, window).await?);
    rows.extend(who::run(bench, ids[0], sockets / channels, &token).await?);
    load.end().await?;
    bench.leave_town().await;
    Ok(rows)
}

impl Watched<'_> {
    async fn open(&self) -> Result<Stream> {
        Stream::open(self.front, self.token).await
    }

    /// Waits until no pod is watched.
    async fn until_quiet(&self) -> Result<()> {
        let begun = Instant::now();
        for edge in self.town.stack.edges() {
            let name = "hubbub_edge_dashboard_watchers";
            while self.town.counter(edge, name, "").await? > 0.0 {
                ensure!(begun.elapsed() < QUIET, "{} is not quiet", edge.name());
                sleep(LOOK).await;
            }
        }
        Ok(())
    }

    /// Somebody looks, and goes as soon as everything is shown; again and again.
    async fn looks(&self, workload: &str, times: usize) -> Result<Vec<Row>> {
        let (mut complete, mut quiet) = (Vec::new(), Vec::new());
        self.until_quiet().await?;
        for _ in 0..times {
            let mut stream = self.open().await?;
            complete.push(stream.until_complete(EDGES).await?);
            let gone = Instant::now();
            drop(stream);
            self.until_quiet().await?;
            quiet.push(gone.elapsed());
        }
        let row = |metric: &str, took: &[Duration]| {
            let row = slowest(workload, metric, took);
            row.count("looks", times as u64)
                .target(Target::AtMost(PROMISE_MS))
        };
        Ok(vec![
            row("slowest first picture of all pods, ms", &complete),
            row("slowest quiet after the last look, ms", &quiet),
        ])
    }

    /// A pod is started while somebody looks.
    async fn pod_starts(&self, times: usize) -> Result<Row> {
        let pod = self.town.stack.edge(EDGES - 1);
        let (mut shown, mut since_spawn) = (Vec::new(), Vec::new());
        for _ in 0..times {
            pod.stop().await;
            let mut stream = self.open().await?;
            stream.until_complete(EDGES - 1).await?;
            let spawned = Instant::now();
            pod.start().await?;
            // It may be in the picture before its readiness was asked for.
            let ready = Instant::now();
            let what = format!("picture of {EDGES} pods");
            let at = stream.until(&what, |picture| picture.is_of(EDGES)).await?;
            shown.push(at.saturating_duration_since(ready));
            since_spawn.push(at - spawned);
        }
        self.until_quiet().await?;
        let workload = "the dashboard, a pod is started while somebody looks";
        let metric = "slowest from ready to being in the picture, ms";
        let spawned = slowest(workload, metric, &since_spawn).ours.max;
        Ok(slowest(workload, metric, &shown)
            .count("pods_started", times as u64)
            .figure("slowest_from_the_spawn_ms", spawned)
            .target(Target::AtMost(POD_PROMISE_MS)))
    }

    /// What a stream brings a second, while nobody says anything and while they do.
    async fn bytes(
        &self,
        workload: &str,
        load: &mut Load,
        rate: usize,
        window: Duration,
    ) -> Result<Vec<Row>> {
        let mut stream = self.open().await?;
        stream.until_complete(EDGES).await?;
        let first = stream.bytes();
        sleep(window).await;
        let idle = stream.bytes() - first;
        let how = format!("rate={rate} seconds={}", window.as_secs());
        let begun = Instant::now();
        let said = load.round(&how).await?;
        let busy = stream.bytes() - first - idle;
        let row = |what: &str, bytes: u64, seconds: f64| {
            let metric = format!("bytes a second of a stream, {what}");
            Row::new("live", workload, &metric, "API server")
                .measured(&[bytes as f64 / seconds])
                .figure("bytes_of_the_first_picture", first as f64)
        };
        let quiet = row("nothing said", idle, window.as_secs_f64());
        let what = format!("{rate} messages a second");
        let busy = row(&what, busy, begun.elapsed().as_secs_f64());
        drop(stream);
        self.until_quiet().await?;
        Ok(vec![
            quiet,
            busy.count("messages", said.sent)
                .count("delivered", said.delivered)
                .count("lost", said.lost),
        ])
    }

    /// The picture has every socket (and the one that speaks), and the pages every channel.
    async fn counts(&self, sockets: usize, channels: usize) -> Result<()> {
        let mut stream = self.open().await?;
        let whole = |picture: &stream::Picture| {
            let totals = &picture.totals;
            let sums = (totals.sockets, totals.channels);
            picture.complete && sums == (sockets as u64 + 1, channels as u64)
        };
        stream.until("picture of all sockets", whole).await?;
        let (mut rows, mut connections) = (0, 0);
        while rows < channels {
            let page = self.page(rows).await?;
            ensure!(
                page.total == channels as u64 && !page.items.is_empty(),
                "{} of {channels} channels",
                page.total
            );
            rows += page.items.len();
            connections += page.items.iter().map(|row| row.connections).sum::<u64>();
        }
        ensure!(
            connections == sockets as u64,
            "{connections} of {sockets} connections"
        );
        drop(stream);
        self.until_quiet().await
    }

    /// A page of rows. A server where nobody looks begins to watch with the first question, and
    /// shows what it has when a pod is late.
    async fn page(&self, offset: usize) -> Result<ConnectionsPage> {
        let path = format!("/api/connections?offset={offset}&limit={PAGE}");
        let begun = Instant::now();
        loop {
            let page = http::get(self.front, &path, self.token).await?;
            let page: ConnectionsPage = serde_json::from_str(&page).context("a page of rows")?;
            if page.complete {
                return Ok(page);
            }
            ensure!(begun.elapsed() < QUIET, "a page is not complete");
        }
    }

    /// People talk, and nobody looks.
    async fn silence(
        &self,
        workload: &str,
        load: &mut Load,
        rate: usize,
        window: Duration,
    ) -> Result<Row> {
        let how = format!("rate={rate} seconds={}", window.as_secs());
        let redis = self.town.stack.redis().addr();
        let (heard, said) = tokio::join!(monitor::listen(redis, window), load.round(&how));
        let (heard, said) = (heard?, said?);
        let found = heard.for_dashboard;
        if let Some(one) = found.first() {
            eprintln!("    Redis was told: {one}");
        }
        ensure!(heard.all > 0, "MONITOR shows commands");
        let workload = format!("{workload}, {rate} messages a second, nobody looks");
        let metric = "commands to Redis for the dashboard";
        Ok(Row::new("live", &workload, metric, "edges, API servers")
            .measured(&[found.len() as f64])
            .count("messages", said.sent)
            .count("delivered", said.delivered)
            .figure("commands_to_redis_in_all", heard.all as f64)
            .target(Target::AtMost(0.0)))
    }
}

/// A row of the slowest, with the others as figures.
fn slowest(workload: &str, metric: &str, took: &[Duration]) -> Row {
    let mut ms: Vec<f64> = took.iter().map(|one| one.as_secs_f64() * 1e3).collect();
    ms.sort_by(f64::total_cmp);
    let at = |share: f64| {
        let place = (ms.len() as f64 * share).ceil() as usize;
        let place = place.clamp(1, ms.len().max(1)) - 1;
        ms.get(place).copied().unwrap_or(0.0)
    };
    let mut row = Row::new("live", workload, metric, "edges, API servers");
    row = row.measured(&[at(1.0)]);
    row.rounds = ms.len();
    row.figure("p50_ms", at(0.5)).figure("p99_ms", at(0.99))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slowest_is_told_with_the_others() {
        let took: Vec<_> = (1..=200).rev().map(Duration::from_millis).collect();
        let row = slowest("w", "m", &took);
        assert!((row.ours.max - 200.0).abs() < 1e-9, "{row:?}");
        assert!((row.figures["p50_ms"] - 100.0).abs() < 1e-9, "{row:?}");
        assert!((row.figures["p99_ms"] - 198.0).abs() < 1e-9, "{row:?}");
        assert_eq!(row.rounds, 200);
    }
}
