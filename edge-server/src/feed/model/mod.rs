//! The rules of design section 4 around the real feed and sweeper, under random schedules.

mod client;
mod random;
pub(super) mod rules;
mod sockets;
mod store;
mod world;

use rules::{Rule, TakenOut};

/// Schedules of the normal test run, in two threads.
const SCHEDULES: u64 = 100_000;
/// Schedules within which a rule's removal must be noticed.
const SCHEDULES_PER_RULE: u64 = 20_000;
/// To see a schedule step by step, put its seed here and run `one_schedule_step_by_step`.
const SEED: u64 = 1;

fn run_range(seeds: std::ops::Range<u64>) {
    for seed in seeds {
        if let Err(what) = world::run(seed) {
            panic!("seed {seed}: {what}");
        }
    }
}

#[test]
fn every_schedule_keeps_the_promises_first_half() {
    run_range(0..SCHEDULES / 2);
}

#[test]
fn every_schedule_keeps_the_promises_second_half() {
    run_range(SCHEDULES / 2..SCHEDULES);
}

#[test]
fn one_schedule_step_by_step() {
    let (outcome, steps) = world::run_told(SEED);
    for step in &steps {
        println!("{step}");
    }
    assert!(!steps.is_empty());
    assert_eq!(outcome, Ok(()));
}

/// The schedules find the removal of every rule, each alone.
fn every_rule_is_needed(rules: impl Iterator<Item = Rule>) {
    let mut unnoticed = Vec::new();
    for rule in rules {
        let _taken_out = TakenOut::new(rule);
        let caught = (0..SCHEDULES_PER_RULE).find_map(|seed| Some((seed, world::run(seed).err()?)));
        match caught {
            Some((seed, what)) => println!("{rule:?}: seed {seed}: {what}"),
            None => unnoticed.push(rule),
        }
    }
    assert!(unnoticed.is_empty(), "nobody noticed {unnoticed:?}");
}

#[test]
fn every_rule_is_needed_first_half() {
    every_rule_is_needed(Rule::ALL.iter().copied().step_by(2));
}

#[test]
fn every_rule_is_needed_second_half() {
    every_rule_is_needed(Rule::ALL.iter().copied().skip(1).step_by(2));
}
