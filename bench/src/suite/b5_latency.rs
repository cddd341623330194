//! B5: latency of the whole way, open loop, at half of what the bare relay can do with ten
//! listeners, from the intended moment of sending. Everybody here waits for the log's
//! acknowledgement, so its share is measured at the same rate and shown apart.

use super::b4_full_path::{log_floor, relay_floor};
use super::{Bench, Mode};
use crate::client::{Percentiles, words};
use crate::pair::{Keep, Operation, Sample, Side, by_turns};
use crate::peers::Peer;
use crate::results::{Row, Target, Verdict};
use crate::town::process;
use anyhow::Result;

/// Listeners.
const SOCKETS: usize = 10;

pub(super) async fn run(bench: &mut Bench) -> Result<Vec<Row>> {
    let cores = bench.cores;
    let floor = relay_floor(bench).await?;
    // Without Redis: it would publish on the bare relay's channels.
    let log_floor = log_floor(bench).await?;
    let town = bench.town().await?;
    let (_, channels) = town.channels(1).await?;
    let (publishing, receiving) = (town.publishing(), town.receiving());
    town.pin(cores, &[publishing, receiving, town.stack.redis()])?;
    let whose = vec![process(publishing)?, process(receiving)?];
    let target = town.target(channels);
    let sockets = words(&["--sockets", &SOCKETS.to_string()]);
    let more = words(&["--payload", "128", "--burst", "1", "--messages", "1"]);
    let load = [&more[..], &sockets].concat();
    let with_acks = [&load[..], &words(&["--acks"])].concat();
    let acks_alone = [&more[..], &words(&["--sockets", "0", "--acks"])].concat();
    let mut sides = vec![
        Side {
            name: "edges".to_owned(),
            version: String::new(),
            whose,
            load: bench.client("edge-B5", &target, &load).await?,
            operation: Operation::Delivery,
            keep: Keep::Nothing,
            failed: None,
        },
        bench
            .floor_side(&floor, 1, &with_acks, Operation::Delivery)
            .await?,
        bench
            .floor_side(&log_floor, 1, &acks_alone, Operation::Acknowledgement)
            .await?,
    ];
    let (peers, missing) = bench
        .peer_sides(
            &[Peer::SocketIoRedis],
            1,
            &load,
            Operation::Delivery,
            &|| row("", "p99"),
        )
        .await?;
    sides.extend(peers);

    let rate = match bench.mode {
        Mode::Smoke => 50,
        Mode::Full | Mode::Quick => half_of_capacity(&mut sides[1]).await?,
    };
    let seconds = bench.pick(20, 8, 1);
    let how = format!("rate={rate} seconds={seconds}");
    let warm_up = format!("rate={rate} seconds=1");
    let say = |line: &str| bench.say(line);
    let samples = by_turns(&mut sides, bench.rounds(), &warm_up, &how, &say).await?;
    let workload = format!("the whole way to {SOCKETS} sockets, {rate} messages a second");
    let (ours, relay, log) = (&samples[0], &samples[1], &samples[2]);
    let of = |samples: &[Sample], value: fn(&Percentiles) -> u64| -> Vec<f64> {
        let all = samples.iter();
        all.map(|sample| value(&sample.figures.latency_ns) as f64 / 1_000.0)
            .collect()
    };
    let log_p50: Vec<f64> = log
        .iter()
        .map(|sample| sample.figures.ack_latency_ns.p50 as f64 / 1_000.0)
        .collect();
    let without = |all: Vec<f64>| -> Vec<f64> {
        let pairs = all.iter().zip(&log_p50);
        pairs.map(|(all, log)| (all - log).max(1.0)).collect()
    };
    let mut rows = vec![
        row(&workload, "p50")
            .against("relay-floor", &of(ours, |p| p.p50), &of(relay, |p| p.p50))
            .counted(ours)
            .target(Target::AtMost(1.5)),
        row(&workload, "p50 less the log's")
            .against(
                "relay-floor",
                &without(of(ours, |p| p.p50)),
                &without(of(relay, |p| p.p50)),
            )
            .figure(
                "log_p50_us",
                crate::pair::Spread::of(log_p50.iter().copied()).median,
            ),
        row(&workload, "p99")
            .against("relay-floor", &of(ours, |p| p.p99), &of(relay, |p| p.p99))
            .target(Target::AtMost(2.0)),
        row(&workload, "p99.9").against(
            "relay-floor",
            &of(ours, |p| p.p999),
            &of(relay, |p| p.p999),
        ),
    ];
    if let (Some(side), Some(theirs)) = (sides.get(3), samples.get(3)) {
        let row = row(&workload, "p99").version(&side.version);
        rows.push(match &side.failed {
            Some(why) => row.without(&side.name, Verdict::Failed(why.clone())),
            None => row
                .theirs_by_ours(&side.name, &of(ours, |p| p.p99), &of(theirs, |p| p.p99))
                .target(Target::AtLeast(3.0)),
        });
    }
    rows.extend(missing);
    for side in sides {
        side.end().await?;
    }
    Ok(rows)
}

fn row(workload: &str, value: &str) -> Row {
    Row::new("B5", workload, &format!("latency {value}, us"), "edges")
}

/// Messages a second, from a closed loop with as many on their way as one socket may have.
async fn half_of_capacity(relay: &mut Side) -> Result<u64> {
    relay.measure("messages=2000 burst=32").await?;
    let sample = relay.measure("messages=10000 burst=32").await?;
    let a_second = sample.figures.sent as f64 * 1e9 / sample.figures.wall_ns.max(1) as f64;
    Ok((a_second / 2.0) as u64)
}
