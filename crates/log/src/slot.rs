//! What a member knows of one of its partitions. No I/O, no Kafka.
use std::time::Duration;

use tokio::{sync::mpsc, time::Instant};

use crate::LogRecord;

/// Vectors of records that wait for a partition's task. More only cost memory: what waits longer
/// is gathered into larger vectors before them.
const QUEUE: usize = 4;
/// Bytes in one vector, so that a partition costs a few MiB at most.
const BATCH_BYTES: usize = 1024 * 1024;
/// First and longest wait before a start is looked for again.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));
/// How often a log must be seen to end below the position before that is believed.
const SHORT_TIMES: u32 = 3;
const SHORT_WAIT: Duration = Duration::from_millis(300);

/// One partition of this member.
#[derive(Debug)]
pub(crate) struct Slot {
    /// Tells the answer to the latest question for the start from older ones.
    pub(crate) generation: u64,
    pub(crate) stage: Stage,
    /// Where a record did not follow the one before it: met again at the same place, the hole is
    /// the log's own.
    hole: Option<i64>,
    attempts: u32,
    short: u32,
    /// Starts that its task asked for since it made progress.
    pub(crate) restarts: u32,
}

#[derive(Debug)]
pub(crate) enum Stage {
    /// Its start is to be asked for at this time.
    Waiting(Instant),
    /// Its start is being asked for.
    Asking,
    /// It is assigned in librdkafka, in this stage and no other.
    Reading(Reading),
    /// The log does not fit the store.
    Refused,
}

impl Slot {
    pub(crate) fn new(generation: u64) -> Self {
        Self {
            generation,
            stage: Stage::Waiting(Instant::now()),
            hole: None,
            attempts: 0,
            short: 0,
            restarts: 0,
        }
    }

    pub(crate) fn is_due(&self, now: Instant) -> bool {
        matches!(self.stage, Stage::Waiting(at) if at <= now)
    }

    /// Begins to read at `next_offset`; gives the receiver for the partition's task.
    pub(crate) fn read_from(
        &mut self,
        next_offset: i64,
        batch_records: usize,
    ) -> mpsc::Receiver<Vec<LogRecord>> {
        let (sender, records) = mpsc::channel(QUEUE);
        self.attempts = 0;
        self.short = 0;
        self.stage = Stage::Reading(Reading {
            next: next_offset,
            stored: next_offset,
            waiting: Vec::new(),
            waiting_bytes: 0,
            batch_records: batch_records.max(1),
            sender,
            paused: false,
        });
        records
    }

    /// Asks again after a wait that doubles up to 2 s; `jitter` is in 0.5..=1. Says whether this
    /// is the first failure in a row.
    pub(crate) fn failed(&mut self, jitter: f64) -> bool {
        self.wait(self.attempts, jitter);
        self.attempts = self.attempts.saturating_add(1);
        self.attempts == 1
    }

    /// Its task asked for another start: waits as in [`Slot::failed`], but counts until the task
    /// has made progress, since a start alone is none.
    pub(crate) fn restarted(&mut self, jitter: f64) {
        self.wait(self.restarts, jitter);
        self.restarts = self.restarts.saturating_add(1);
    }

    fn wait(&mut self, times: u32, jitter: f64) {
        let (first, longest) = BACKOFF;
        let wait = first.saturating_mul(1 << times.min(8)).min(longest);
        self.stage = Stage::Waiting(Instant::now() + wait.mul_f64(jitter));
    }

    /// The log ended below the position. `true`: often enough to believe it.
    pub(crate) fn is_short(&mut self) -> bool {
        self.short += 1;
        self.stage = Stage::Waiting(Instant::now() + SHORT_WAIT);
        self.short >= SHORT_TIMES
    }

    /// Takes a record that was fetched. Only in stage `Reading`.
    pub(crate) fn take(&mut self, record: LogRecord) -> Taken {
        let Stage::Reading(reading) = &mut self.stage else {
            return Taken::Old;
        };
        let offset = record.next_offset - 1;
        if offset < reading.next {
            return Taken::Old;
        }
        if offset > reading.next && self.hole != Some(reading.next) {
            self.hole = Some(reading.next);
            return Taken::Hole;
        }
        reading.next = record.next_offset;
        reading.waiting_bytes += record.bytes();
        reading.waiting.push(record);
        Taken::Kept
    }
}

/// What became of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Taken {
    /// It waits for the partition's task.
    Kept,
    /// It was handed out before, or belongs to an assignment that is over.
    Old,
    /// Records are missing before it: start the partition again from the store's position.
    Hole,
}

/// A partition whose records flow.
#[derive(Debug)]
pub(crate) struct Reading {
    /// Offset of the next record.
    next: i64,
    /// The position that the task reported last.
    pub(crate) stored: i64,
    /// Records that the queue had no room for yet.
    waiting: Vec<LogRecord>,
    waiting_bytes: usize,
    batch_records: usize,
    sender: mpsc::Sender<Vec<LogRecord>>,
    /// Whether librdkafka was told to fetch no more of it.
    pub(crate) paused: bool,
}

/// What became of the records that waited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Flushed {
    pub(crate) records: usize,
    pub(crate) next: Next,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// Nothing to be done.
    Continue,
    /// So much waits that the partition is to be paused.
    Pause,
    /// There is room again.
    Resume,
    /// Nobody takes the records any more.
    Closed,
}

impl Reading {
    pub(crate) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Whether a full vector waits: flush before taking more.
    pub(crate) fn is_full(&self) -> bool {
        self.waiting.len() >= self.batch_records || self.waiting_bytes >= BATCH_BYTES
    }

    /// Hands over what the queue has room for; never waits.
    pub(crate) fn flush(&mut self) -> Flushed {
        let mut records = 0;
        while !self.waiting.is_empty() {
            match self.sender.try_reserve() {
                Ok(permit) => {
                    let batch = cut(&mut self.waiting, self.batch_records);
                    records += batch.len();
                    permit.send(batch);
                }
                Err(mpsc::error::TrySendError::Full(())) => break,
                Err(mpsc::error::TrySendError::Closed(())) => {
                    let next = Next::Closed;
                    return Flushed { records, next };
                }
            }
        }
        self.waiting_bytes = self.waiting.iter().map(LogRecord::bytes).sum();
        let next = match (self.paused, self.is_full(), self.waiting.is_empty()) {
            (false, true, _) => Next::Pause,
            (true, _, true) => Next::Resume,
            _ if self.sender.is_closed() => Next::Closed,
            _ => Next::Continue,
        };
        Flushed { records, next }
    }
}

/// Takes a vector of at most `records` and about [`BATCH_BYTES`] off the front.
fn cut(waiting: &mut Vec<LogRecord>, records: usize) -> Vec<LogRecord> {
    let mut bytes = 0;
    let fits = waiting.iter().take(records).take_while(|record| {
        let first = bytes == 0;
        bytes += record.bytes().max(1);
        first || bytes <= BATCH_BYTES
    });
    let end = fits.count();
    if end == waiting.len() {
        std::mem::take(waiting)
    } else {
        waiting.drain(..end).collect()
    }
}

#[cfg(test)]
mod tests {
    use hubbub_protocol::Seq;
    use proptest::prelude::*;

    use super::*;

    fn record(offset: i64, bytes: usize) -> LogRecord {
        LogRecord {
            seq: Seq(u64::try_from(offset).expect("from 0") + 1),
            next_offset: offset + 1,
            ts_ms: 0,
            key: None,
            payload: Some(vec![0; bytes]),
        }
    }

    fn reading(slot: &mut Slot) -> &mut Reading {
        match &mut slot.stage {
            Stage::Reading(reading) => reading,
            other => panic!("not reading: {other:?}"),
        }
    }

    #[test]
    fn doubles_are_dropped_and_a_hole_is_believed_the_second_time() {
        let mut slot = Slot::new(1);
        let records = slot.read_from(5, 10);
        assert_eq!(slot.take(record(4, 1)), Taken::Old);
        assert_eq!(slot.take(record(5, 1)), Taken::Kept);
        assert_eq!(slot.take(record(5, 1)), Taken::Old);
        assert_eq!(slot.take(record(8, 1)), Taken::Hole);
        drop(records);
        let _records = slot.read_from(5, 10);
        assert_eq!(slot.take(record(5, 1)), Taken::Kept);
        assert_eq!(slot.take(record(8, 1)), Taken::Kept);
        assert_eq!(slot.take(record(10, 1)), Taken::Hole, "another hole");
    }

    #[test]
    fn full_queue_pauses_and_an_empty_one_resumes() {
        let mut slot = Slot::new(1);
        let mut records = slot.read_from(0, 2);
        let mut offset = 0;
        let mut next = Next::Continue;
        while next != Next::Pause {
            assert!(offset < 100, "never paused");
            slot.take(record(offset, 1));
            offset += 1;
            next = reading(&mut slot).flush().next;
        }
        reading(&mut slot).paused = true;
        assert_eq!(reading(&mut slot).flush().next, Next::Continue, "no room");
        let mut got = records.try_recv().expect("a vector waits").len();
        let flushed = reading(&mut slot).flush();
        assert_eq!(flushed.next, Next::Resume);
        while let Ok(more) = records.try_recv() {
            got += more.len();
        }
        assert_eq!(got, usize::try_from(offset).expect("small"));
    }

    #[test]
    fn dropped_receiver_is_noticed_without_a_record() {
        let mut slot = Slot::new(1);
        drop(slot.read_from(0, 2));
        assert_eq!(reading(&mut slot).flush().next, Next::Closed);
        slot.take(record(0, 1));
        assert_eq!(reading(&mut slot).flush().next, Next::Closed);
    }

    #[test]
    fn waits_grow_to_their_cap_and_a_short_log_is_asked_for_again() {
        let mut slot = Slot::new(1);
        assert!(slot.failed(1.0));
        for _ in 0..40 {
            assert!(!slot.failed(1.0));
        }
        let Stage::Waiting(until) = slot.stage else {
            panic!("it waits");
        };
        assert!(until <= Instant::now() + BACKOFF.1);
        assert!(!slot.is_due(Instant::now()) && slot.is_due(until));
        assert_eq!(
            [slot.is_short(), slot.is_short(), slot.is_short()],
            [false, false, true]
        );
    }

    #[test]
    fn restarts_without_progress_wait_longer_although_they_start() {
        let mut slot = Slot::new(1);
        let mut waits = Vec::new();
        for _ in 0..8 {
            let before = Instant::now();
            slot.restarted(1.0);
            let Stage::Waiting(until) = slot.stage else {
                panic!("it waits");
            };
            waits.push(until - before);
            drop(slot.read_from(0, 2));
        }
        assert!(
            waits[0] >= BACKOFF.0 && waits[0] < BACKOFF.0 * 2,
            "{waits:?}"
        );
        assert!(
            waits[7] >= BACKOFF.1 && waits[1] >= BACKOFF.0 * 2,
            "{waits:?}"
        );
    }

    proptest! {
        /// Whatever the sizes and however the task lags, every record comes once and in order,
        /// in vectors within their bounds.
        #[test]
        fn records_come_out_as_they_went_in(
            sizes in prop::collection::vec(0..700_000_usize, 1..60),
            batch in 1..8_usize,
            reads in prop::collection::vec(any::<bool>(), 60),
        ) {
            let mut slot = Slot::new(1);
            let mut records = slot.read_from(0, batch);
            let mut got = Vec::new();
            let mut read = |records: &mut mpsc::Receiver<Vec<LogRecord>>| {
                let Ok(vector) = records.try_recv() else { return false };
                let bytes: usize = vector.iter().map(LogRecord::bytes).sum();
                assert!(vector.len() <= batch && (vector.len() == 1 || bytes <= BATCH_BYTES));
                got.extend(vector.iter().map(|r| r.next_offset - 1));
                true
            };
            for (offset, size) in sizes.iter().enumerate() {
                let offset = i64::try_from(offset).expect("small");
                prop_assert_eq!(slot.take(record(offset, *size)), Taken::Kept);
                reading(&mut slot).flush();
                if reads[offset as usize] { read(&mut records); }
            }
            while read(&mut records) { reading(&mut slot).flush(); }
            let all: Vec<i64> = (0..).take(sizes.len()).collect();
            prop_assert_eq!(got, all);
        }
    }
}
