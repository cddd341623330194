//! What a socket was given against what the store has.

use serde::{Deserialize, Serialize};

/// The difference.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Diff {
    /// Given, each seq counted as often as it came.
    pub given: u64,
    /// In the store after the join point, and never given.
    pub lost: u64,
    /// Given again.
    pub doubled: u64,
    /// Given, and not in the store after the join point.
    pub foreign: u64,
}

impl Diff {
    /// Of one socket in one channel. `stored` ascends; `given` has any order.
    pub(crate) fn of(stored: &[u64], joined_at: u64, given: &[u64]) -> Self {
        let start = stored.partition_point(|seq| *seq <= joined_at);
        let mut expected = stored[start..].iter().peekable();
        let mut given = given.to_vec();
        given.sort_unstable();
        let mut found = Self {
            given: given.len() as u64,
            ..Self::default()
        };
        let mut before = None;
        for seq in given {
            if before.replace(seq) == Some(seq) {
                found.doubled += 1;
                continue;
            }
            while expected.next_if(|stored| **stored < seq).is_some() {
                found.lost += 1;
            }
            if expected.next_if_eq(&&seq).is_none() {
                found.foreign += 1;
            }
        }
        found.lost += expected.count() as u64;
        found
    }

    pub(crate) fn add(&mut self, other: Self) {
        self.given += other.given;
        self.lost += other.lost;
        self.doubled += other.doubled;
        self.foreign += other.foreign;
    }

    /// Nothing lost, doubled or foreign.
    pub fn is_clean(&self) -> bool {
        self.lost + self.doubled + self.foreign == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn diff(joined_at: u64, given: &[u64]) -> (u64, u64, u64) {
        let found = Diff::of(&[2, 3, 5, 8], joined_at, given);
        assert_eq!(found.given, given.len() as u64);
        (found.lost, found.doubled, found.foreign)
    }

    #[test]
    fn each_anomaly_is_counted_as_what_it_is() {
        assert_eq!(diff(0, &[2, 3, 5, 8]), (0, 0, 0));
        assert_eq!(diff(0, &[8, 2, 5, 3]), (0, 0, 0));
        assert_eq!(diff(3, &[5, 8]), (0, 0, 0));
        assert_eq!(diff(9, &[]), (0, 0, 0));
        assert_eq!(diff(0, &[2, 8]), (2, 0, 0));
        assert_eq!(diff(0, &[2, 3, 5]), (1, 0, 0));
        assert_eq!(diff(0, &[]), (4, 0, 0));
        assert_eq!(diff(0, &[2, 3, 3, 3, 5, 8]), (0, 2, 0));
        assert_eq!(diff(0, &[2, 3, 4, 5, 8, 9]), (0, 0, 2));
        // Before the join point there is nothing to be given.
        assert_eq!(diff(3, &[3, 5, 8]), (0, 0, 1));
        assert_eq!(diff(0, &[2, 4, 4, 8]), (2, 1, 1));
    }

    #[test]
    fn diffs_add_up() {
        let mut sum = Diff::of(&[1, 2], 0, &[1, 1]);
        sum.add(Diff::of(&[1, 2], 0, &[1, 2, 3]));
        let expected = Diff {
            given: 5,
            lost: 1,
            doubled: 1,
            foreign: 1,
        };
        assert_eq!(sum, expected);
        assert!(!sum.is_clean());
        assert!(Diff::of(&[1], 0, &[1]).is_clean());
    }
}
