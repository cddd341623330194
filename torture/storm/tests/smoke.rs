//! A small storm and a small drain: what is counted must be exact; nothing is said about time.

use clap::Parser;
use hubbub_storm::{DrainArgs, StormArgs, run_drain, run_storm};
use tokio::sync::Semaphore;

/// One system at a time.
static TURN: Semaphore = Semaphore::const_new(1);

#[derive(Parser)]
struct Storm {
    #[command(flatten)]
    args: StormArgs,
}

#[derive(Parser)]
struct Drain {
    #[command(flatten)]
    args: DrainArgs,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everybody_is_back_after_an_edge_was_killed_and_nobody_misses_anything() {
    let _turn = TURN.acquire().await.expect("never closed");
    let out = tempfile::tempdir().expect("a directory");
    let out = out.path().to_str().expect("UTF-8");
    let words = "storm --sockets 200 --channels 20 --rate 40 --settle-s 1 --only edge-kill --out";
    let words = words.split(' ').chain([out]);
    let report = run_storm(&Storm::parse_from(words).args).await;
    let report = report.expect("a storm");
    assert!(report.wrong.is_empty(), "{}", report.table());
    let [storm] = &report.storms[..] else {
        panic!("one storm: {}", report.table());
    };
    let leg = &storm.legs[0];
    // A third of them, give or take what was still arriving elsewhere.
    assert!((50..90).contains(&leg.affected), "{leg:?}");
    assert_eq!(leg.back, leg.affected, "{leg:?}");
    assert!(leg.attempts_mean >= 1.0, "{leg:?}");
    let ending = &report.ending;
    assert!(ending.sends.sent > 20, "{ending:?}");
    assert_eq!(ending.sends.acked, ending.sends.sent, "{ending:?}");
    assert_eq!(ending.stored, ending.sends.sent, "{ending:?}");
    // 200 sockets in two of 20 channels each: twenty listen to every message.
    assert_eq!(ending.diff.given, 20 * ending.sends.sent, "{ending:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_roll_of_everything_loses_nothing_and_leaves_nothing_unknown() {
    let _turn = TURN.acquire().await.expect("never closed");
    let out = tempfile::tempdir().expect("a directory");
    let out = out.path().to_str().expect("UTF-8");
    // Not ready for long enough to be seen, however busy the machine is.
    let words = "drain --rolls 1 --sockets 60 --channels 6 --edges 2 --apis 2 --consumers 2 \
                 --env HUBBUB_DRAIN_DELAY_MS=3000 --out";
    let words = words.split(' ').chain([out]);
    let report = run_drain(&Drain::parse_from(words).args).await;
    let report = report.expect("a drain");
    assert!(report.passed(), "{}", report.table());
    assert_eq!(report.rolls.len(), 6);
    assert_eq!(report.refusals.len(), 3);
    let sent_away: usize = report.rolls.iter().map(|roll| roll.sent_away).sum();
    assert!(sent_away >= 60, "{}", report.table());
    assert!(report.ending.diff.given > 0, "{}", report.table());
}
