//! B2: as B1, in bursts: so many messages are written at once, and the next burst when all of
//! them have reached everybody. What counts is how many of them share a write.

use super::Bench;
use super::fan_out::{Counted, Plan};
use crate::client::words;
use crate::peers::Peer;
use crate::results::{Row, Target};
use anyhow::Result;

/// Other servers, and what a delivery of theirs must cost by ours.
const PEERS: [(Peer, Option<Target>); 4] = [
    (Peer::Nchan, Some(Target::AtLeast(4.0))),
    (Peer::Nats, Some(Target::AtLeast(3.0))),
    (Peer::Ws, Some(Target::AtLeast(15.0))),
    (Peer::SocketIo, Some(Target::AtLeast(15.0))),
];

pub(super) async fn run(bench: &mut Bench) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for burst in [16, 64] {
        let sockets = bench.pick(1_000, 1_000, 20);
        // Peers take twenty times as long for one as we do: not more than they can do in a few
        // seconds.
        let messages = bench.pick(1_024, 320, 64);
        let plan = Plan {
            id: "B2",
            workload: format!("{sockets} sockets in one channel, 128 B, bursts of {burst}"),
            sockets,
            channels: 1,
            floor: words(&["writev-b"]),
            floor_target: Target::AtLeast(0.8),
            // In a burst of 64 they would be much as they are in one of 16.
            peers: if burst == 16 { &PEERS } else { &[] },
            counted: Counted::Receiver,
            load: words(&["--payload", "128", "--burst", "16", "--messages", "16"]),
            floor_load: Vec::new(),
            warm_up: format!("messages={} burst={burst}", messages / 4),
            how: format!("messages={messages} burst={burst}"),
            syscalls: bench.pick(true, true, false),
        };
        rows.extend(Box::pin(super::fan_out::run(bench, &plan)).await?);
    }
    Ok(rows)
}
