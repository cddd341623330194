//! B3: 5,000 sockets in 500 channels of 10 each, messages at a fixed rate whatever happens.

use super::Bench;
use super::fan_out::{Counted, Plan};
use crate::client::words;
use crate::peers::Peer;
use crate::results::{Row, Target};
use anyhow::Result;

pub(super) async fn run(bench: &mut Bench) -> Result<Vec<Row>> {
    let (sockets, channels) = bench.pick((5_000, 500), (5_000, 500), (50, 5));
    let (rate, seconds) = bench.pick((1_500, 8), (1_500, 6), (100, 1));
    let plan = Plan {
        id: "B3",
        workload: format!("{sockets} sockets in {channels} channels, {rate} messages a second"),
        sockets,
        channels,
        floor: words(&["send-loop"]),
        floor_target: Target::AtLeast(0.8),
        peers: &[(Peer::SocketIo, Some(Target::AtLeast(2.0)))],
        counted: Counted::Receiver,
        load: words(&[
            "--payload",
            "128",
            "--publishers",
            "4",
            "--rate",
            "100",
            "--seconds",
            "1",
        ]),
        floor_load: Vec::new(),
        warm_up: format!("rate={rate} seconds=1"),
        how: format!("rate={rate} seconds={seconds}"),
        syscalls: false,
    };
    super::fan_out::run(bench, &plan).await
}
