//! What there is to be hit.

use hubbub_checker::{FaultKind, history::Device};
use hubbub_stack::Stack;
use serde::{Deserialize, Serialize};

use crate::{Profile, deeds, dice::Dice};

/// How many of what a system has.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shape {
    /// Edges, `edge-1` and on.
    pub edges: usize,
    /// API servers.
    pub apis: usize,
    /// Consumers.
    pub consumers: usize,
    /// Consumers that do not run and may be added, numbered behind the others.
    #[serde(default)]
    pub spare_consumers: usize,
    /// HAProxies.
    pub haproxies: usize,
    /// Shards, `shard-0` and on.
    pub shards: usize,
    /// Devices that have a link of their own.
    pub devices: Vec<Device>,
    /// Those of them that may be slowed down: they have joined a channel that can be filled.
    pub readers: Vec<Device>,
    /// Whether a process can be given a wrong clock.
    pub faketime: bool,
}

impl Shape {
    /// The shape of a system that runs.
    #[must_use]
    pub fn of(stack: &Stack, devices: Vec<Device>, readers: Vec<Device>) -> Self {
        Self {
            edges: stack.edges().len(),
            apis: stack.apis().len(),
            consumers: stack.consumers().len(),
            spare_consumers: stack.spare_consumers().len(),
            haproxies: stack.haproxies().len(),
            shards: stack.endpoints().shard_urls.len(),
            devices,
            readers,
            faketime: deeds::clock::possible(),
        }
    }

    /// Why this shape cannot have a kind.
    pub(crate) fn lacks(&self, kind: FaultKind) -> Option<&'static str> {
        let (has, reason) = match kind {
            FaultKind::EdgeKill
            | FaultKind::EdgeFreeze
            | FaultKind::EdgeDrain
            | FaultKind::EdgeCrashAfterAck => (self.edges > 1, "there is no other edge"),
            FaultKind::ConsumerKill
            | FaultKind::ConsumerFreeze
            | FaultKind::ConsumerCrashAfterCommit
            | FaultKind::ConsumerScale => (self.consumers > 0, "there is no consumer"),
            FaultKind::BusLossy | FaultKind::RedisBlackHole | FaultKind::KafkaSlow => (
                self.edges + self.consumers > 0,
                "there is neither edge nor consumer",
            ),
            FaultKind::ShardKill | FaultKind::ShardLock | FaultKind::ShardFreeze => {
                (self.shards > 0, "there is no shard of our own")
            }
            FaultKind::HaproxyReload => (self.haproxies > 0, "there is no HAProxy"),
            FaultKind::HaproxyKill => (self.haproxies > 1, "there is no other HAProxy"),
            FaultKind::ClientReset | FaultKind::ClientSilent | FaultKind::ClientTorn => {
                (!self.devices.is_empty(), "no client has a link of its own")
            }
            FaultKind::ClientSlow => (!self.readers.is_empty(), "nobody may be slowed down"),
            FaultKind::ApiKill => (self.apis > 0, "there is no API server"),
            FaultKind::ClockJump if self.faketime => {
                (!self.replaceable().is_empty(), "nobody can be spared")
            }
            FaultKind::ClockJump => (false, "libfaketime or a C compiler is not installed"),
            FaultKind::RedisKill
            | FaultKind::RedisFreeze
            | FaultKind::PubsubKill
            | FaultKind::KafkaDown
            | FaultKind::PoisonRecord => (true, ""),
        };
        (!has).then_some(reason)
    }

    /// Draws whom a fault of a kind hits; the kind is not one that this shape lacks.
    pub(crate) fn target(&self, kind: FaultKind, dice: &mut Dice) -> String {
        let one = |all: Vec<String>, dice: &mut Dice| dice.some(&all, 1);
        let links = |to: &str, dice: &mut Dice| {
            let all: Vec<String> = self
                .services()
                .iter()
                .map(|s| format!("{s}>{to}"))
                .collect();
            let count = dice.index(all.len()) + 1;
            dice.some(&all, count)
        };
        let names = match kind {
            FaultKind::EdgeKill
            | FaultKind::EdgeFreeze
            | FaultKind::EdgeDrain
            | FaultKind::EdgeCrashAfterAck => one(numbered("edge", self.edges), dice),
            FaultKind::ConsumerKill
            | FaultKind::ConsumerFreeze
            | FaultKind::ConsumerCrashAfterCommit => {
                one(numbered("consumer", self.consumers), dice)
            }
            FaultKind::ConsumerScale => {
                let all = numbered("consumer", self.consumers + self.spare_consumers);
                one(all, dice)
            }
            FaultKind::RedisKill | FaultKind::RedisFreeze | FaultKind::PubsubKill => {
                vec!["redis".to_owned()]
            }
            FaultKind::RedisBlackHole => links("redis", dice),
            FaultKind::BusLossy => self.services(),
            FaultKind::KafkaDown | FaultKind::PoisonRecord => vec!["kafka".to_owned()],
            FaultKind::KafkaSlow => {
                // One edge at least, if there is one: a consumer alone would slow no answer.
                let mut slow = links("kafka", dice);
                if !slow.iter().any(|link| link.starts_with("edge-")) {
                    let edges = numbered("edge", self.edges);
                    slow.extend(dice.some(&edges, 1).iter().map(|e| format!("{e}>kafka")));
                }
                slow
            }
            FaultKind::ShardKill | FaultKind::ShardLock | FaultKind::ShardFreeze => {
                vec![format!("shard-{}", dice.index(self.shards))]
            }
            FaultKind::HaproxyReload | FaultKind::HaproxyKill => {
                one(numbered("haproxy", self.haproxies), dice)
            }
            FaultKind::ClientReset | FaultKind::ClientSilent | FaultKind::ClientTorn => {
                let count = dice.index(5) + 1;
                dice.some(&self.devices, count)
            }
            FaultKind::ClientSlow => {
                let count = dice.index(2) + 1;
                dice.some(&self.readers, count)
            }
            FaultKind::ApiKill => one(numbered("api", self.apis), dice),
            FaultKind::ClockJump => one(self.replaceable(), dice),
        };
        names.join(" ")
    }

    /// Our own processes that may be restarted: never the only edge.
    fn replaceable(&self) -> Vec<String> {
        let mut all = self.services();
        all.retain(|name| self.edges > 1 || !name.starts_with("edge-"));
        all
    }

    /// Our own processes.
    fn services(&self) -> Vec<String> {
        let mut all = numbered("edge", self.edges);
        all.extend(numbered("consumer", self.consumers));
        all.extend(numbered("api", self.apis));
        all
    }
}

/// The kinds of a profile that a shape cannot have, and why not.
#[must_use]
pub fn left_out(profile: &Profile, shape: &Shape) -> Vec<(FaultKind, &'static str)> {
    let kinds = profile.kinds.iter();
    kinds
        .filter_map(|kind| Some((*kind, shape.lacks(*kind)?)))
        .collect()
}

/// `n` of `edge-n`.
pub(crate) fn number(name: &str) -> Option<usize> {
    name.rsplit_once('-')?.1.parse().ok()
}

fn numbered(word: &str, count: usize) -> Vec<String> {
    (1..=count).map(|n| format!("{word}-{n}")).collect()
}
