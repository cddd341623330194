//! Popular and quiet channels: Zipf's distribution.

use rand::{Rng, RngExt};

/// Chooses number `k` (from 0) with a weight of 1 / (k + 1).
#[derive(Debug, Clone)]
pub struct Zipf {
    /// Sums of the weights up to each number.
    through: Vec<f64>,
}

impl Zipf {
    /// Over `count` numbers; at least one.
    #[must_use]
    pub fn new(count: usize) -> Self {
        let mut sum = 0.0;
        let weights = (1..=count.max(1)).map(|k| {
            sum += 1.0 / k as f64;
            sum
        });
        Self {
            through: weights.collect(),
        }
    }

    /// Draws a number.
    pub fn draw(&self, rng: &mut impl Rng) -> usize {
        let whole = self.through.last().copied().unwrap_or(1.0);
        let point = rng.random_range(0.0..whole);
        self.through.partition_point(|sum| *sum <= point)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{SeedableRng, rngs::SmallRng};

    #[test]
    fn frequencies_fall_with_the_rank_and_none_is_left_out() {
        let (zipf, mut rng) = (Zipf::new(64), SmallRng::seed_from_u64(5));
        let mut counts = [0_u32; 64];
        for _ in 0..100_000 {
            counts[zipf.draw(&mut rng)] += 1;
        }
        // 1 / H(64) = 21.1 %, and a 64th of that.
        assert!((20_000..22_200).contains(&counts[0]), "{}", counts[0]);
        assert!((240..420).contains(&counts[63]), "{}", counts[63]);
        assert!(counts[0] > counts[1] && counts[1] > counts[3] && counts[3] > counts[15]);
    }

    #[test]
    fn one_channel_is_always_drawn() {
        assert_eq!(Zipf::new(1).draw(&mut SmallRng::seed_from_u64(1)), 0);
        assert_eq!(Zipf::new(0).draw(&mut SmallRng::seed_from_u64(1)), 0);
    }
}
