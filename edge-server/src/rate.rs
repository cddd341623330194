//! A token bucket: how often one socket may do something.

/// Refills at `rate` tokens a second up to `burst`. Time comes in as milliseconds.
#[derive(Debug, Clone)]
pub(crate) struct Bucket {
    rate: f64,
    burst: f64,
    tokens: f64,
    at_ms: u64,
}

impl Bucket {
    /// A full bucket. `rate` and `burst` are at least 1.
    pub(crate) fn new(rate: f64, burst: f64, now_ms: u64) -> Self {
        Self {
            rate,
            burst,
            tokens: burst,
            at_ms: now_ms,
        }
    }

    /// Takes one token, or says after how many milliseconds there will be one.
    pub(crate) fn take(&mut self, now_ms: u64) -> Result<(), u64> {
        let passed = now_ms.saturating_sub(self.at_ms) as f64 / 1_000.0;
        self.at_ms = self.at_ms.max(now_ms);
        self.tokens = (self.tokens + passed * self.rate).min(self.burst);
        if self.tokens >= 1.0 {
            self.tokens -= 1.0;
            Ok(())
        } else {
            // Rounded up to whole milliseconds, a float's last digit apart.
            let wait_ms = (1.0 - self.tokens) / self.rate * 1_000.0;
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
    last_ms: Option<u64>,
}

impl Strikes {
    /// Takes note of a refusal; true if it was one too many.
    pub(crate) fn refused(&mut self, now_ms: u64) -> bool {
        match self.last_ms {
            Some(last) if now_ms.saturating_sub(last) < STRIKE_EVERY_MS => return false,
            Some(last) if now_ms.saturating_sub(last) > FORGIVEN_AFTER_MS => self.count = 0,
            _ => {}
        }
        self.last_ms = Some(now_ms);
        self.count += 1;
        self.count > STRIKES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bucket_gives_its_burst_then_its_rate() {
        let mut bucket = Bucket::new(10.0, 3.0, 0);
        assert_eq!(
            (0..5).map(|_| bucket.take(0)).filter(Result::is_ok).count(),
            3
        );
        assert_eq!(bucket.take(0), Err(100));
        assert_eq!(bucket.take(99), Err(1));
        assert_eq!(bucket.take(100), Ok(()));
        assert_eq!(
            (0..9)
                .map(|_| bucket.take(100_000))
                .filter(Result::is_ok)
                .count(),
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
