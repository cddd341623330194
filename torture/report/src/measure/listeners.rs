use std::collections::HashMap;

use hubbub_checker::{Event, history::Device};
use hubbub_protocol::{ChannelId, Seq};

use super::{bits::Bits, index::Index};

/// Number of a device and channel in [`Listeners`].
pub(super) type PairNo = u32;

/// From where on a listening device must have everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum JoinPoint {
    /// From this rank on.
    Rank(u32),
    /// What was acknowledged after this moment: the join was answered without a head, and no
    /// `replay` or `synced` has said more yet.
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
    /// The ranks of what it was given, ever.
    pub(super) given: Bits,
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
#[derive(Debug, Default)]
pub(super) struct Listeners<'a> {
    devices: HashMap<&'a str, u32>,
    by_key: HashMap<(u32, u32), PairNo>,
    pub(super) pairs: Vec<Pair>,
}

impl<'a> Listeners<'a> {
    /// The pair, if anything was ever heard of it.
    fn find(&self, device: &str, channel: u32) -> Option<PairNo> {
        let device = self.devices.get(device)?;
        self.by_key.get(&(*device, channel)).copied()
    }

    /// Follows the joins and leaves.
    pub(super) fn follow(
        &mut self,
        index: &Index<'_>,
        at_us: u64,
        event: &'a Event,
    ) -> Option<Changed> {
        match event {
            Event::Joined {
                device,
                channel,
                since,
                head,
                recovered,
                ordered,
                ..
            } => {
                let channel = index.channel(*channel)?;
                let no = self.pair(device, channel);
                let pair = &mut self.pairs[no as usize];
                let resumed = since.is_some() && *recovered;
                let from = match (pair.stay, resumed) {
                    // It goes on: what was due before is still due.
                    (Some(stay), true) => stay.from,
                    _ => point(index, channel, if resumed { *since } else { *head }, at_us),
                };
                let waived = pair.stay.is_some() && !resumed;
                pair.stay = Some(Stay {
                    from,
                    ordered: *ordered,
                });
                waived.then_some(Changed::Waived(no))
            }
            Event::Left {
                device, channel, ..
            } => {
                let no = self.find(device, index.channel(*channel)?)?;
                self.pairs[no as usize].stay = None;
                Some(Changed::Left(no))
            }
            Event::Replay {
                device,
                channel,
                since: seq,
                ..
            }
            | Event::Synced {
                device,
                channel,
                seq,
                ..
            } => {
                self.settle(index, device, *channel, *seq);
                None
            }
            _ => None,
        }
    }

    /// The first cursor after a join without a head is its join point.
    fn settle(&mut self, index: &Index<'_>, device: &Device, channel: ChannelId, seq: Seq) {
        let pair = index
            .channel(channel)
            .and_then(|channel| self.find(device, channel))
            .map(|no| &mut self.pairs[no as usize]);
        if let Some(Pair {
            channel,
            stay: Some(stay),
            ..
        }) = pair
            && let JoinPoint::After(at_us) = stay.from
        {
            stay.from = point(index, *channel, Some(seq), at_us);
        }
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
}

fn point(index: &Index<'_>, channel: u32, seq: Option<Seq>, at_us: u64) -> JoinPoint {
    seq.map_or(JoinPoint::After(at_us), |seq| {
        let seqs = &index.seqs[channel as usize];
        JoinPoint::Rank(seqs.partition_point(|known| *known <= seq) as u32)
    })
}
