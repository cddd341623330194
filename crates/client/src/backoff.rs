use std::time::Duration;

use rand::{Rng, RngExt};

/// Delays between attempts: full jitter, uniform between 0 and a bound that doubles with each
/// failure in a row up to a cap.
#[derive(Debug, Clone)]
pub struct Backoff {
    first: Duration,
    cap: Duration,
    failures: u32,
}

impl Backoff {
    /// Bounds from `first`, doubling, to `cap`.
    pub fn new(first: Duration, cap: Duration) -> Self {
        Self {
            first,
            cap,
            failures: 0,
        }
    }

    /// The delay before the next attempt. `floor` is the least that the server asked for; the
    /// jitter comes on top of it, so that clients that were told the same do not come at once.
    pub fn next(&mut self, rng: &mut impl Rng, floor: Option<Duration>) -> Duration {
        let bound = self.bound();
        self.failures = self.failures.saturating_add(1);
        floor.unwrap_or(Duration::ZERO) + bound.mul_f64(rng.random_range(0.0..=1.0))
    }

    /// The largest that the next delay can be, without a floor.
    pub fn bound(&self) -> Duration {
        let doubled = self.first.saturating_mul(1_u32 << self.failures.min(16));
        doubled.min(self.cap)
    }

    /// An attempt succeeded: the next delay is below `first` again.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use rand::{SeedableRng, rngs::SmallRng};

    use super::*;

    #[test]
    fn delays_grow_to_the_cap_and_reset() {
        let mut rng = SmallRng::seed_from_u64(7);
        let (first, cap) = (Duration::from_millis(250), Duration::from_secs(30));
        let mut backoff = Backoff::new(first, cap);
        for n in 0..40 {
            let bound = first.saturating_mul(1 << n.min(16)).min(cap);
            assert_eq!(backoff.bound(), bound);
            assert!(backoff.next(&mut rng, None) <= bound);
        }
        backoff.reset();
        assert_eq!(backoff.bound(), first);
        let floor = Duration::from_secs(2);
        let delay = backoff.next(&mut rng, Some(floor));
        assert!(delay >= floor && delay <= floor + first);
    }

    #[test]
    fn jitter_is_full() {
        let mut rng = SmallRng::seed_from_u64(7);
        let first = Duration::from_millis(1_000);
        let delays: Vec<_> = (0..1_000)
            .map(|_| Backoff::new(first, first).next(&mut rng, None).as_millis())
            .collect();
        for decile in 0..10 {
            let count = delays.iter().filter(|d| **d / 100 == decile).count();
            assert!((50..200).contains(&count), "decile {decile}: {count}");
        }
    }
}
