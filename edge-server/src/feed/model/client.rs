//! A device, as CLIENT of design section 4 has it, and what must hold for what it receives.

use hubbub_protocol::Seq;

use crate::feed::SocketId;

use super::{
    sockets::Item,
    store::{CHANNELS, Store},
};

/// A set of seqs, all below 128.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Seqs(u128);

impl Seqs {
    fn insert(&mut self, seq: Seq) -> bool {
        let bit = 1 << seq.0;
        let new = self.0 & bit == 0;
        self.0 |= bit;
        new
    }

    pub(super) fn contains(self, seq: Seq) -> bool {
        self.0 & (1 << seq.0) != 0
    }

    fn keep_through(&mut self, seq: Seq) {
        self.0 &= u128::MAX >> (127 - seq.0);
    }
}

/// One channel on a device.
#[derive(Debug, Default)]
pub(super) struct Listening {
    /// It wants the channel, and has said so on its connection.
    pub(super) joined: bool,
    pub(super) ordered: bool,
    /// What it resumes from.
    pub(super) cursor: Option<Seq>,
    /// From where on it was promised everything. `None` = it was told that the store is away: the
    /// next `synced` is it.
    pub(super) join_point: Option<Seq>,
    pub(super) have: Seqs,
    /// Joins sent on this connection, and the last one that was answered: a second join replaces
    /// the first, whose reply may then never come.
    pub(super) joins: u32,
    answered: u32,

    /// Everything through this has been checked against the store.
    verified: Seq,
    /// Of the current connection: a join was answered, its `replay` must be next.
    replay_due: bool,
    /// No frame of this connection may be at or below it: the last `replay` or `synced`.
    floor: Seq,
    /// Seqs that may not come again on this connection.
    seen: Seqs,
    /// The highest seq since the last `replay`.
    highest: Seq,
    /// A `replay` came, and no `synced` after it.
    synced_due: bool,
}

#[derive(Debug, Default)]
pub(super) struct Client {
    pub(super) socket: Option<SocketId>,
    pub(super) channels: [Listening; CHANNELS],
}

impl Client {
    /// The connection is gone with everything that was on its way.
    pub(super) fn disconnected(&mut self) {
        self.socket = None;
        for listening in &mut self.channels {
            listening.joined = false;
            listening.joins = 0;
            listening.answered = 0;
            listening.replay_due = false;
            listening.floor = Seq(0);
            listening.seen = Seqs::default();
            listening.highest = Seq(0);
            listening.synced_due = false;
        }
    }

    /// Takes a frame off the wire; `Err` names the promise that it breaks.
    pub(super) fn receive(
        &mut self,
        channel: usize,
        item: &Item,
        store: &Store,
    ) -> Result<(), String> {
        let listening = &mut self.channels[channel];
        match *item {
            Item::Reply {
                head,
                recovered,
                fresh,
                join,
            } => listening.replied(head, recovered && !fresh, join),
            Item::Replay(since) => listening.replayed(since),
            Item::Frame(seq, _) => return listening.frame(channel, seq, store),
            Item::Synced(seq) => return listening.synced(channel, seq, store),
        }
        Ok(())
    }
}

impl Listening {
    pub(super) fn is_answered(&self) -> bool {
        self.answered == self.joins
    }

    fn replied(&mut self, head: Option<Seq>, resumed: bool, join: u32) {
        self.answered = join;
        self.replay_due = true;
        if !resumed {
            self.cursor = head;
            self.join_point = head;
            self.verified = Seq(0);
        }
    }

    fn replayed(&mut self, since: Seq) {
        self.replay_due = false;
        self.floor = since;
        self.highest = since;
        self.seen.keep_through(since);
        self.synced_due = true;
    }

    fn frame(&mut self, channel: usize, seq: Seq, store: &Store) -> Result<(), String> {
        let record = store.record(channel, seq).ok_or("a phantom")?;
        let is_row = store.is_row(channel, seq);
        if record.channel != channel || record.poison {
            return Err(format!("phantom {seq:?}"));
        }
        if self.replay_due {
            return Err(format!("{seq:?} between a join's reply and its replay"));
        }
        if seq <= self.floor {
            return Err(format!("{seq:?} after replay or synced {:?}", self.floor));
        }
        // A copy that the store drops may come twice: a feed's memory of ids has a bound.
        if !self.seen.insert(seq) && is_row {
            return Err(format!("A3: {seq:?} twice on a connection"));
        }
        if self.ordered && self.is_answered() && (!is_row || seq <= self.highest) {
            return Err(format!("P4: ordered got {seq:?} after {:?}", self.highest));
        }
        self.highest = self.highest.max(seq);
        self.have.insert(seq);
        Ok(())
    }

    fn synced(&mut self, channel: usize, seq: Seq, store: &Store) -> Result<(), String> {
        self.floor = self.floor.max(seq);
        self.synced_due = false;
        let Some(join_point) = self.join_point else {
            self.join_point = Some(seq);
            self.cursor = Some(seq);
            return Ok(());
        };
        if let Some(missing) = self.missing(channel, join_point.max(self.verified), seq, store) {
            return Err(format!("A8: synced {seq:?} without {missing:?}"));
        }
        self.verified = self.verified.max(seq);
        self.cursor = self.cursor.max(Some(seq));
        Ok(())
    }

    fn missing(&self, channel: usize, from: Seq, through: Seq, store: &Store) -> Option<Seq> {
        let rows = &store.channels[channel].rows;
        let start = rows.partition_point(|(seq, _)| *seq <= from);
        let rows = rows[start..].iter().take_while(|(seq, _)| *seq <= through);
        rows.map(|(seq, _)| *seq)
            .find(|seq| !self.have.contains(*seq))
    }

    /// What it lacks once everything is healed and quiet: P5, A7.
    pub(super) fn lacks(&self, channel: usize, store: &Store) -> Option<String> {
        let head = store.head(channel);
        if !self.is_answered() {
            return Some("P7: a join was never answered".to_owned());
        }
        let Some(join_point) = self.join_point else {
            return Some("P7: no join point".to_owned());
        };
        if let Some(missing) = self.missing(channel, join_point, head, store) {
            return Some(format!("P5: {missing:?} never came"));
        }
        if self.synced_due {
            return Some("a replay without a synced".to_owned());
        }
        (self.cursor != Some(head))
            .then(|| format!("A7: cursor {:?} is not the head {head:?}", self.cursor))
    }
}
