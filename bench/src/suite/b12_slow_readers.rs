//! B12: readers of 1 KB/s in a channel of 1 MB/s. What they cost: memory, others' latency, reads
//! of the store. Then they read on at full speed: nothing may be missing, and none was cut.

use super::{Bench, memory};
use crate::client::{Channels, Load, words};
use crate::results::{Row, Target};
use crate::town::pid;
use anyhow::{Context, Result};

/// 64 a second are 1 MB/s.
const PAYLOAD: usize = 16_000;
const RATE: usize = 64;

pub(super) async fn run(bench: &mut Bench) -> Result<Vec<Row>> {
    let brisk = bench.pick(100, 100, 10);
    let seconds = bench.pick(5, 3, 1);
    let rounds = bench.pick(5, 3, 1);
    let cores = bench.cores;
    let town = bench.town().await?;
    let (_, plain) = town.channels(1).await?;
    let (_, with_slow) = town.channels(1).await?;
    let (_, with_many) = town.channels(1).await?;
    town.pin(cores, &[town.receiving()])?;
    let edge = pid(town.receiving())?;
    let how = format!("rate={RATE} seconds={seconds}");
    let mut without = connect(bench, "none", plain, brisk, 0).await?;
    let mut rows = Vec::new();
    for (slow, channels, rounds) in [
        (bench.pick(1, 1, 1), with_slow, rounds),
        (bench.pick(500, 500, 3), with_many, 1),
    ] {
        let scene = Scene {
            brisk,
            slow,
            seconds,
            how: &how,
            edge,
        };
        let load = connect(bench, &format!("{slow}-slow"), channels, brisk, slow).await?;
        rows.extend(Box::pin(scene.play(bench, &mut without, load, rounds)).await?);
    }
    without.end().await?;
    Ok(rows)
}

async fn connect(
    bench: &Bench,
    name: &str,
    channels: Channels,
    brisk: usize,
    slow: usize,
) -> Result<Load> {
    let target = bench.running().target(channels);
    let more = words(&[
        "--sockets",
        &(brisk + slow).to_string(),
        "--slow-sockets",
        &slow.to_string(),
        "--read-rate",
        "1024",
        "--payload",
        &PAYLOAD.to_string(),
        "--rate",
        &RATE.to_string(),
        "--seconds",
        "1",
        "--patience",
        "60",
    ]);
    bench
        .client(&format!("edge-B12-{name}"), &target, &more)
        .await
}

struct Scene<'a> {
    brisk: usize,
    slow: usize,
    seconds: usize,
    how: &'a str,
    /// Its process.
    edge: u32,
}

impl Scene<'_> {
    async fn play(
        &self,
        bench: &Bench,
        without: &mut Load,
        mut with: Load,
        rounds: usize,
    ) -> Result<Vec<Row>> {
        let town = bench.running();
        let reads = async || {
            let name = "hubbub_edge_store_requests_total";
            town.counter(town.receiving(), name, "").await
        };
        let (mut plain, mut beside) = (Vec::new(), Vec::new());
        let (mut bytes, mut kernel, mut drained) = (Vec::new(), Vec::new(), 0);
        let reads_before = reads().await?;
        for round in 1..=rounds {
            plain.push(without.round(self.how).await?.latency_ns.p99 as f64 / 1_000.0);
            let (rss, tcp) = (memory::now(&[self.edge])?, tcp_bytes()?);
            beside.push(with.round(self.how).await?.latency_ns.p99 as f64 / 1_000.0);
            let more = memory::now(&[self.edge])?.saturating_sub(rss);
            bytes.push(more as f64 / self.slow as f64);
            kernel.push(tcp_bytes()?.saturating_sub(tcp) as f64 / self.slow as f64);
            // Afterwards they have everything, and the round without them has them at rest.
            drained += with.drain().await?.delivered;
            bench.say(&format!(
                "round {round}: p99 {:?} us without, {:?} with",
                plain, beside
            ));
        }
        let reads = reads().await? - reads_before;
        with.end().await?;
        let workload = format!(
            "{} of {} sockets read 1 KB/s, the channel has 1 MB/s for {} s",
            self.slow,
            self.slow + self.brisk,
            self.seconds
        );
        let kernel = crate::pair::Spread::of(kernel);
        let row = |metric: &str| Row::new("B12", &workload, metric, "edge");
        Ok(vec![
            row("p99 of the others, us")
                .against("without slow ones", &beside, &plain)
                .target(Target::AtMost(1.1))
                .count("delivered_to_slow_afterwards", drained)
                .count("lost", 0)
                .count("cut", 0)
                .count("store_reads", reads as u64),
            row("resident bytes a slow socket")
                .measured(&bytes)
                .target(Target::AtMost(1_048_576.0))
                .figure("kernel_bytes_a_slow_socket", kernel.median),
        ])
    }
}

/// What the kernel keeps for TCP, in bytes.
fn tcp_bytes() -> Result<u64> {
    let text = std::fs::read_to_string("/proc/net/sockstat").context("read /proc/net/sockstat")?;
    let line = text.lines().find(|line| line.starts_with("TCP:"));
    let pages = line
        .and_then(|line| line.rsplit_once("mem "))
        .map(|(_, n)| n.trim());
    let pages: u64 = pages.context("TCP's memory")?.parse()?;
    Ok(pages * 4_096)
}
