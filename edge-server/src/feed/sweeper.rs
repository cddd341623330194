use hubbub_protocol::Seq;

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
#[derive(Debug)]
pub struct Sweeper {}

impl Sweeper {
    /// A sweeper over `shards` shards that has no positions yet.
    pub fn new(_shards: usize) -> Self {
        todo!()
    }

    /// Whether the first positions of every shard are there. Subscribe only after that, or for
    /// the shards that lack them let the next statement return every head (`since` is empty).
    pub fn is_ready(&self) -> bool {
        todo!()
    }

    /// Positions of the shard's last sweep that succeeded, `(partition, position as seq)`: the
    /// bound of the next statement. Empty = none yet: all heads.
    pub fn since(&self, _shard: usize) -> &[(i32, Seq)] {
        todo!()
    }

    /// A sweep of `shard` succeeded: its positions, and the heads above the last ones as
    /// `(channel number, head)`. A failed one is not told at all.
    pub fn swept(
        &mut self,
        _shard: usize,
        _positions: Vec<(i32, Seq)>,
        _heads: &[(i64, Seq)],
        _now_ms: u64,
        _horizon_of: impl Fn(i64) -> Horizon,
    ) {
        todo!()
    }

    /// Channels whose head has been above their horizon for 300 ms, with that head: each goes to
    /// its feed's [`head_seen`](super::Feed::head_seen). Call it when [`Self::next_due_ms`] has
    /// come, or at any time.
    pub fn due(&mut self, _now_ms: u64, _horizon_of: impl Fn(i64) -> Horizon) -> Vec<(i64, Seq)> {
        todo!()
    }

    /// When a suspect is to be looked at again.
    pub fn next_due_ms(&self) -> Option<u64> {
        todo!()
    }
}
