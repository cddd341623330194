//! Making a failing schedule smaller.

use hubbub_checker::Fault;

/// Takes away what a failure does not need: halves, then quarters and so on, each with and without
/// the rest (delta debugging, Zeller and Hildebrandt 2002). Faults keep their numbers and times,
/// so what is left happens as it did.
///
/// What is returned fails, and no single fault of it can be left out, provided that `fails` says
/// the same whenever it is asked. If the whole schedule does not fail, it is returned as it is.
pub fn shrink(faults: &[Fault], mut fails: impl FnMut(&[Fault]) -> bool) -> Vec<Fault> {
    let mut steps = Steps::new(faults);
    while let Some(candidate) = steps.candidate() {
        let failed = fails(&candidate);
        steps.take(candidate, failed);
    }
    steps.smallest
}

/// [`shrink`] for a run, which takes a while. `fails` says `None` to end the search: the smallest
/// schedule that failed so far is returned.
pub async fn shrink_async(
    faults: &[Fault],
    mut fails: impl AsyncFnMut(&[Fault]) -> Option<bool>,
) -> Vec<Fault> {
    let mut steps = Steps::new(faults);
    while let Some(candidate) = steps.candidate() {
        let Some(failed) = fails(&candidate).await else {
            break;
        };
        steps.take(candidate, failed);
    }
    steps.smallest
}

/// The search, without the trials.
#[derive(Debug)]
struct Steps {
    smallest: Vec<Fault>,
    /// Whether the whole schedule was seen to fail.
    confirmed: bool,
    /// Into how many parts it is cut.
    parts: usize,
    /// The next trial: a part alone (below `parts`), then all but a part.
    next: usize,
}

impl Steps {
    fn new(faults: &[Fault]) -> Self {
        Self {
            smallest: faults.to_vec(),
            confirmed: false,
            parts: 2,
            next: 0,
        }
    }

    /// What is to be tried; `None` when there is nothing more to take away.
    fn candidate(&mut self) -> Option<Vec<Fault>> {
        if !self.confirmed {
            return Some(self.smallest.clone());
        }
        let len = self.smallest.len();
        loop {
            // No fault at all is no schedule, and one alone is the smallest.
            if len < 2 || self.parts > len {
                return None;
            }
            // With two parts, all but one is the other one alone.
            let trials = if self.parts == 2 { 2 } else { 2 * self.parts };
            if self.next < trials {
                break;
            }
            if self.parts == len {
                return None;
            }
            self.parts = (2 * self.parts).min(len);
            self.next = 0;
        }
        let part = self.next % self.parts;
        let cut = |part: usize| part * len / self.parts;
        let within = cut(part)..cut(part + 1);
        let alone = self.next < self.parts;
        let kept = self.smallest.iter().enumerate();
        let kept = kept.filter(|(i, _)| within.contains(i) == alone);
        Some(kept.map(|(_, fault)| fault.clone()).collect())
    }

    fn take(&mut self, candidate: Vec<Fault>, failed: bool) {
        if !self.confirmed {
            self.confirmed = true;
            if !failed {
                // Nothing to search: this ends it.
                self.parts = usize::MAX;
            }
            return;
        }
        if !failed {
            self.next += 1;
            return;
        }
        // A part alone starts from halves again; a rest goes on with the cut that it has.
        let alone = self.next < self.parts;
        self.parts = if alone { 2 } else { (self.parts - 1).max(2) };
        self.next = 0;
        self.smallest = candidate;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use hubbub_checker::FaultKind;
    use proptest::prelude::*;

    use super::*;

    fn faults(count: u32) -> Vec<Fault> {
        let fault = |number| Fault {
            number,
            kind: FaultKind::PubsubKill,
            target: "redis".to_owned(),
            start_ms: u64::from(number) * 1_000,
            lasts_ms: 500,
            hypothesis: String::new(),
        };
        (1..=count).map(fault).collect()
    }

    fn numbers(faults: &[Fault]) -> BTreeSet<u32> {
        faults.iter().map(|fault| fault.number).collect()
    }

    proptest! {
        #[test]
        fn exactly_the_culprits_are_left(
            count in 1..80_u32,
            picks in proptest::collection::vec(any::<prop::sample::Index>(), 1..5),
        ) {
            let all = faults(count);
            let culprits: BTreeSet<u32> =
                picks.iter().map(|pick| all[pick.index(all.len())].number).collect();
            let mut trials = 0;
            let left = shrink(&all, |some| {
                trials += 1;
                culprits.is_subset(&numbers(some))
            });
            prop_assert_eq!(numbers(&left), culprits.clone());
            prop_assert!(left.is_sorted_by_key(|fault| fault.start_ms));
            // Far fewer than one run a fault where one fault is to blame.
            prop_assert!(culprits.len() > 1 || trials <= 2 * 8 + 1, "{} trials", trials);
        }
    }

    #[test]
    fn what_does_not_fail_is_left_alone() {
        let all = faults(9);
        assert_eq!(shrink(&all, |_| false), all);
        assert_eq!(shrink(&[], |_| true), []);
    }

    #[tokio::test]
    async fn search_ends_when_told() {
        let all = faults(64);
        let mut left = 3;
        let smaller = shrink_async(&all, async |some| {
            left -= 1;
            (left >= 0).then(|| numbers(some).contains(&40))
        })
        .await;
        assert!(numbers(&smaller).contains(&40) && smaller.len() == 32);
    }
}
