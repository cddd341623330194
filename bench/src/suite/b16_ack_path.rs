//! B16: a message from its frame to its `ok`: checked, appended to the log, acknowledged,
//! published. Nobody listens, in 1,000 channels. The bare program reads the frame, appends with
//! librdkafka and answers.

use super::Bench;
use super::b4_full_path::relay_floor;
use crate::client::words;
use crate::pair::{Keep, Operation, Sample, Side, by_turns};
use crate::results::{Row, Target};
use crate::town::process;
use anyhow::Result;

pub(super) async fn run(bench: &mut Bench) -> Result<Vec<Row>> {
    let cores = bench.cores;
    let channels = bench.pick(1_000, 1_000, 10);
    let messages = bench.pick(30_000, 20_000, 64);
    let mut floor = relay_floor(bench).await?;
    "log-floor".clone_into(&mut floor[0]);
    let town = bench.town().await?;
    let (_, file) = town.channels(channels).await?;
    town.pin(cores, &[town.publishing()])?;
    let target = town.target(file);
    let whose = vec![process(town.publishing())?];
    let more = words(&[
        "--sockets",
        "0",
        "--acks",
        "--publishers",
        "10",
        "--burst",
        "256",
        "--messages",
        &messages.to_string(),
    ]);
    let mut sides = vec![
        Side {
            name: "edge".to_owned(),
            version: String::new(),
            whose,
            load: bench.client("edge-B16", &target, &more).await?,
            operation: Operation::Acknowledgement,
            keep: Keep::Nothing,
            failed: None,
        },
        bench
            .floor_side(&floor, channels, &more, Operation::Acknowledgement)
            .await?,
    ];
    let warm_up = format!("messages={}", messages / 5);
    let rounds = bench.rounds();
    let say = |line: &str| bench.say(line);
    let samples = by_turns(&mut sides, rounds, &warm_up, "", &say).await?;
    let paced = format!("rate=100 seconds={} burst=1", bench.pick(10, 5, 1));
    let slow = by_turns(
        &mut sides,
        rounds,
        "rate=100 seconds=1 burst=1",
        &paced,
        &say,
    )
    .await?;
    let alone_how = format!("messages={} burst=1", bench.pick(1_000, 500, 10));
    let alone = sides[0].measure(&alone_how).await?;

    let workload = format!("{channels} channels, 10 sockets, 256 messages on their way");
    let rate = |sample: &Sample| sample.figures.acked as f64 * 1e9 / sample.figures.wall_ns as f64;
    let rates: Vec<f64> = samples[0].iter().map(rate).collect();
    let one_by_one = rate(&alone);
    let acks = |samples: &[Sample]| -> Vec<f64> {
        let all = samples.iter();
        all.map(|sample| sample.figures.ack_latency_ns.p50 as f64 / 1_000.0)
            .collect()
    };
    let rows = vec![
        Row::new("B16", &workload, "CPU a message, us", "edge")
            .compared("log-floor", &samples[0], &samples[1])
            .target(Target::AtLeast(0.8)),
        Row::new("B16", "100 messages a second", "ack p50, us", "edge")
            .against("log-floor", &acks(&slow[0]), &acks(&slow[1]))
            .target(Target::AtMost(1.2)),
        Row::new("B16", &workload, "messages a second", "edge")
            .against(
                "edge, one at a time",
                &rates,
                &vec![one_by_one; rates.len()],
            )
            .target(Target::AtLeast(20.0)),
    ];
    for side in sides {
        side.end().await?;
    }
    Ok(rows)
}
