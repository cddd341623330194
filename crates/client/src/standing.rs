use std::time::Duration;

use tokio::time::Instant;

/// After a refusal, at least so long until the next attempt.
const AGAIN: Duration = Duration::from_secs(1);

/// Something that the server is to know for as long as a connection lasts, and to be told anew on
/// the next one: the newest value counts. No I/O.
#[derive(Debug)]
pub(crate) struct Standing<T> {
    value: Option<T>,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// To be told, not before then (`None`: at once).
    Due(Option<Instant>),
    /// Told, or on its way.
    Told,
}

impl<T: PartialEq> Standing<T> {
    pub(crate) fn new() -> Self {
        Self {
            value: None,
            state: State::Told,
        }
    }

    pub(crate) fn set(&mut self, value: T) {
        if self.value.as_ref() != Some(&value) {
            self.value = Some(value);
            self.state = State::Due(None);
        }
    }

    /// A connection is up.
    pub(crate) fn connected(&mut self) {
        self.state = State::Due(None);
    }

    /// The server does not take it now.
    pub(crate) fn refused(&mut self, now: Instant, retry_after: Option<Duration>) {
        let delay = retry_after.unwrap_or_default().max(AGAIN);
        self.state = State::Due(Some(now + delay));
    }

    /// What is to be told now.
    pub(crate) fn next(&mut self, now: Instant) -> Option<&T> {
        match self.state {
            State::Due(at) if at.is_none_or(|at| at <= now) => {
                self.state = State::Told;
                self.value.as_ref()
            }
            _ => None,
        }
    }

    /// The moment after `now` at which [`Self::next`] has something that it has not now.
    pub(crate) fn next_due(&self, now: Instant) -> Option<Instant> {
        match (&self.value, self.state) {
            (Some(_), State::Due(Some(at))) if at > now => Some(at),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newest_value_is_told_once_a_connection_and_again_after_a_refusal() {
        let (mut standing, now) = (Standing::new(), Instant::now());
        assert_eq!(standing.next(now), None::<&u8>);
        standing.set(1);
        standing.set(2);
        assert_eq!(standing.next(now), Some(&2));
        standing.set(2);
        assert_eq!(standing.next(now), None);
        standing.refused(now, Some(AGAIN * 3));
        assert_eq!(standing.next(now), None);
        assert_eq!(standing.next_due(now), Some(now + AGAIN * 3));
        assert_eq!(standing.next(now + AGAIN * 3), Some(&2));
        standing.connected();
        assert_eq!(standing.next(now), Some(&2));
    }
}
