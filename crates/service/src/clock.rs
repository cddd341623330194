//! The wall clock, in one place: for tokens and display only, never for order or timers (those
//! take `tokio::time::Instant`).
use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::UNIX_EPOCH,
};

/// Milliseconds since 1970 by the wall clock; 0 on a machine whose clock is before that.
pub fn wall_clock_ms() -> i64 {
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place that reads the clock"
    )]
    let now = std::time::SystemTime::now();
    now.duration_since(UNIX_EPOCH)
        .ok()
        .and_then(|since| i64::try_from(since.as_millis()).ok())
        .unwrap_or(0)
}

/// Where a component takes the wall-clock time from: the system, or a test's hand. Cheap handle;
/// clones of a manual clock show the same time.
#[derive(Debug, Clone, Default)]
pub struct Clock {
    manual: Option<Arc<AtomicI64>>,
}

impl Clock {
    /// The system's clock.
    pub fn system() -> Self {
        Self::default()
    }

    /// A clock that stands at `now_ms` (milliseconds since 1970) until it is set.
    pub fn manual(now_ms: i64) -> Self {
        Self {
            manual: Some(Arc::new(AtomicI64::new(now_ms))),
        }
    }

    /// Milliseconds since 1970.
    pub fn now_ms(&self) -> i64 {
        match &self.manual {
            Some(now) => now.load(Ordering::Relaxed),
            None => wall_clock_ms(),
        }
    }

    /// Whole seconds since 1970, as tokens count them.
    pub fn now_s(&self) -> i64 {
        self.now_ms().div_euclid(1_000)
    }

    /// Sets a manual clock; the system's clock is left alone.
    pub fn set_ms(&self, now_ms: i64) {
        if let Some(now) = &self.manual {
            now.store(now_ms, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clones_of_a_manual_clock_agree() {
        let clock = Clock::manual(1_999);
        let other = clock.clone();
        assert_eq!(other.now_s(), 1);
        clock.set_ms(-1);
        assert_eq!((other.now_ms(), other.now_s()), (-1, -1));
    }

    #[test]
    fn the_system_clock_counts_milliseconds() {
        // 2020-01-01 and 2200-01-01: seconds or microseconds would fall outside.
        assert!((1_577_836_800_000..7_258_118_400_000).contains(&Clock::system().now_ms()));
    }
}
