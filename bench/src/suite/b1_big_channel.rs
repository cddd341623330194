//! B1: one channel, 1,000 sockets, 128 bytes, one message at a time: at a rate at which everybody
//! has one long before the next comes. What a delivery costs is then the kernel's price of one
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

/// Messages a second, of every system. The next one at once, when everybody has the last, would be
/// another pace for each: who has a log waits for it, and finds its memory cold behind each wait.
/// At 20 us a delivery a system can still keep up.
const RATE: u32 = 50;

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
        // Counting system calls slows so much that no rate could be kept.
        warm_up: format!("messages={} burst=1", messages / 5),
        how: format!("messages={messages} rate={RATE}"),
        syscalls: bench.pick(true, true, false),
    };
    super::fan_out::run(bench, &plan).await
}
