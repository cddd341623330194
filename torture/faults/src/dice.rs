//! Chance that means the same for ever: a schedule is drawn from a seed, and a seed is quoted in
//! reports and bug notes.
//!
//! The generators of the crate `rand` may change between its versions, and so may the way it draws
//! a number from a range. So the generator stands here: SplitMix64 (Steele, Lea and Flood, 2014).

use std::ops::RangeInclusive;

use hubbub_checker::Fault;

/// The increment of SplitMix64: the golden ratio.
const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

/// A row of numbers that its seed decides.
#[derive(Debug, Clone)]
pub(crate) struct Dice(u64);

impl Dice {
    /// Two salts give two rows of the same seed.
    pub(crate) fn new(seed: u64, salt: u64) -> Self {
        let mut first = Self(salt);
        Self(seed ^ first.next())
    }

    /// What a fault leaves open (how slow, which way) is drawn from the fault itself, so that a
    /// schedule that is replayed or shrunk does the same.
    pub(crate) fn of(fault: &Fault) -> Self {
        let words = format!("{:?} {} {}", fault.kind, fault.target, fault.start_ms);
        // FNV-1a.
        let hash = words.bytes().fold(0xCBF2_9CE4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3)
        });
        Self(hash)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(GOLDEN);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number under `bound`; 0 if that is 0.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        let product = u128::from(self.next()) * u128::from(bound);
        u64::try_from(product >> 64).expect("the upper half of 128 bits has 64")
    }

    pub(crate) fn within(&mut self, range: RangeInclusive<u64>) -> u64 {
        let (first, last) = range.into_inner();
        first + self.below(last.saturating_sub(first) + 1)
    }

    /// An index of something that is `len` long.
    pub(crate) fn index(&mut self, len: usize) -> usize {
        let drawn = self.below(u64::try_from(len).expect("a length fits into 64 bits"));
        usize::try_from(drawn).expect("it is below a length")
    }

    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.index(last + 1));
        }
    }

    /// `count` different ones, in their own order; all if there are fewer.
    pub(crate) fn some<T: Clone>(&mut self, items: &[T], count: usize) -> Vec<T> {
        let mut chosen: Vec<usize> = (0..items.len()).collect();
        self.shuffle(&mut chosen);
        chosen.truncate(count);
        chosen.sort_unstable();
        chosen.into_iter().map(|i| items[i].clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_splitmix64() {
        // The first outputs for seed 1234567, as published with the reference implementation.
        let mut dice = Dice(1_234_567);
        let drawn: Vec<u64> = (0..3).map(|_| dice.next()).collect();
        assert_eq!(
            drawn,
            [
                6_457_827_717_110_365_317,
                3_203_168_211_198_807_973,
                9_817_491_932_198_370_423
            ]
        );
    }

    #[test]
    fn draws_stay_in_their_bounds_and_reach_both_ends() {
        let mut dice = Dice::new(1, 2);
        let drawn: Vec<u64> = (0..1_000).map(|_| dice.within(3..=7)).collect();
        assert_eq!(drawn.iter().min(), Some(&3));
        assert_eq!(drawn.iter().max(), Some(&7));
        assert_eq!(dice.below(0), 0);
        let some = dice.some(&["a", "b", "c", "d"], 3);
        assert!(some.len() == 3 && some.is_sorted(), "{some:?}");
        assert_eq!(dice.some(&[1, 2], 9), [1, 2]);
    }
}
