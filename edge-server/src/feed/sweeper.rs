use std::collections::BTreeMap;

use hubbub_protocol::Seq;

/// How long a feed may be below a head that the sweep saw before that counts as a loss: as long
/// as an announcement may be under way.
const SUSPECT_MS: u64 = 300;

/// What the edge knows of a channel, asked by the sweeper.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Horizon {
    /// The channel has no feed here.
    NoFeed,
    /// Its feed does not know its horizon yet.
    Unknown,
    /// Its feed has delivered everything through this seq.
    At(Seq),
}

/// Decides which feeds the sweep of heads found behind (design section 4, SWEEP). Pure; the caller
/// runs the statement every 700 ms for each shard, with `since` as its bound.
///
/// A head that was seen while its channel had no feed here is not kept: the head read that follows
/// the feed's subscribe confirmation covers it.
#[derive(Debug)]
pub struct Sweeper {
    /// Per shard, from the last sweep that succeeded.
    positions: Vec<Option<Vec<(i32, Seq)>>>,
    /// By the channel's key in its shard.
    suspects: BTreeMap<i64, Suspect>,
}

#[derive(Debug)]
struct Suspect {
    head: Seq,
    due_ms: u64,
}

impl Sweeper {
    /// A sweeper over `shards` shards that has no positions yet.
    pub fn new(shards: usize) -> Self {
        Self {
            positions: vec![None; shards],
            suspects: BTreeMap::new(),
        }
    }

    /// Whether the first positions of every shard are there. Subscribe only after that, or for
    /// the shards that lack them let the next statement return every head (`since` is empty).
    pub fn is_ready(&self) -> bool {
        self.positions.iter().all(Option::is_some)
    }

    /// Positions of the shard's last sweep that succeeded, `(partition, position as seq)`: the
    /// bound of the next statement. Empty = none yet: all heads.
    pub fn since(&self, shard: usize) -> &[(i32, Seq)] {
        self.positions[shard].as_deref().unwrap_or_default()
    }

    /// A sweep of `shard` succeeded: its positions, and the heads above the last ones as
    /// `(channel's key in the shard, head)`, both of one statement. A failed one is not told at all, so the
    /// next one looks from the same positions.
    pub fn swept(
        &mut self,
        shard: usize,
        positions: Vec<(i32, Seq)>,
        heads: &[(i64, Seq)],
        now_ms: u64,
        horizon_of: impl Fn(i64) -> Horizon,
    ) {
        self.positions[shard] = Some(positions);
        for (channel, head) in heads {
            let below = match horizon_of(*channel) {
                Horizon::NoFeed => false,
                Horizon::Unknown => rule!(UnknownHorizonIsSuspect),
                Horizon::At(horizon) => horizon < *head,
            };
            if below && rule!(Sweep) {
                let suspect = self.suspects.entry(*channel).or_insert(Suspect {
                    head: *head,
                    due_ms: now_ms + SUSPECT_MS,
                });
                // An older suspect keeps its time: at worst a range is fetched a little early.
                suspect.head = suspect.head.max(*head);
            }
        }
    }

    /// Channels whose head has been above their horizon for 300 ms, with that head: each goes to
    /// its feed's [`head_seen`](super::Feed::head_seen). Call it when [`Self::next_due_ms`] has
    /// come, or at any time. A suspect whose horizon is unknown waits until it is known.
    pub fn due(&mut self, now_ms: u64, horizon_of: impl Fn(i64) -> Horizon) -> Vec<(i64, Seq)> {
        let mut below = Vec::new();
        self.suspects.retain(|channel, suspect| {
            if suspect.due_ms > now_ms {
                return true;
            }
            match horizon_of(*channel) {
                Horizon::NoFeed => false,
                Horizon::Unknown => {
                    suspect.due_ms = now_ms + SUSPECT_MS;
                    rule!(SuspectWaitsForHorizon)
                }
                Horizon::At(horizon) => {
                    if horizon < suspect.head {
                        below.push((*channel, suspect.head));
                    }
                    false
                }
            }
        });
        below
    }

    /// When a suspect is to be looked at again.
    pub fn next_due_ms(&self) -> Option<u64> {
        self.suspects.values().map(|suspect| suspect.due_ms).min()
    }
}
