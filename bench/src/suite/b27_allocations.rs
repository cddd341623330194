//! B27: allocations of the edge, on the Rust side, counted one by one: for each delivery, for
//! each message that comes from the bus, and for each one that a client sends. A channel with one
//! listener and one with many tell the first two apart.

use super::Bench;
use crate::client::{Load, Target as Address, words};
use crate::program::Program;
use crate::results::{Row, Target};
use crate::town::ws_url;
use anyhow::{Context, Result};
use std::time::Duration;
use tokio::time::{Instant, sleep};

const START: Duration = Duration::from_secs(90);
const ANSWER: Duration = Duration::from_secs(10);
/// What an edge allocates while nothing happens is measured for so long.
const CALM: Duration = Duration::from_secs(3);
/// On their way at once.
const BURST: usize = 16;

pub(super) async fn run(bench: &mut Bench) -> Result<Vec<Row>> {
    let many = bench.pick(200, 200, 10);
    let messages = bench.pick(3_200, 1_600, 64);
    let town = bench.town().await?;
    let (_, for_many) = town.channels(1).await?;
    let (_, for_one) = town.channels(1).await?;
    let (_, for_sender) = town.channels(1).await?;
    let town = bench.running();
    let program = bench.tools.join("counted-edge");
    let env = town.edge_env("counted");
    let mut edge = Program::start("counted-edge", &program, &[], &env, &bench.dir)?;
    let event = edge.event("listening", START).await?;
    let addr = event["addr"].as_str().context("where it listens")?;
    let counted = format!("ws://{addr}/ws");

    let at_counted = |address: Address| Address {
        url: counted.clone(),
        ..address
    };
    let mut loads = Vec::new();
    for (name, channels, sockets) in [("many", for_many, many), ("one", for_one, 1)] {
        let target = at_counted(town.target(channels));
        let more = words(&["--sockets", &sockets.to_string(), "--payload", "128"]);
        loads.push(
            bench
                .client(&format!("counted-{name}"), &target, &more)
                .await?,
        );
    }
    let target = Address {
        url: ws_url(town.receiving()),
        publish_url: Some(counted.clone()),
        ..town.target(for_sender)
    };
    let more = words(&["--sockets", "1", "--payload", "128"]);
    loads.push(bench.client("counted-sender", &target, &more).await?);

    let how = format!("messages={messages} burst={BURST}");
    for load in &mut loads {
        load.round(&how).await?;
    }
    let calm = calm(&mut edge).await?;
    let mut found = Vec::new();
    for _ in 0..bench.rounds() {
        let mut blocks = [0.0; 3];
        for (load, blocks) in loads.iter_mut().zip(&mut blocks) {
            *blocks = blocks_of(&mut edge, load, &how, calm).await? / messages as f64;
        }
        let [of_many, of_one, of_sender] = blocks;
        let delivery = (of_many - of_one) / (many - 1) as f64;
        bench.say(&format!(
            "{delivery:.3} a delivery, {:.2} a message in, {of_sender:.2} a message sent",
            of_one - delivery
        ));
        found.push((delivery.max(0.0), of_one - delivery, of_sender));
    }
    for load in loads {
        load.end().await?;
    }
    edge.end().await?;
    let values = |pick: fn(&(f64, f64, f64)) -> f64| found.iter().map(pick).collect::<Vec<_>>();
    let workload = format!("channels with 1 and {many} sockets, bursts of {BURST}");
    let row = |metric: &str| {
        let row = Row::new("B27", &workload, metric, "edge");
        row.figure("calm_allocations_a_second", calm)
    };
    Ok(vec![
        row("allocations a delivery")
            .measured(&values(|(delivery, ..)| *delivery))
            // None, but for what else happens meanwhile.
            .target(Target::AtMost(0.01)),
        row("allocations a message from the bus")
            .measured(&values(|(_, inbound, _)| *inbound))
            .target(Target::AtMost(4.0)),
        row("allocations a message that a client sends")
            .measured(&values(|(.., sent)| *sent))
            .target(Target::AtMost(4.0)),
    ])
}

async fn total(edge: &mut Program) -> Result<f64> {
    edge.say("blocks?").await?;
    let event = edge.event("blocks", ANSWER).await?;
    Ok(event["total"].as_u64().context("a number of blocks")? as f64)
}

/// Allocations a second while nothing happens.
async fn calm(edge: &mut Program) -> Result<f64> {
    let before = total(edge).await?;
    let begun = Instant::now();
    sleep(CALM).await;
    Ok((total(edge).await? - before) / begun.elapsed().as_secs_f64())
}

/// Allocations of one round, less those that would have been there without it.
async fn blocks_of(edge: &mut Program, load: &mut Load, how: &str, calm: f64) -> Result<f64> {
    let before = total(edge).await?;
    let begun = Instant::now();
    load.round(how).await?;
    let blocks = total(edge).await? - before;
    Ok(blocks - calm * begun.elapsed().as_secs_f64())
}
