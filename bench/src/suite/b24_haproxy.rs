//! B24: HAProxy in the path: its own CPU a delivery, paced and in bursts. Nothing to be held
//! against but the edge behind it.

use super::Bench;
use crate::client::words;
use crate::pair::{Keep, Operation, Side, by_turns};
use crate::process::Whose;
use crate::results::Row;
use crate::town::{pid, process};
use anyhow::Result;

pub(super) async fn run(bench: &mut Bench) -> Result<Vec<Row>> {
    let cores = bench.cores;
    let sockets = bench.pick(1_000, 1_000, 20);
    let town = bench.town().await?;
    let (_, channels) = town.channels(1).await?;
    let haproxy = town.stack.haproxy();
    town.pin(cores, &[haproxy])?;
    let mut target = town.target(channels);
    target.url = town.stack.ws_url();
    target.publish_url = Some(town.stack.ws_url());
    let edges = vec![process(town.publishing())?, process(town.receiving())?];
    let whose = vec![Whose::Family(pid(haproxy)?)];
    let more = words(&["--sockets", &sockets.to_string(), "--payload", "128"]);
    let mut sides = [Side {
        name: "HAProxy".to_owned(),
        version: String::new(),
        whose,
        load: bench.client("haproxy", &target, &more).await?,
        operation: Operation::Delivery,
        keep: Keep::Nothing,
        failed: None,
    }];
    let mut rows = Vec::new();
    for (burst, messages) in [
        (1, bench.pick(200, 100, 5)),
        (16, bench.pick(1_600, 960, 32)),
    ] {
        let how = format!("messages={messages} burst={burst}");
        let meter = crate::process::Meter::start(&edges)?;
        let say = |line: &str| bench.say(line);
        let samples = by_turns(&mut sides, bench.rounds(), &how, &how, &say).await?;
        // The warm-up is among what the edges used.
        let all = (bench.rounds() + 1) as u64 * samples[0][0].operations;
        let edges_us = meter.used()?.total_ns() as f64 / 1_000.0 / all.max(1) as f64;
        let costs: Vec<f64> = samples[0].iter().map(|s| s.cost_ns() / 1_000.0).collect();
        let workload = format!("{sockets} sockets in one channel, bursts of {burst}");
        rows.push(
            Row::new("B24", &workload, "CPU a delivery, us", "HAProxy")
                .measured(&costs)
                .counted(&samples[0])
                .figure("both_edges_us_a_delivery", edges_us),
        );
    }
    for side in sides {
        side.end().await?;
    }
    Ok(rows)
}
