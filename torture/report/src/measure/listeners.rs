use std::collections::HashMap;

use hubbub_checker::{Event, history::Device};
use hubbub_protocol::Seq;

use super::{bits::Bits, index::Index, points::named};

/// Number of a device and channel in [`Listeners`].
pub(super) type PairNo = u32;

/// From where on a listening device must have everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum JoinPoint {
    /// From this rank on.
    Rank(u32),
    /// What was acknowledged after this moment: the join was answered without a join point, and
    /// the device was never told another one.
    After(u64),
}

/// A device's stay in a channel, from a `Joined` to a `Left`. A lost connection does not end it:
/// coming back is part of the recovery.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stay {
    pub(super) from: JoinPoint,
    pub(super) ordered: bool,
}

/// A device and a channel that it listened to.
#[derive(Debug, Default)]
pub(super) struct Pair {
    pub(super) channel: u32,
    pub(super) stay: Option<Stay>,
    /// The ranks of what it was given since its client last forgot the channel.
    pub(super) given: Bits,
    /// A join was sent, and nothing has come of it yet.
    asked: bool,
    /// The client has forgotten the channel, and with it what it has given.
    forgotten: bool,
    /// The application left while its join was asked: the answer is to nobody, and so is what the
    /// server sends until it hears of the leave.
    overtaken: bool,
}

impl Pair {
    /// A client forgets a channel when the application leaves, and when a join is refused for
    /// good. It does not over a lost connection, nor when the server evicts it.
    fn left(&mut self, evicted: bool) {
        self.stay = None;
        self.forgotten |= !evicted || self.asked;
        self.overtaken = !evicted && self.asked;
        self.asked = false;
    }

    /// Whether the answer to a join has come to somebody.
    fn joined(&mut self) -> bool {
        if self.overtaken {
            return false;
        }
        self.asked = false;
        if std::mem::take(&mut self.forgotten) {
            // What the application had before does not count for what it asks now.
            self.given = Bits::default();
        }
        true
    }
}

/// What an event changed for a pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Changed {
    /// The device listens no more.
    Left(PairNo),
    /// What lies before its new join point is no longer due.
    Waived(PairNo),
}

/// Who listens where.
#[derive(Debug)]
pub(super) struct Listeners<'a> {
    index: &'a Index<'a>,
    devices: HashMap<&'a str, u32>,
    by_key: HashMap<(u32, u32), PairNo>,
    pub(super) pairs: Vec<Pair>,
    /// How many joins were answered without a join point.
    unnamed: usize,
}

impl<'a> Listeners<'a> {
    pub(super) fn new(index: &'a Index<'a>) -> Self {
        Self {
            index,
            devices: HashMap::new(),
            by_key: HashMap::new(),
            pairs: Vec::new(),
            unnamed: 0,
        }
    }

    /// Follows the joins and leaves.
    pub(super) fn follow(&mut self, at_us: u64, event: &'a Event) -> Option<Changed> {
        match event {
            Event::JoinAsked {
                device, channel, ..
            } => {
                let no = self.pair(device, self.index.channel(*channel)?);
                let pair = &mut self.pairs[no as usize];
                pair.asked = true;
                pair.overtaken = false;
                None
            }
            Event::Joined {
                device,
                channel,
                since,
                head,
                recovered,
                ordered,
                ..
            } => {
                let told = named(*since, *head, *recovered).or_else(|| self.told_later());
                let channel = self.index.channel(*channel)?;
                let from = self.point(channel, told, at_us);
                let no = self.pair(device, channel);
                let pair = &mut self.pairs[no as usize];
                if !pair.joined() {
                    return None;
                }
                let resumed = since.is_some() && *recovered;
                // It goes on: what was due before is still due.
                let goes_on = pair
                    .stay
                    .filter(|stay| resumed && matches!(stay.from, JoinPoint::Rank(_)));
                let from = goes_on.map_or(from, |stay| stay.from);
                let waived = pair.stay.is_some() && goes_on.is_none();
                pair.stay = Some(Stay {
                    from,
                    ordered: *ordered,
                });
                waived.then_some(Changed::Waived(no))
            }
            Event::Left {
                device,
                channel,
                evicted,
                ..
            } => {
                let no = self.pair(device, self.index.channel(*channel)?);
                self.pairs[no as usize].left(*evicted);
                Some(Changed::Left(no))
            }
            _ => None,
        }
    }

    /// The join point of the next join that was answered without one.
    fn told_later(&mut self) -> Option<Seq> {
        let found = self.index.points[self.unnamed];
        self.unnamed += 1;
        found
    }

    /// The pair; a new one listens to nothing yet.
    pub(super) fn pair(&mut self, device: &'a Device, channel: u32) -> PairNo {
        let devices = self.devices.len() as u32;
        let device = *self.devices.entry(device).or_insert(devices);
        *self.by_key.entry((device, channel)).or_insert_with(|| {
            self.pairs.push(Pair {
                channel,
                ..Pair::default()
            });
            (self.pairs.len() - 1) as PairNo
        })
    }

    fn point(&self, channel: u32, seq: Option<Seq>, at_us: u64) -> JoinPoint {
        seq.map_or(JoinPoint::After(at_us), |seq| {
            let seqs = &self.index.seqs[channel as usize];
            JoinPoint::Rank(seqs.partition_point(|known| *known <= seq) as u32)
        })
    }
}
