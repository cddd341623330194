//! B9: connect, upgrade, token, join of a channel that is open already; then the close. The bare
//! program accepts with tungstenite and checks the same token. Every user is one of many.

use super::Bench;
use crate::client::words;
use crate::pair::{Keep, Operation, Side, by_turns};
use crate::peers::Peer;
use crate::results::{Row, Target};
use crate::town::process;
use anyhow::{Context, Result};

const PEERS: [(Peer, f64); 2] = [(Peer::Ws, 4.0), (Peer::SocketIo, 10.0)];

pub(super) async fn run(bench: &mut Bench) -> Result<Vec<Row>> {
    let cores = bench.cores;
    let sockets = bench.pick(4_000, 3_000, 60);
    let town = bench.town().await?;
    let (ids, file) = town.channels(1).await?;
    let tokens = town.people(sockets, 1, &ids).await?;
    town.pin(cores, &[town.receiving()])?;
    let whose = vec![process(town.receiving())?];
    let secret = town.stack.token_secret_path().display().to_string();
    let mut target = town.target(file);
    // Who keeps the channel open.
    let keeper = bench
        .client("edge-keeper", &target, &words(&["--sockets", "1"]))
        .await?;
    target.tokens = Some(tokens.clone());
    let more = words(&["--mode", "connect", "--sockets", &sockets.to_string()]);
    let mut sides = vec![Side {
        name: "edge".to_owned(),
        version: String::new(),
        whose,
        load: bench.client("edge-B9", &target, &more).await?,
        operation: Operation::Connect,
        keep: Keep::Nothing,
        failed: None,
    }];
    let accept = words(&["accept", "--token-secret-file", &secret]);
    let tokens = tokens.to_str().context("a path in UTF-8")?;
    let with_tokens = [&more[..], &words(&["--tokens", tokens])].concat();
    sides.push(
        bench
            .floor_side(&accept, 1, &with_tokens, Operation::Connect)
            .await?,
    );
    let workload = format!("{sockets} connects, 64 at once: upgrade, token, join, close");
    let row = || Row::new("B9", &workload, "CPU a connect, us", "edge");
    let kinds = PEERS.map(|(peer, _)| peer);
    let peers = bench.peer_sides(&kinds, 1, &more, Operation::Connect, &row);
    let (peers, missing) = peers.await?;
    sides.extend(peers);
    let say = |line: &str| bench.say(line);
    let samples = by_turns(&mut sides, bench.rounds(), "", "", &say).await?;
    let mut rows = vec![
        // Ours / theirs, at most 1.3.
        row()
            .compared("accept", &samples[0], &samples[1])
            .target(Target::AtLeast(1.0 / 1.3)),
    ];
    for (side, theirs) in sides.iter().zip(&samples).skip(2) {
        let found = PEERS.iter().find(|(peer, _)| peer.name() == side.name);
        let target = found.map(|(_, least)| Target::AtLeast(*least));
        rows.push(row().beside(side, &samples[0], theirs, target));
    }
    rows.extend(missing);
    for side in sides {
        side.end().await?;
    }
    keeper.end().await?;
    Ok(rows)
}
