//! B4: the whole way of a message, client to edge to log to bus to edge to clients, by the number
//! of those who listen. The CPU of both edges and of Redis counts; the log's does not, since
//! others have none. The bare relay has the same topology and the same log.

use super::Bench;
use super::fan_out::{Counted, Plan};
use crate::client::words;
use crate::peers::Peer;
use crate::results::{Row, Target};
use anyhow::Result;

/// Listeners, messages of a round, and what the bare relay must cost by ours.
const FAN_OUTS: [(usize, usize, f64); 4] = [
    (1, 6_400, 0.60),
    (10, 4_800, 0.70),
    (100, 1_600, 0.80),
    (1_000, 480, 0.85),
];
/// Messages on their way at once.
const BURST: usize = 16;

pub(super) async fn run(bench: &mut Bench) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for (sockets, messages, target) in FAN_OUTS {
        let messages = bench.pick(messages, messages, 32);
        let sockets = bench.pick(sockets, sockets, sockets.min(20));
        let floor = relay_floor(bench).await?;
        // Those that have no log are compared where deliveries are most of the work.
        let peers = [(Peer::SocketIoRedis, Some(Target::AtLeast(10.0)))];
        let plan = Plan {
            id: "B4",
            workload: format!("the whole way to {sockets} sockets, 128 B, bursts of {BURST}"),
            sockets,
            channels: 1,
            floor,
            floor_target: Target::AtLeast(target),
            peers: if sockets == 100 { &peers } else { &[] },
            counted: Counted::Relay,
            load: words(&["--payload", "128", "--burst", "16", "--messages", "16"]),
            floor_load: words(&["--acks"]),
            warm_up: format!("messages={} burst={BURST}", (messages / 4).max(BURST)),
            how: format!("messages={messages} burst={BURST}"),
            syscalls: false,
        };
        rows.extend(Box::pin(super::fan_out::run(bench, &plan)).await?);
    }
    Ok(rows)
}

/// Arguments of the bare relay, with the town's Redis and Kafka and a topic of its own.
pub(super) async fn relay_floor(bench: &mut Bench) -> Result<Vec<String>> {
    let redis = bench.town().await?.stack.endpoints().redis_url.clone();
    let mut args = log_floor(bench).await?;
    "relay-floor".clone_into(&mut args[0]);
    args.extend(words(&["--redis", &redis]));
    Ok(args)
}

/// Arguments of the bare log.
pub(super) async fn log_floor(bench: &mut Bench) -> Result<Vec<String>> {
    let town = bench.town().await?;
    let topic = town.floor_topic().await?;
    let brokers = town.stack.endpoints().kafka_brokers.clone();
    Ok(words(&[
        "log-floor",
        "--brokers",
        &brokers,
        "--topic",
        &topic,
    ]))
}
