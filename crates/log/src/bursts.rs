//! Which records were handed over in one burst. The log acknowledges them together or nearly so,
//! and their reports are worth more together: who is told of the first alone does for it what
//! could have been done once for all.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

/// A record that comes so soon after the one before it in its partition belongs to its burst.
const GAP: Duration = Duration::from_micros(50);
/// A burst ends after so long, and after so many records: the first of them waits for the last.
const LONGEST: Duration = Duration::from_micros(300);
const MOST: u32 = 64;

/// The bursts of each partition that wait for reports, in the order of their records.
#[derive(Debug)]
pub(crate) struct Bursts(Vec<VecDeque<Burst>>);

#[derive(Debug)]
struct Burst {
    began: Instant,
    last: Instant,
    records: u32,
    unreported: u32,
}

impl Bursts {
    pub(crate) fn new(partitions: u32) -> Self {
        Self((0..partitions).map(|_| VecDeque::new()).collect())
    }

    fn of(&mut self, partition: i32) -> Option<&mut VecDeque<Burst>> {
        self.0.get_mut(usize::try_from(partition).ok()?)
    }

    /// A record was handed over `at` that time.
    pub(crate) fn add(&mut self, partition: i32, at: Instant) {
        let Some(bursts) = self.of(partition) else {
            return;
        };
        match bursts.back_mut() {
            Some(burst)
                if at < burst.last + GAP && at < burst.began + LONGEST && burst.records < MOST =>
            {
                burst.last = at;
                burst.records += 1;
                burst.unreported += 1;
            }
            _ => bursts.push_back(Burst {
                began: at,
                last: at,
                records: 1,
                unreported: 1,
            }),
        }
    }

    /// The partition's oldest record that had no report has one. Whether no other record of its
    /// burst waits for one.
    pub(crate) fn done(&mut self, partition: i32) -> bool {
        let Some(bursts) = self.of(partition) else {
            return true;
        };
        let Some(burst) = bursts.front_mut() else {
            return true;
        };
        burst.unreported -= 1;
        let is_over = burst.unreported == 0;
        if is_over {
            bursts.pop_front();
        }
        is_over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn burst_is_over_with_its_last_report() {
        let mut bursts = Bursts::new(2);
        let start = Instant::now();
        let at = |us: u64| start + Duration::from_micros(us);
        for us in [0, 10, 59] {
            bursts.add(1, at(us));
        }
        // Too late for it; and another partition has bursts of its own.
        bursts.add(1, at(109));
        bursts.add(0, at(110));
        assert_eq!([(); 4].map(|()| bursts.done(1)), [false, false, true, true]);
        assert!(bursts.done(0));
    }

    #[test]
    fn bursts_are_bounded_in_time_and_number() {
        let mut bursts = Bursts::new(1);
        let start = Instant::now();
        let add = |bursts: &mut Bursts, count: u32, apart: Duration| {
            (0..count).for_each(|n| bursts.add(0, start + apart * n));
            let ends = (0..count).filter(|_| bursts.done(0));
            ends.count()
        };
        assert_eq!(add(&mut bursts, MOST + 1, Duration::ZERO), 2);
        assert_eq!(add(&mut bursts, 31, Duration::from_micros(20)), 3);
    }

    #[test]
    fn what_nobody_handed_over_waits_for_nothing() {
        let mut bursts = Bursts::new(1);
        assert!(bursts.done(0));
        bursts.add(7, Instant::now());
        assert!(bursts.done(7) && bursts.done(-1));
    }
}
