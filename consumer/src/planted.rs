//! The mistakes of this crate, and what widens the window of two that are planted in the edge. All
//! of it is about announcements, which may be lost, late or out of order: only M7 breaks a promise.
use std::collections::BTreeMap;

use hubbub_mutant::{Mutant, planted};
use hubbub_protocol::{ChannelId, Seq};
use hubbub_store::{Incoming, Touched};

/// Without a sweep, so many announcements are lost: those that are the last of their channel show.
const LOST: f64 = 0.1;

/// M7: what is announced before the batch is stored, by what its records say alone.
pub(crate) fn early(records: &[Incoming]) -> Vec<Touched> {
    let mut touched: BTreeMap<ChannelId, Touched> = BTreeMap::new();
    if !planted(Mutant::M7) {
        return Vec::new();
    }
    for record in records {
        let Incoming::Row(row) = record else { continue };
        let of = touched.entry(row.channel).or_insert_with(|| Touched {
            channel: row.channel,
            // Where the channel's last one is would have to be read.
            from: Seq(row.seq.0 - 1),
            through: row.seq,
            seqs: Vec::new(),
        });
        of.through = row.seq;
        of.seqs.push(row.seq);
    }
    touched.into_values().collect()
}

/// What of `touched` is announced now; the rest stays in `held_back`, or is lost.
pub(crate) fn now(held_back: &mut Vec<Touched>, touched: Vec<Touched>) -> Vec<Touched> {
    match hubbub_mutant::which() {
        Some(Mutant::M7) => Vec::new(),
        // Every second batch goes out after the one that follows it.
        Some(Mutant::HorizonNeverGoesBack) if held_back.is_empty() => {
            *held_back = touched;
            Vec::new()
        }
        Some(Mutant::HorizonNeverGoesBack) => {
            let mut now = touched;
            now.append(held_back);
            now
        }
        Some(Mutant::Sweep) => {
            let mut now = touched;
            now.retain(|_| rand::random::<f64>() >= LOST);
            now
        }
        _ => touched,
    }
}
