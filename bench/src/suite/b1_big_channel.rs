//! B1: one channel, 1,000 sockets, 128 bytes, one message at a time: the next is sent when the
//! one before has reached everybody. What a delivery costs is then the kernel's price of one
//! small write, and nobody can be much below it.

use super::Bench;
use super::fan_out::{Counted, Plan};
use crate::client::words;
use crate::peers::Peer;
use crate::results::{Row, Target};
use anyhow::Result;

/// Other servers, and what a delivery of theirs must cost by ours.
const PEERS: [(Peer, Option<Target>); 4] = [
    (Peer::Nchan, Some(Target::AtLeast(1.15))),
    (Peer::Nats, Some(Target::AtLeast(1.4))),
    (Peer::Ws, Some(Target::AtLeast(1.4))),
    (Peer::SocketIo, Some(Target::AtLeast(2.0))),
];

pub(super) async fn run(bench: &mut Bench) -> Result<Vec<Row>> {
    let sockets = bench.pick(1_000, 1_000, 20);
    // Some 6 us a delivery: a second and more of CPU each.
    let messages = bench.pick(250, 200, 5);
    let plan = Plan {
        id: "B1",
        workload: format!("{sockets} sockets in one channel, 128 B, one at a time"),
        sockets,
        channels: 1,
        floor: words(&["send-loop"]),
        floor_target: Target::AtLeast(0.9),
        peers: &PEERS,
        counted: Counted::Receiver,
        load: words(&["--payload", "128", "--burst", "1", "--messages", "1"]),
        floor_load: Vec::new(),
        warm_up: format!("messages={} burst=1", messages / 5),
        how: format!("messages={messages} burst=1"),
        syscalls: bench.pick(true, true, false),
    };
    super::fan_out::run(bench, &plan).await
}
