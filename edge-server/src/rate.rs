//! A token bucket: how often one socket may do something.

/// So many a second, and so many at once; both at least 1.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limit {
    /// Tokens a second.
    pub(crate) rate: f64,
    /// Tokens of a full bucket.
    pub(crate) burst: f64,
}

/// Refills by its limit, which is not kept in it: there is a bucket for each socket. Time comes in
/// as milliseconds.
#[derive(Debug, Clone)]
pub(crate) struct Bucket {
    tokens: f64,
    at_ms: u64,
}

impl Bucket {
    /// A full bucket.
    pub(crate) fn new(limit: Limit, now_ms: u64) -> Self {
        Self {
            tokens: limit.burst,
            at_ms: now_ms,
        }
    }

    /// Takes one token, or says after how many milliseconds there will be one.
    pub(crate) fn take(&mut self, limit: Limit, now_ms: u64) -> Result<(), u64> {
        let passed = now_ms.saturating_sub(self.at_ms) as f64 / 1_000.0;
        self.at_ms = self.at_ms.max(now_ms);
        self.tokens = (self.tokens + passed * limit.rate).min(limit.burst);
        if self.tokens >= 1.0 {
            self.tokens -= 1.0;
            Ok(())
        } else {
            // Rounded up to whole milliseconds, a float's last digit apart.
            let wait_ms = (1.0 - self.tokens) / limit.rate * 1_000.0;
            Err((wait_ms - 1e-6).ceil() as u64)
        }
    }
}

/// How often refusals may follow one another before the socket is closed.
const STRIKES: u32 = 3;
/// Refusals within one second count once: a client with requests in flight hears of the first
/// only after it has sent the others.
const STRIKE_EVERY_MS: u64 = 1_000;
/// A second refusal later than this after the last is a new beginning.
const FORGIVEN_AFTER_MS: u64 = 10_000;

/// Counts the seconds in which a socket went on although it was refused.
#[derive(Debug, Default)]
pub(crate) struct Strikes {
    count: u32,
    /// Of the last one counted, if there was any.
    last_ms: u64,
}

impl Strikes {
    /// Takes note of a refusal; true if it was one too many.
    pub(crate) fn refused(&mut self, now_ms: u64) -> bool {
        let since_ms = now_ms.saturating_sub(self.last_ms);
        if self.count > 0 && since_ms < STRIKE_EVERY_MS {
            return false;
        }
        if since_ms > FORGIVEN_AFTER_MS {
            self.count = 0;
        }
        self.last_ms = now_ms;
        self.count += 1;
        self.count > STRIKES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bucket_gives_its_burst_then_its_rate() {
        let limit = Limit {
            rate: 10.0,
            burst: 3.0,
        };
        let mut bucket = Bucket::new(limit, 0);
        let mut take = |now_ms| bucket.take(limit, now_ms);
        assert_eq!((0..5).map(|_| take(0)).filter(Result::is_ok).count(), 3);
        assert_eq!(take(0), Err(100));
        assert_eq!(take(99), Err(1));
        assert_eq!(take(100), Ok(()));
        assert_eq!(
            (0..9).map(|_| take(100_000)).filter(Result::is_ok).count(),
            3
        );
    }

    #[test]
    fn strikes_count_seconds_not_frames() {
        let mut strikes = Strikes::default();
        assert!((0..500).all(|at| !strikes.refused(at)));
        assert!(!strikes.refused(1_000) && !strikes.refused(2_000));
        assert!(strikes.refused(3_000));
        let mut patient = Strikes::default();
        assert!((0..10).all(|n| !patient.refused(n * 20_000)));
    }
}
