//! Made histories: those that keep the contract pass, with every assertion held against
//! something; those with one anomaly break the assertion that names it.

mod anomalies;
mod changes;
mod copies;
mod delivery;
mod devices;
mod dice;
mod due;
mod feed;
mod finals;
mod marks;
mod names;
mod script;
mod world;

use hubbub_checker::{Assertion, Verdict, check};
use proptest::prelude::*;

fn shown(verdict: &Verdict) -> String {
    let lines = verdict.violations.iter().take(20).map(|v| {
        let at = v.at_us.unwrap_or_default();
        format!("{} {} at {at}: {}\n", v.assertion, v.name, v.message)
    });
    lines.collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_correct_history_passes(seed: u64) {
        let verdict = check(script::correct(seed));
        prop_assert!(verdict.holds(), "seed {seed}: {}", shown(&verdict));
        for assertion in Assertion::ALL {
            prop_assert!(
                verdict.checked[&assertion] > 0,
                "seed {seed}: {assertion} compared nothing"
            );
        }
    }
}
