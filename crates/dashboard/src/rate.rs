/// Seconds over which a rate is taken.
const WINDOW: usize = 5;

/// Events a second, over the last five seconds.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Rate {
    /// By second, modulo the window.
    counts: [u32; WINDOW],
    /// The second of the newest count.
    newest_s: u64,
}

impl Rate {
    pub(crate) fn add(&mut self, now_ms: u64, count: u64) {
        let now_s = self.forget(now_ms);
        let slot = &mut self.counts[(now_s % WINDOW as u64) as usize];
        *slot = slot.saturating_add(u32::try_from(count).unwrap_or(u32::MAX));
    }

    /// Clears the seconds that have gone since the newest count.
    fn forget(&mut self, now_ms: u64) -> u64 {
        let now_s = (now_ms / 1_000).max(self.newest_s);
        let gone = (now_s - self.newest_s).min(WINDOW as u64);
        for second in 0..gone {
            self.counts[((now_s - second) % WINDOW as u64) as usize] = 0;
        }
        self.newest_s = now_s;
        now_s
    }

    /// Tenths of an event a second.
    pub(crate) fn tenths(&self, now_ms: u64) -> u64 {
        let mut now = *self;
        now.forget(now_ms);
        let sum: u64 = now.counts.iter().map(|count| u64::from(*count)).sum();
        sum * 10 / WINDOW as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_older_than_five_seconds_does_not_count() {
        let mut rate = Rate::default();
        rate.add(1_000, 5);
        rate.add(1_999, 5);
        assert_eq!(rate.tenths(1_999), 20);
        rate.add(3_000, 10);
        assert_eq!(rate.tenths(5_999), 40);
        assert_eq!(rate.tenths(6_000), 20);
        assert_eq!(rate.tenths(8_000), 0);
        rate.add(1_000_000, 1);
        assert_eq!(rate.tenths(1_000_000), 2);
        // A clock that goes back is the same second.
        rate.add(1, 1);
        assert_eq!(rate.tenths(1), 4);
    }
}
