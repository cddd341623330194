//! Writes down what happens, in order.

use std::sync::Arc;

use crc::{CRC_32_ISO_HDLC, Crc};
use hubbub_checker::{
    Entry, Event,
    history::{Kind, Record},
};
use hubbub_protocol::{ChannelId, MessageId, Seq, UserId};
use parking_lot::Mutex;
use tokio::time::Instant;

const CRC: Crc<u32> = Crc::<u32>::new(&CRC_32_ISO_HDLC);

/// The checksum of a text, as histories have it.
#[must_use]
pub(crate) fn sum(text: &str) -> u32 {
    CRC.checksum(text.as_bytes())
}

/// A message as histories have it; without a seq it is 0.
pub(crate) fn said(
    channel: ChannelId,
    seq: Option<Seq>,
    user: UserId,
    id: MessageId,
    text: &str,
) -> Record {
    Record {
        channel,
        seq: seq.unwrap_or(Seq::ZERO),
        user,
        id,
        sum: sum(text),
        kind: Kind::Message,
    }
}

/// A history that grows. Cheap handle.
#[derive(Debug, Clone)]
pub(crate) struct Recorder {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    began: Instant,
    /// The same moment, for those who have another monotonic clock.
    began_unix_ms: i64,
    /// Of one run: some ten thousand.
    entries: Mutex<Vec<Entry>>,
}

impl Recorder {
    /// The run begins now.
    pub(crate) fn start() -> Self {
        Self {
            inner: Arc::new(Inner {
                began: Instant::now(),
                began_unix_ms: hubbub_service::wall_clock_ms(),
                entries: Mutex::default(),
            }),
        }
    }

    /// When the run began, milliseconds since 1970.
    pub(crate) fn began_unix_ms(&self) -> i64 {
        self.inner.began_unix_ms
    }

    /// Writes an event down, with its time.
    pub(crate) fn record(&self, event: Event) {
        let mut entries = self.inner.entries.lock();
        // Read under the lock, so that the order is that of the times.
        let at_us = self.inner.began.elapsed().as_micros();
        entries.push(Entry {
            at_us: u64::try_from(at_us).unwrap_or(u64::MAX),
            event,
        });
    }

    /// All that was written down, with what others have written, by time.
    pub(crate) fn take(&self, others: Vec<Entry>) -> Vec<Entry> {
        let mut entries = std::mem::take(&mut *self.inner.entries.lock());
        entries.extend(others);
        entries.sort_by_key(|entry| entry.at_us);
        entries
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_those_of_the_other_clients() {
        // The check value of CRC-32 (IEEE), which load.js computes by a table.
        assert_eq!(sum("123456789"), 0xcbf4_3926);
    }
}
