//! The sweep: what an edge and its shards use while 10, 10,000 and 100,000 feeds are open, with
//! nothing said, and with 100 messages a second in ten more. It must follow the change, not the
//! number of feeds.

use super::Bench;
use crate::client::words;
use crate::pair::Spread;
use crate::process::{Meter, Whose};
use crate::results::{Row, Target};
use crate::town::{pid, process};
use anyhow::{Result, ensure};
use std::time::Duration;
use tokio::time::sleep;

/// As many as a socket may join.
const JOINS: usize = 1_000;
/// Beside those feeds there are so many in which something is said: a client that listens takes
/// nothing from others.
const BUSY: usize = 10;
const RATE: usize = 100;

/// Milliseconds of CPU a second of each round: of the edge, of both shards.
#[derive(Debug, Default)]
struct Used {
    edge: Vec<f64>,
    shards: Vec<f64>,
}

pub(super) async fn run(bench: &mut Bench) -> Result<Vec<Row>> {
    let sizes = bench.pick(
        [10, 10_000, 100_000],
        [10, 10_000, 100_000],
        [10, 100, 2_000],
    );
    let mut found = Vec::new();
    for feeds in sizes {
        found.push((feeds, Box::pin(with_feeds(bench, feeds)).await?));
    }
    // What so many feeds have left behind belongs to no other benchmark.
    bench.leave_town().await;
    let mut rows = Vec::new();
    for (n, state) in ["idle", "busy"].into_iter().enumerate() {
        let few = &found[0].1[n];
        for (feeds, used) in &found {
            let used = &used[n];
            let workload = format!("{feeds} open feeds, {state}");
            let shards = Spread::of(used.shards.iter().copied()).median;
            let row = Row::new("sweep", &workload, "CPU a second, ms", "edge");
            let row = if *feeds == found[0].0 {
                row.measured(&used.edge)
            } else {
                let with = format!("{} feeds", found[0].0);
                row.against(&with, &used.edge, &few.edge)
                    .target(Target::AtMost(1.5))
            };
            rows.push(row.figure("shards_ms_a_second", shards));
        }
    }
    Ok(rows)
}

/// Idle, then busy.
async fn with_feeds(bench: &mut Bench, feeds: usize) -> Result<[Used; 2]> {
    let cores = bench.cores;
    let window = Duration::from_secs(bench.pick(8, 5, 1));
    let rounds = bench.pick(3, 2, 1);
    let settle = Duration::from_secs(bench.pick(10, 10, 1));
    let (_, quiet) = bench.town().await?.channels(feeds).await?;
    let (_, loud) = bench.town().await?.channels(BUSY).await?;
    let town = bench.running();
    town.receiving().restart().await?;
    town.pin(cores, &[town.receiving()])?;
    let edge = [process(town.receiving())?];
    let shards = [
        Whose::Family(pid(town.stack.shard(0))?),
        Whose::Family(pid(town.stack.shard(1))?),
    ];
    let sockets = feeds.div_ceil(JOINS);
    let joins = feeds.min(JOINS);
    let more = words(&[
        "--sockets",
        &sockets.to_string(),
        "--joins",
        &joins.to_string(),
    ]);
    let open = bench
        .client(&format!("feeds-{feeds}"), &town.target(quiet), &more)
        .await?;
    let more = words(&[
        "--sockets",
        "1",
        "--joins",
        &BUSY.to_string(),
        "--rate",
        &RATE.to_string(),
        "--seconds",
        "1",
    ]);
    let mut talk = bench
        .client(&format!("talk-{feeds}"), &town.target(loud), &more)
        .await?;
    talk.round("").await?;
    // What a join leaves to be done, its deadline among it, is no part of an idle second.
    sleep(settle).await;
    let mut found = [Used::default(), Used::default()];
    for _ in 0..rounds {
        for (n, used) in found.iter_mut().enumerate() {
            let meters = (Meter::start(&edge)?, Meter::start(&shards)?);
            if n == 0 {
                sleep(window).await;
            } else {
                talk.round(&format!("rate={RATE} seconds={}", window.as_secs()))
                    .await?;
            }
            let a_second = |meter: &Meter| -> Result<f64> {
                Ok(meter.used()?.total_ns() as f64 / 1e6 / window.as_secs_f64())
            };
            used.edge.push(a_second(&meters.0)?);
            used.shards.push(a_second(&meters.1)?);
        }
        bench.say(&format!(
            "{feeds} feeds: edge {:?} ms a second",
            found.each_ref().map(|u| &u.edge)
        ));
    }
    let there = town
        .counter(town.receiving(), "hubbub_edge_channels", "")
        .await?;
    ensure!(
        there == (feeds + BUSY) as f64,
        "{there} feeds are open, of {feeds} and {BUSY}"
    );
    talk.end().await?;
    open.end().await?;
    Ok(found)
}
