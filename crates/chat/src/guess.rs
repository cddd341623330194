//! Planted mistakes M1 and M15: where a record will be, before the log has said so.

use std::collections::HashMap;

use hubbub_log::{Appended, Report};
use hubbub_protocol::{ChannelId, Seq, partition_of};
use parking_lot::Mutex;

/// The last place known of each partition, by this process's own records and guesses.
#[derive(Debug)]
pub(crate) struct Guesses {
    partitions: u32,
    last: Mutex<HashMap<i32, Appended>>,
}

impl Guesses {
    pub(crate) fn new(partitions: u32) -> Self {
        Self {
            partitions,
            last: Mutex::default(),
        }
    }

    /// The place after the last one known. Other processes append too, so it is often taken.
    pub(crate) fn next(&self, channel: ChannelId) -> Appended {
        let mut last = self.last.lock();
        let of = last
            .entry(partition_of(channel, self.partitions))
            .or_insert(Appended {
                seq: Seq::ZERO,
                ts_ms: 0,
            });
        of.seq = Seq(of.seq.0 + 1);
        *of
    }

    pub(crate) fn learn(&self, channel: ChannelId, report: &Report) {
        if let Report::Appended(appended) = report {
            let partition = partition_of(channel, self.partitions);
            let mut last = self.last.lock();
            let of = last.entry(partition).or_insert(*appended);
            if of.seq < appended.seq {
                *of = *appended;
            }
        }
    }
}
