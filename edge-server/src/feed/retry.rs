/// First delay after a failure, doubled with each further one.
const FIRST_MS: u64 = 100;
/// Longest delay: contract P7 leaves 2 s after the heal.
const LONGEST_MS: u64 = 1_000;

/// When what failed may be tried again: doubling delays with a cap and jitter.
#[derive(Debug, Default)]
pub(super) struct Retry {
    failures: u32,
    /// When the first of the failures was.
    since_ms: u64,
    /// `None` = at once.
    due_ms: Option<u64>,
}

impl Retry {
    pub(super) fn failed(&mut self, now_ms: u64, jitter: u64) {
        if self.failures == 0 {
            self.since_ms = now_ms;
        }
        let longest = (FIRST_MS << self.failures.min(10)).min(LONGEST_MS);
        self.failures = self.failures.saturating_add(1);
        self.due_ms = Some(now_ms + longest / 2 + jitter % (longest / 2 + 1));
    }

    pub(super) fn succeeded(&mut self) {
        *self = Self::default();
    }

    /// Whether the next attempt may be made. Once it may, nothing is due any more: the attempt
    /// may still wait for something else.
    pub(super) fn is_due(&mut self, now_ms: u64) -> bool {
        if self.due_ms.is_some_and(|due| due <= now_ms) {
            self.due_ms = None;
        }
        self.due_ms.is_none()
    }

    pub(super) fn due_ms(&self) -> Option<u64> {
        self.due_ms
    }

    /// For how long it has failed.
    pub(super) fn failing_for_ms(&self, now_ms: u64) -> u64 {
        if self.failures == 0 {
            0
        } else {
            now_ms.saturating_sub(self.since_ms)
        }
    }
}
