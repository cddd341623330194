use std::time::Duration;

use tokio::time::Instant;

/// The first distance between two requests after a refusal.
const FIRST: Duration = Duration::from_millis(60);
/// Never farther apart than this.
const CAP: Duration = Duration::from_secs(5);
/// A distance below this is none.
const NONE: Duration = Duration::from_millis(5);
/// Refusals so close together are one: the others were on their way already.
const TOGETHER: Duration = Duration::from_secs(1);
/// So long without a refusal, and the pace is tried a little faster; so long without a request,
/// and it is forgotten. Longer than the 10 s after which a server forgives a refusal, since it
/// closes the connection of a client that is refused again and again.
const CALM: Duration = Duration::from_secs(11);

/// Finds a pace that the server's rate limit allows, which it does not tell: it says only how
/// long until there is room for one. No I/O.
#[derive(Debug, Default)]
pub(crate) struct Pacer {
    interval: Duration,
    /// No request before then.
    next_at: Option<Instant>,
    refused_at: Option<Instant>,
    /// The last refusal or the last time the pace became faster.
    changed_at: Option<Instant>,
    sent_at: Option<Instant>,
}

impl Pacer {
    /// The server said `rate_limited`.
    pub(crate) fn refused(&mut self, now: Instant, retry_after: Duration) {
        let ago = self.refused_at.map(|at| now - at);
        if ago.is_none_or(|ago| ago >= TOGETHER) {
            let grown = match ago {
                // Found by trying faster: nearly right.
                Some(ago) if ago >= CALM => self.interval.mul_f64(1.3),
                _ => self.interval * 2,
            };
            self.interval = grown.max(FIRST).max(retry_after * 2).min(CAP);
            self.refused_at = Some(now);
            self.changed_at = Some(now);
        }
        let next_at = now + retry_after.max(self.interval);
        self.next_at = self.next_at.max(Some(next_at));
    }

    /// A request goes out.
    pub(crate) fn sent(&mut self, now: Instant) {
        if self.sent_at.is_some_and(|at| now - at >= CALM) {
            self.interval = Duration::ZERO;
        } else if self.changed_at.is_some_and(|at| now - at >= CALM) {
            self.interval = self.interval.mul_f64(0.9);
            self.changed_at = Some(now);
        }
        if self.interval < NONE {
            self.interval = Duration::ZERO;
            self.next_at = None;
        } else {
            self.next_at = Some(now + self.interval);
        }
        self.sent_at = Some(now);
    }

    /// Whether a request may go out now.
    pub(crate) fn ready(&self, now: Instant) -> bool {
        self.next_at.is_none_or(|at| at <= now)
    }

    /// Whether a limit has been met: one at a time then, which also keeps their order.
    pub(crate) fn is_active(&self) -> bool {
        !self.interval.is_zero()
    }

    /// When the next request may go out; `None`: now.
    pub(crate) fn next_at(&self) -> Option<Instant> {
        self.next_at
    }
}
