//! B6: 9,000 sockets, identified, each in three channels, that say nothing: resident memory of
//! the server with them less that without them, by their number. A fresh process each time.

use super::{Bench, memory};
use crate::client::{Load, Target as Address, words};
use crate::peers::{Peer, Settings};
use crate::results::{Row, Target};
use crate::town::pid;
use anyhow::Result;

/// Channels of a socket.
pub(super) const JOINS: usize = 3;
/// Theirs by ours.
const PEERS: [(Peer, f64); 4] = [
    (Peer::Nchan, 2.0),
    (Peer::Ws, 2.0),
    (Peer::SocketIo, 4.0),
    (Peer::Nats, 10.0),
];

pub(super) async fn run(bench: &mut Bench) -> Result<Vec<Row>> {
    let sockets = bench.pick(9_000, 9_000, 60);
    let rounds = bench.pick(3, 2, 1);
    let channels = sockets / 3;
    let workload = format!("{sockets} idle sockets, {JOINS} joins each");
    let row = || Row::new("B6", &workload, "resident bytes a socket", "edge");
    let ours = edge(bench, sockets, channels, rounds).await?;
    let floor = floor(bench, sockets, channels, rounds).await?;
    let mut rows = vec![
        row().measured(&ours).target(Target::AtMost(4_096.0)),
        row()
            .against("idle", &ours, &floor)
            .target(Target::AtMost(1.6)),
    ];
    for (peer, least) in PEERS {
        let peered = match bench.peer(peer, Settings::default()).await {
            Ok(peered) => peered,
            Err(verdict) => {
                rows.push(row().without(peer.name(), verdict));
                continue;
            }
        };
        let pids = peered.running.pids.clone();
        // Nchan has a connection for each channel of a socket, and a publisher for each channel.
        let few = peer == Peer::Nchan;
        let (joins, channels) = if few { (1, 1) } else { (JOINS, channels) };
        let target = peered.target(channels);
        let (bytes, load) = a_socket(bench, peer.name(), &target, &pids, sockets, joins).await?;
        load.end().await?;
        let version = peered.running.version.clone();
        peered.running.stop().await;
        rows.push(
            row()
                .theirs_by_ours(peer.name(), &ours[..1], &[bytes])
                .version(&version)
                .target(Target::AtLeast(least)),
        );
    }
    Ok(rows)
}

async fn edge(
    bench: &mut Bench,
    sockets: usize,
    channels: usize,
    rounds: usize,
) -> Result<Vec<f64>> {
    let cores = bench.cores;
    let town = bench.town().await?;
    let (ids, channels) = town.channels(channels).await?;
    let tokens = town.people(sockets, JOINS, &ids).await?;
    let mut found = Vec::new();
    for _ in 0..rounds {
        let town = bench.running();
        town.receiving().restart().await?;
        town.pin(cores, &[town.receiving()])?;
        let pids = [pid(town.receiving())?];
        let mut target = town.target(channels.clone());
        target.tokens = Some(tokens.clone());
        let (bytes, load) = a_socket(bench, "edge", &target, &pids, sockets, JOINS).await?;
        load.end().await?;
        bench.say(&format!("edge {bytes:.0} bytes a socket"));
        found.push(bytes);
    }
    Ok(found)
}

async fn floor(bench: &Bench, sockets: usize, channels: usize, rounds: usize) -> Result<Vec<f64>> {
    let mut found = Vec::new();
    for _ in 0..rounds {
        let (program, event) = bench.floor(&words(&["idle"])).await?;
        let pids = [program.pid()?];
        let target = Address::raw(&event, channels)?;
        let (bytes, load) = a_socket(bench, "idle", &target, &pids, sockets, JOINS).await?;
        load.end().await?;
        program.end().await?;
        bench.say(&format!("idle {bytes:.0} bytes a socket"));
        found.push(bytes);
    }
    Ok(found)
}

/// Connects them all and gives the memory that each costs; the client keeps them.
async fn a_socket(
    bench: &Bench,
    name: &str,
    target: &Address,
    pids: &[u32],
    sockets: usize,
    joins: usize,
) -> Result<(f64, Load)> {
    let before = memory::settled(pids).await?;
    let more = words(&[
        "--sockets",
        &sockets.to_string(),
        "--joins",
        &joins.to_string(),
    ]);
    let load = bench.client(&format!("idle-{name}"), target, &more).await?;
    let after = memory::settled(pids).await?;
    let each = after.saturating_sub(before) as f64 / sockets as f64;
    Ok((each, load))
}
