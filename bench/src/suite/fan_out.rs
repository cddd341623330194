//! A message to many sockets: the edge that delivers, a bare program, other servers.

use super::Bench;
use crate::client::words;
use crate::pair::{Keep, Operation, Sample, Side, by_turns};
use crate::peers::Peer;
use crate::process::{Whose, count_syscalls};
use crate::results::{Row, Target};
use crate::town::process;
use anyhow::Result;

/// Whose CPU of Hubbub counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Counted {
    /// The edge that delivers.
    Receiver,
    /// Both edges and Redis.
    Relay,
}

/// What is to be done.
#[derive(Debug)]
pub(super) struct Plan<'a> {
    pub(super) id: &'a str,
    pub(super) workload: String,
    pub(super) sockets: usize,
    pub(super) channels: usize,
    /// Arguments of the bare program beside its core; the first is its kind.
    pub(super) floor: Vec<String>,
    pub(super) floor_target: Target,
    /// Servers, and what their cost by ours must be.
    pub(super) peers: &'a [(Peer, Option<Target>)],
    pub(super) counted: Counted,
    /// For the client at its start.
    pub(super) load: Vec<String>,
    /// For that of the bare program, beside those.
    pub(super) floor_load: Vec<String>,
    pub(super) warm_up: String,
    /// For the client in each round.
    pub(super) how: String,
    /// Count the system calls of one more round, if there is `strace`.
    pub(super) syscalls: bool,
}

impl Plan<'_> {
    /// What every client is started with.
    fn client(&self) -> Vec<String> {
        let mut load = self.load.clone();
        load.extend(words(&["--sockets", &self.sockets.to_string()]));
        if self.counted == Counted::Receiver {
            // What a write costs is then the same whether the client keeps up or not.
            load.extend(words(&["--look-every-us", "500"]));
        }
        load
    }
}

/// Measures by turns and makes the rows.
pub(super) async fn run(bench: &mut Bench, plan: &Plan<'_>) -> Result<Vec<Row>> {
    let ours = our_side(bench, plan).await?;
    let load = plan.client();
    let mut floor_load = load.clone();
    floor_load.extend_from_slice(&plan.floor_load);
    let floor = bench.floor_side(&plan.floor, plan.channels, &floor_load, Operation::Delivery);
    let mut sides = vec![ours, floor.await?];
    if plan.counted == Counted::Relay {
        // The bare relay uses the same Redis.
        sides[1].whose.push(process(bench.running().stack.redis())?);
    }
    let row = || {
        let metric = match plan.counted {
            Counted::Receiver => "CPU a delivery, us",
            Counted::Relay => "CPU of edges and Redis a delivery, us",
        };
        Row::new(plan.id, &plan.workload, metric, "edge")
    };
    let kinds: Vec<Peer> = plan.peers.iter().map(|(peer, _)| *peer).collect();
    let peers = bench.peer_sides(&kinds, plan.channels, &load, Operation::Delivery, &row);
    let (mut peers, missing) = peers.await?;
    if plan.counted == Counted::Relay {
        for peer in &mut peers {
            count_everything(peer);
        }
    }
    sides.extend(peers);

    let say = |line: &str| bench.say(line);
    let samples = by_turns(&mut sides, bench.rounds(), &plan.warm_up, &plan.how, &say).await;
    let samples = samples?;
    let mut rows = vec![
        row()
            .compared(&sides[1].name, &samples[0], &samples[1])
            .target(plan.floor_target),
    ];
    for (side, theirs) in sides.iter().zip(&samples).skip(2) {
        let target = peer_target(plan, &side.name);
        rows.push(row().beside(side, &samples[0], theirs, target));
    }
    if plan.syscalls {
        for (side, name) in sides.iter_mut().zip(["edge", "floor"]) {
            if let Some((calls, sample)) = writes(bench, side, plan).await? {
                let each = calls as f64 / sample.operations.max(1) as f64;
                let name = format!("{name}_writes_a_delivery");
                rows[0].figures.insert(name, each);
            }
        }
    }
    rows.extend(missing);
    for side in sides {
        side.end().await?;
    }
    Ok(rows)
}

fn peer_target(plan: &Plan<'_>, name: &str) -> Option<Target> {
    let found = plan.peers.iter().find(|(peer, _)| peer.name() == name);
    found.and_then(|(_, target)| *target)
}

async fn our_side(bench: &mut Bench, plan: &Plan<'_>) -> Result<Side> {
    let cores = bench.cores;
    let town = bench.town().await?;
    let (_, channels) = town.channels(plan.channels).await?;
    let whose = match plan.counted {
        Counted::Receiver => {
            town.pin(cores, &[town.receiving()])?;
            vec![process(town.receiving())?]
        }
        Counted::Relay => {
            let measured = [town.publishing(), town.receiving()];
            let redis = town.stack.redis();
            town.pin(cores, &[measured[0], measured[1], redis])?;
            vec![
                process(measured[0])?,
                process(measured[1])?,
                process(redis)?,
            ]
        }
    };
    let target = town.target(channels);
    Ok(Side {
        name: "edge".to_owned(),
        version: String::new(),
        whose,
        load: bench
            .client(&format!("edge-{}", plan.id), &target, &plan.client())
            .await?,
        operation: Operation::Delivery,
        keep: Keep::Nothing,
        failed: None,
    })
}

/// Of a peer with a relay every process counts.
fn count_everything(side: &mut Side) {
    if let Keep::Peer(running) = &side.keep {
        let pids = running.pids.iter().chain(&running.redis_pid);
        side.whose = pids.map(|pid| Whose::Process(*pid)).collect();
    }
}

/// Calls that write, in one more round.
async fn writes(bench: &Bench, side: &mut Side, plan: &Plan<'_>) -> Result<Option<(u64, Sample)>> {
    let Some(Whose::Process(pid)) = side.whose.first().copied() else {
        return Ok(None);
    };
    let dir = bench.dir.clone();
    let (sample, calls) = count_syscalls(pid, &dir, side.measure(&plan.warm_up)).await?;
    let calls = calls.map(|calls| {
        let writing = ["write", "writev", "sendto", "sendmsg", "sendmmsg"];
        let counts = writing.iter().filter_map(|name| calls.get(*name));
        counts.sum()
    });
    Ok(calls.map(|calls| (calls, sample)))
}
