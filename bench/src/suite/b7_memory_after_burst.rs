//! B7: 64 KB to each of 1,000 sockets at once, and what is left of it in memory 10 s later.

use super::{Bench, memory};
use crate::client::words;
use crate::results::{Row, Target};
use crate::town::pid;
use anyhow::Result;
use std::time::Duration;
use tokio::time::sleep;

/// A text may have 16 KiB.
const PAYLOAD: usize = 16_000;
/// Of those, 64 KB.
const MESSAGES: usize = 4;

pub(super) async fn run(bench: &mut Bench) -> Result<Vec<Row>> {
    let cores = bench.cores;
    let sockets = bench.pick(1_000, 1_000, 20);
    let rest = Duration::from_secs(bench.pick(10, 10, 1));
    let rounds = bench.pick(3, 2, 1);
    let (_, channels) = bench.town().await?.channels(1).await?;
    let (mut before, mut after) = (Vec::new(), Vec::new());
    let mut delivered = 0;
    for _ in 0..rounds {
        let town = bench.running();
        town.receiving().restart().await?;
        town.pin(cores, &[town.receiving()])?;
        let pids = [pid(town.receiving())?];
        let target = town.target(channels.clone());
        let more = words(&[
            "--sockets",
            &sockets.to_string(),
            "--payload",
            &PAYLOAD.to_string(),
            "--burst",
            &MESSAGES.to_string(),
            "--messages",
            &MESSAGES.to_string(),
        ]);
        let mut load = bench.client("edge-B7", &target, &more).await?;
        before.push(memory::settled(&pids).await? as f64);
        delivered += load.round("").await?.delivered;
        sleep(rest).await;
        after.push(memory::now(&pids)? as f64);
        load.end().await?;
    }
    let workload = format!(
        "64 KB to each of {sockets} sockets, {} s later",
        rest.as_secs()
    );
    let row = Row::new("B7", &workload, "resident bytes", "edge after")
        .against("edge before", &after, &before)
        .count("delivered", delivered)
        .target(Target::AtMost(1.15));
    Ok(vec![row])
}
