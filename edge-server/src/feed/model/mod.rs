//! The rules of design section 4 around the real feed and sweeper, under random schedules.

mod client;
mod edge;
mod healing;
mod listening;
mod plan;
mod random;
mod serving;
mod sockets;
mod store;
mod world;
mod writing;

use super::{
    Counts,
    rule::{Rule, TakenOut},
};

/// Schedules of the normal test run, in two threads.
const SCHEDULES: u64 = 200_000;
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

/// A model in which nothing happens would find nothing.
#[test]
fn schedules_reach_everything() {
    let mut sum = Counts::default();
    for seed in 0..40_000 {
        sum += world::counts(seed);
    }
    println!("{sum:?}");
    let Counts {
        repeated,
        resent,
        unkept,
        repaired,
        repaired_by_sweep,
        repaired_by_announcement,
        repaired_by_head,
        behind_at_subscribe,
        behind_at_sweep,
        merged,
        detached,
        unrecovered,
        closed,
        failed,
        pages_from_memory,
    } = sum;
    assert_eq!(
        repaired,
        repaired_by_sweep + repaired_by_announcement + repaired_by_head
    );
    assert!(closed > 2, "{sum:?}");
    let usual = [
        behind_at_subscribe,
        behind_at_sweep,
        repeated,
        resent,
        unkept,
        repaired_by_sweep,
        repaired_by_announcement,
        repaired_by_head,
        merged,
        detached,
        unrecovered,
        failed,
        pages_from_memory,
    ];
    assert!(usual.into_iter().all(|count| count > 2_000), "{sum:?}");
}

#[test]
fn one_schedule_step_by_step() {
    let (outcome, steps) = world::run_told(SEED);
    for step in &steps {
        println!("{step}");
    }
    assert_eq!(world::run_told(SEED).1, steps, "a seed is a schedule");
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
