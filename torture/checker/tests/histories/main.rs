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

use hubbub_checker::{Assertion, Entry, Event, Verdict, check};
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

/// The edge may have joined the device by itself, and says so while the device's own join is asked.
#[test]
fn what_is_told_of_a_join_that_another_replaces_is_owed_to_nobody() {
    let mut tried = 0;
    for seed in 0..40 {
        let mut entries = script::correct(seed);
        let refused = entries.iter().enumerate().rev().find_map(|(place, entry)| {
            let Event::Joined {
                device,
                connection,
                channel,
                head: Some(head),
                recovered: false,
                ..
            } = &entry.event
            else {
                return None;
            };
            let replay = Event::Replay {
                device: device.clone(),
                connection: *connection,
                channel: *channel,
                since: *head,
            };
            let synced = Event::Synced {
                device: device.clone(),
                connection: *connection,
                channel: *channel,
                seq: *head,
            };
            let at_us = entry.at_us;
            Some((place, [replay, synced].map(|event| Entry { at_us, event })))
        });
        let Some((place, told)) = refused else {
            continue;
        };
        tried += 1;
        entries.splice(place..place, told);
        let verdict = check(entries);
        assert!(verdict.holds(), "seed {seed}: {}", shown(&verdict));
    }
    assert!(tried > 0, "no history has a join that cannot go on");
}
