use std::{hash::Hash, num::NonZeroUsize, time::Duration};

use lru::LruCache;
use parking_lot::Mutex;
use tokio::time::Instant;

/// How much a key may do: a token bucket.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rate {
    /// Tokens that flow in a second; above 0.
    pub per_second: f64,
    /// Tokens that the bucket holds; from 1.
    pub burst: f64,
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    tokens: f64,
    at: Instant,
}

/// A token bucket per key. Bounded: past `keys` the one used longest ago is forgotten and starts
/// again with a full bucket, so a flood of keys makes the limit generous, never the memory large.
#[derive(Debug)]
pub struct RateLimiter<K: Eq + Hash> {
    rate: Rate,
    buckets: Mutex<LruCache<K, Bucket>>,
}

impl<K: Eq + Hash> RateLimiter<K> {
    /// Takes the rate and how many keys are counted at once (from 1).
    pub fn new(rate: Rate, keys: usize) -> Self {
        let keys = NonZeroUsize::new(keys).unwrap_or(NonZeroUsize::MIN);
        Self {
            rate,
            buckets: Mutex::new(LruCache::sparse(keys)),
        }
    }

    /// Takes a token of `key`, or says in how many milliseconds (from 1) there will be one.
    pub fn take(&self, key: K) -> Result<(), u64> {
        self.take_at(key, Instant::now())
    }

    fn take_at(&self, key: K, now: Instant) -> Result<(), u64> {
        let mut buckets = self.buckets.lock();
        let bucket = buckets.get_or_insert_mut(key, || Bucket {
            tokens: self.rate.burst,
            at: now,
        });
        let passed = now.saturating_duration_since(bucket.at).as_secs_f64();
        bucket.tokens = (bucket.tokens + passed * self.rate.per_second).min(self.rate.burst);
        bucket.at = now;
        if bucket.tokens >= 1.0 {
            bucket.tokens -= 1.0;
            return Ok(());
        }
        let wait = (1.0 - bucket.tokens) / self.rate.per_second;
        // A rate of 0 would wait for ever; an hour is as good and fits every reader.
        let wait = Duration::try_from_secs_f64(wait)
            .unwrap_or(Duration::MAX)
            .min(Duration::from_secs(3_600));
        Err(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX) + 1)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn limiter(per_second: f64, burst: f64, keys: usize) -> RateLimiter<u32> {
        RateLimiter::new(Rate { per_second, burst }, keys)
    }

    #[test]
    fn burst_is_taken_at_once_and_the_wait_is_true() {
        let limiter = limiter(20.0, 40.0, 8);
        let start = Instant::now();
        for _ in 0..40 {
            assert_eq!(limiter.take_at(1, start), Ok(()));
        }
        let wait = limiter.take_at(1, start).expect_err("41st");
        assert!((50..=51).contains(&wait), "{wait}");
        assert_eq!(limiter.take_at(2, start), Ok(()), "another key is free");
        let later = start + Duration::from_millis(wait);
        assert_eq!(limiter.take_at(1, later), Ok(()));
        assert!(limiter.take_at(1, later).is_err());
    }

    #[test]
    fn keys_are_bounded_and_the_oldest_goes() {
        let limiter = limiter(0.001, 1.0, 2);
        let now = Instant::now();
        assert_eq!(limiter.take_at(1, now), Ok(()));
        assert_eq!(limiter.take_at(2, now), Ok(()));
        assert!(limiter.take_at(1, now).is_err());
        assert_eq!(limiter.take_at(3, now), Ok(()), "2 is forgotten");
        assert!(limiter.take_at(1, now).is_err(), "1 was used later than 2");
        assert_eq!(limiter.buckets.lock().len(), 2);
    }

    proptest! {
        /// Whatever the times of the tries, no window holds more than burst + rate x its length.
        #[test]
        fn no_window_exceeds_burst_and_rate(
            steps in prop::collection::vec(0_u64..200, 1..200),
            burst in 1_u32..20,
            per_second in 1_u32..50,
        ) {
            let limiter = limiter(f64::from(per_second), f64::from(burst), 1);
            let start = Instant::now();
            let (mut now, mut taken) = (start, Vec::new());
            for step in steps {
                now += Duration::from_millis(step);
                match limiter.take_at(1, now) {
                    Ok(()) => taken.push(now),
                    Err(wait) => prop_assert!((1..=1_001).contains(&wait)),
                }
            }
            for (i, from) in taken.iter().enumerate() {
                for (j, to) in taken.iter().enumerate().skip(i) {
                    let window = (*to - *from).as_secs_f64();
                    let most = f64::from(burst) + window * f64::from(per_second) + 1e-6;
                    prop_assert!((j - i + 1) as f64 <= most, "{} in {window} s", j - i + 1);
                }
            }
        }
    }
}
