/// When the messages of a run go out.
#[derive(Debug)]
pub(super) struct Pace {
    total: u64,
    burst: u64,
    /// Nanoseconds between bursts; `None` sends the next one when the last is everywhere.
    interval_ns: Option<f64>,
    started_ns: u64,
    sent: u64,
}

/// What is to be done now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    /// So many messages, which were to be sent at that time.
    Send { count: u64, intended_ns: u64 },
    /// Nothing until that time.
    At(u64),
    /// Nothing until everybody has everything.
    WhenComplete,
    /// Nothing more: all is sent, and all is there.
    Over,
}

impl Pace {
    pub(super) fn new(total: u64, burst: u64, rate: Option<f64>, started_ns: u64) -> Self {
        Self {
            total,
            burst,
            interval_ns: rate.map(|rate| burst as f64 * 1e9 / rate),
            started_ns,
            sent: 0,
        }
    }

    /// What is due at `now`. A burst that is given out counts as sent. The schedule never waits
    /// for a late sender: what is late is sent at once, under the time at which it was due.
    pub(super) fn due(&mut self, now: u64, complete: bool) -> Due {
        let left = self.total - self.sent;
        if left == 0 {
            return if complete {
                Due::Over
            } else {
                Due::WhenComplete
            };
        }
        let count = left.min(self.burst);
        let intended_ns = match self.interval_ns {
            None if complete => now,
            None => return Due::WhenComplete,
            Some(interval_ns) => {
                let bursts = (self.sent / self.burst) as f64;
                let due = self.started_ns + (bursts * interval_ns) as u64;
                if due > now {
                    return Due::At(due);
                }
                due
            }
        };
        self.sent += count;
        Due::Send { count, intended_ns }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closed_bursts_wait_for_everybody() {
        let mut pace = Pace::new(5, 4, None, 100);
        assert_eq!(
            pace.due(110, true),
            Due::Send {
                count: 4,
                intended_ns: 110
            }
        );
        assert_eq!(pace.due(120, false), Due::WhenComplete);
        assert_eq!(
            pace.due(130, true),
            Due::Send {
                count: 1,
                intended_ns: 130
            }
        );
        assert_eq!(pace.due(140, false), Due::WhenComplete);
        assert_eq!(pace.due(150, true), Due::Over);
    }

    #[test]
    fn open_loop_keeps_its_times_when_it_is_late() {
        let mut pace = Pace::new(3, 1, Some(1000.0), 5_000_000);
        assert_eq!(
            pace.due(5_000_000, true),
            Due::Send {
                count: 1,
                intended_ns: 5_000_000
            }
        );
        assert_eq!(pace.due(5_100_000, false), Due::At(6_000_000));
        let late = 9_000_000;
        assert_eq!(
            pace.due(late, false),
            Due::Send {
                count: 1,
                intended_ns: 6_000_000
            }
        );
        assert_eq!(
            pace.due(late, false),
            Due::Send {
                count: 1,
                intended_ns: 7_000_000
            }
        );
        assert_eq!(pace.due(late, false), Due::WhenComplete);
    }

    #[test]
    fn open_loop_bursts_keep_the_rate() {
        let mut pace = Pace::new(100, 10, Some(1000.0), 0);
        assert_eq!(
            pace.due(0, true),
            Due::Send {
                count: 10,
                intended_ns: 0
            }
        );
        assert_eq!(pace.due(0, true), Due::At(10_000_000));
    }
}
