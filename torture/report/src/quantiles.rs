use serde::{Deserialize, Serialize};

/// Median, 99th percentile and greatest of a set of durations, by nearest rank: each is a value
/// that occurred. An empty set has none of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quantiles {
    /// How many values.
    pub n: u64,
    /// Half of the values are not above it.
    pub p50_us: Option<u64>,
    /// 99 of 100 values are not above it.
    pub p99_us: Option<u64>,
    /// The greatest.
    pub max_us: Option<u64>,
}

impl Quantiles {
    /// Sorts the values in place and reads the figures off.
    pub fn of<T: Ord + Copy + Into<u64>>(values: &mut [T]) -> Self {
        values.sort_unstable();
        let rank = |percent: usize| {
            let rank = (values.len() * percent).div_ceil(100).max(1);
            values.get(rank - 1).map(|value| (*value).into())
        };
        Self {
            n: values.len() as u64,
            p50_us: rank(50),
            p99_us: rank(99),
            max_us: values.last().map(|value| (*value).into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_rank() {
        let mut values: Vec<u64> = (1..=200).rev().collect();
        let q = Quantiles::of(&mut values);
        assert_eq!(
            (q.n, q.p50_us, q.p99_us, q.max_us),
            (200, Some(100), Some(198), Some(200))
        );
        let q = Quantiles::of(&mut [7u32]);
        assert_eq!(
            (q.n, q.p50_us, q.p99_us, q.max_us),
            (1, Some(7), Some(7), Some(7))
        );
        assert_eq!(Quantiles::of::<u64>(&mut []), Quantiles::default());
    }
}
