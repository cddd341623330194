//! Figures of a set of measurements.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How a set of durations is spread, in milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spread {
    /// How many.
    pub count: usize,
    /// The least.
    pub min_ms: u64,
    /// Half are not above this.
    pub p50_ms: u64,
    /// 99 of 100 are not above this.
    pub p99_ms: u64,
    /// The most.
    pub max_ms: u64,
}

impl Spread {
    /// Of any number of durations; all zero if there are none.
    pub(crate) fn of(durations: impl IntoIterator<Item = Duration>) -> Self {
        let ms = durations.into_iter().map(|d| d.as_millis() as u64);
        let mut sorted: Vec<u64> = ms.collect();
        sorted.sort_unstable();
        Self {
            count: sorted.len(),
            min_ms: sorted.first().copied().unwrap_or(0),
            p50_ms: quantile(&sorted, 0.5),
            p99_ms: quantile(&sorted, 0.99),
            max_ms: sorted.last().copied().unwrap_or(0),
        }
    }
}

/// The least value that is not below a `share` of all (nearest rank): with 0.99 and 100 values
/// the 99th. 0 if there are none.
pub(crate) fn quantile(sorted: &[u64], share: f64) -> u64 {
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted
        .get(rank.clamp(1, sorted.len().max(1)) - 1)
        .copied()
        .unwrap_or(0)
}

/// The most of `moments` (any order) that lie within one second.
pub(crate) fn most_in_a_second(moments: impl IntoIterator<Item = Duration>) -> usize {
    let mut sorted: Vec<Duration> = moments.into_iter().collect();
    sorted.sort_unstable();
    let mut first = 0;
    let mut most = 0;
    for (at, moment) in sorted.iter().enumerate() {
        while *moment - sorted[first] >= Duration::from_secs(1) {
            first += 1;
        }
        most = most.max(at + 1 - first);
    }
    most
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_by_nearest_rank() {
        let hundred: Vec<u64> = (1..=100).collect();
        assert_eq!(quantile(&hundred, 0.5), 50);
        assert_eq!(quantile(&hundred, 0.99), 99);
        assert_eq!(quantile(&hundred, 1.0), 100);
        assert_eq!(quantile(&[7], 0.5), 7);
        assert_eq!(quantile(&[7], 0.0), 7);
        assert_eq!(quantile(&[], 0.99), 0);
        // One of 101 may be late, two may not.
        let mut late = vec![1; 100];
        late.push(9);
        assert_eq!(quantile(&late, 0.99), 1);
        late[99] = 9;
        assert_eq!(quantile(&late, 0.99), 9);
    }

    #[test]
    fn spread_needs_no_order() {
        let spread = Spread::of([30, 10, 20].map(Duration::from_millis));
        let expected = Spread {
            count: 3,
            min_ms: 10,
            p50_ms: 20,
            p99_ms: 30,
            max_ms: 30,
        };
        assert_eq!(spread, expected);
        assert_eq!(Spread::of([]), Spread::default());
    }

    #[test]
    fn busiest_second_is_found_wherever_it_begins() {
        let at = |ms: [u64; 6]| most_in_a_second(ms.map(Duration::from_millis));
        assert_eq!(at([0, 900, 1_000, 1_100, 1_899, 5_000]), 4);
        // The window is half open: what is a whole second later is in another one.
        assert_eq!(at([0, 1_000, 2_000, 3_000, 4_000, 5_000]), 1);
        assert_eq!(most_in_a_second([]), 0);
    }
}
