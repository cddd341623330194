//! Every kind of fault, made on a real system and noticed from outside.

mod party;

use std::{sync::Arc, time::Duration};

use hubbub_checker::{Event, Fault, FaultKind};
use hubbub_faults::{Injected, inject};
use parking_lot::Mutex;
use party::Party;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

fn timeline(faults: &[(u64, FaultKind, &str, u64)]) -> Vec<Fault> {
    let fault =
        |(i, (start_ms, kind, target, lasts_ms)): (usize, &(u64, FaultKind, &str, u64))| Fault {
            number: u32::try_from(i).expect("not so many") + 1,
            kind: *kind,
            target: (*target).to_owned(),
            start_ms: *start_ms,
            lasts_ms: *lasts_ms,
            hypothesis: "it is noticed and it heals".to_owned(),
        };
    faults.iter().enumerate().map(fault).collect()
}

/// Injects, prints what was said, and gives it back.
async fn run(
    party: &Party,
    faults: &[Fault],
    stop: CancellationToken,
) -> anyhow::Result<(Injected, Vec<Event>)> {
    let events = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&events);
    let begun = Instant::now();
    let record = move |event: Event| {
        let at = begun.elapsed().as_secs_f64();
        match &event {
            Event::FaultStarted(f) => {
                println!("{at:7.3} {} {:?} {}", f.number, f.kind, f.target);
            }
            other => println!("{at:7.3} {other:?}"),
        }
        sink.lock().push(event);
    };
    let outcome = inject(faults, Arc::clone(&party.ground), stop, record).await?;
    let events = events.lock().clone();
    Ok((outcome, events))
}

/// Everybody is there, and a message of a device reaches all others.
async fn is_whole(party: &Party) -> anyhow::Result<()> {
    for server in party.ground.stack.servers() {
        anyhow::ensure!(server.is_ready().await, "{} is not ready", server.name());
    }
    for spare in party.ground.stack.spare_consumers() {
        anyhow::ensure!(!spare.is_running(), "{} is left", spare.name());
    }
    anyhow::ensure!(party.ground.burst.borrow().is_empty(), "the burst goes on");
    party.everybody_hears().await
}

/// Bites and heals, one by one or up to four at once; then a fault that cannot be made, and one
/// that is ended early.
#[tokio::test]
async fn cheap_kinds_bite_and_heal() -> anyhow::Result<()> {
    use FaultKind::*;
    let party = Party::start().await?;
    let all = party.services();
    // The edges take turns, so that the one that is hit has everybody's sockets.
    let faults = timeline(&[
        (0, EdgeFreeze, "edge-1", 3_500),
        (0, PoisonRecord, "kafka", 300),
        (300, HaproxyReload, "haproxy-1", 300),
        (800, PubsubKill, "redis", 300),
        (2_500, ClientReset, "Mary.1 Mike.1", 200),
        (3_000, KafkaSlow, "edge-1>kafka edge-2>kafka", 2_000),
        (3_000, ShardLock, "shard-0", 3_000),
        (5_500, EdgeDrain, "edge-2", 1_500),
        (6_000, RedisFreeze, "redis", 2_500),
        (7_000, ConsumerScale, "consumer-3", 1_500),
        (9_500, EdgeKill, "edge-1", 500),
        (
            10_500,
            RedisBlackHole,
            "edge-2>redis consumer-1>redis",
            2_500,
        ),
        (11_000, ApiKill, "api-1", 500),
        (12_500, HaproxyKill, "haproxy-2", 1_000),
        (13_000, ClientTorn, "Frank.1", 2_000),
        (13_500, ShardKill, "shard-0", 1_500),
        (15_000, EdgeCrashAfterAck, "edge-2", 3_000),
        (15_500, RedisKill, "redis", 500),
        (16_000, ConsumerCrashAfterCommit, "consumer-1", 3_000),
        (18_000, BusLossy, &all, 5_000),
    ]);
    let (outcome, events) = run(&party, &faults, CancellationToken::new()).await?;
    assert_eq!(outcome.errors, Vec::<String>::new());
    assert_eq!(outcome.vacuous, Vec::<u32>::new());
    let count = u32::try_from(faults.len())?;
    assert_eq!(
        (outcome.started, outcome.ended, outcome.seen),
        (count, count, count)
    );
    for fault in &faults {
        let at = |wanted: fn(&Event) -> Option<u32>| {
            events
                .iter()
                .position(|event| wanted(event) == Some(fault.number))
        };
        let started = at(|e| match e {
            Event::FaultStarted(fault) => Some(fault.number),
            _ => None,
        });
        let ended = at(|e| match e {
            Event::FaultEnded { number } => Some(*number),
            _ => None,
        });
        let seen = at(|e| match e {
            Event::FaultSeen { number, .. } => Some(*number),
            _ => None,
        });
        assert!(
            started.is_some() && started < ended && started < seen,
            "{fault:?}"
        );
    }
    is_whole(&party).await?;

    // Nobody of that name; and who is ended early is undone all the same.
    let stop = CancellationToken::new();
    let faults = timeline(&[
        (0, EdgeKill, "edge-9", 500),
        (0, RedisFreeze, "redis", 600_000),
        (0, ShardLock, "shard-0", 600_000),
        (0, EdgeFreeze, "edge-1", 600_000),
        (300_000, KafkaDown, "kafka", 1_000),
    ]);
    let ended = timeout(Duration::from_secs(30), async {
        let ender = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            stop.cancel();
        };
        tokio::join!(run(&party, &faults, stop.clone()), ender).0
    });
    let (outcome, _) = ended.await??;
    assert_eq!(
        (outcome.started, outcome.ended),
        (4, 3),
        "the last one never began"
    );
    assert_eq!(outcome.errors.len(), 1);
    assert!(
        outcome.errors[0].contains("no process edge-9"),
        "{:?}",
        outcome.errors
    );
    is_whole(&party).await?;
    party.stop().await
}

/// What takes longer.
#[tokio::test]
#[ignore = "takes a minute and a half; the torture suite itself makes all kinds"]
async fn dear_kinds_bite_and_heal() -> anyhow::Result<()> {
    use FaultKind::*;
    let party = Party::start().await?;
    let faults = timeline(&[
        (0, ClientSlow, "Mike.1 Frank.1", 8_000),
        (0, ConsumerFreeze, "consumer-1", 4_500),
        (500, ShardFreeze, "shard-0", 3_500),
        (9_000, KafkaDown, "kafka", 3_000),
        (10_000, ClientSilent, "Mary.1 Sonia.1", 7_000),
        (20_000, ConsumerKill, "consumer-2", 1_500),
        (20_050, ClockJump, "edge-1", 4_000),
        (26_000, ClockJump, "consumer-1", 4_000),
        (28_000, ClockJump, "api-1", 4_500),
        (29_000, ClockJump, "edge-2", 4_000),
    ]);
    let (outcome, _) = run(&party, &faults, CancellationToken::new()).await?;
    assert_eq!(outcome.errors, Vec::<String>::new());
    assert_eq!(outcome.vacuous, Vec::<u32>::new());
    is_whole(&party).await?;
    party.stop().await
}
