//! B13: frames of 1 KiB in, unmasked, parsed, checked and answered without the log: what an edge
//! does for every frame before it does anything. The bare program answers with as many bytes.

use super::Bench;
use crate::client::words;
use crate::pair::{Keep, Operation, Side, by_turns};
use crate::results::{Row, Target};
use crate::town::process;
use anyhow::Result;

pub(super) async fn run(bench: &mut Bench) -> Result<Vec<Row>> {
    let cores = bench.cores;
    let sockets = bench.pick(100, 100, 5);
    let messages = bench.pick(200_000, 150_000, 50);
    let town = bench.town().await?;
    let (_, channels) = town.channels(1).await?;
    town.pin(cores, &[town.receiving()])?;
    let target = town.target(channels);
    let whose = vec![process(town.receiving())?];
    let more = words(&[
        "--mode",
        "echo",
        "--sockets",
        &sockets.to_string(),
        "--payload",
        "1024",
        // One frame a socket on its way.
        "--burst",
        &sockets.to_string(),
        "--messages",
        &messages.to_string(),
    ]);
    let mut sides = vec![
        Side {
            name: "edge".to_owned(),
            version: String::new(),
            whose,
            load: bench.client("edge-B13", &target, &more).await?,
            operation: Operation::Delivery,
            keep: Keep::Nothing,
            failed: None,
        },
        bench
            .floor_side(
                &words(&["epoll-echo", "--answer-bytes", "27"]),
                1,
                &more,
                Operation::Delivery,
            )
            .await?,
    ];
    let warm_up = format!("messages={}", messages / 10);
    let say = |line: &str| bench.say(line);
    let samples = by_turns(&mut sides, bench.rounds(), &warm_up, "", &say).await?;
    let workload = format!("{sockets} sockets, frames of 1 KiB, each answered");
    let row = Row::new("B13", &workload, "CPU a frame, us", "edge")
        .compared("epoll-echo", &samples[0], &samples[1])
        .target(Target::AtLeast(0.9));
    for side in sides {
        side.end().await?;
    }
    Ok(vec![row])
}
