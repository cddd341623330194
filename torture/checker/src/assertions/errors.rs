//! A14: no panic, and no line at level ERROR that a fault does not explain.

use crate::{Assertion, FaultKind, findings::Findings, index::Index};

const A14: Assertion = Assertion::A14;
/// What a fault has stirred up may be said so long after its end.
const AFTER_US: u64 = 10_000_000;

/// What a role may say while one of some faults is in force.
struct Allowed {
    faults: &'static [FaultKind],
    /// The process's name up to its number.
    role: &'static str,
    text: &'static str,
}

const KAFKA: &[FaultKind] = &[FaultKind::KafkaDown, FaultKind::KafkaSlow];
/// Everything that a process asks for before it says that it is ready.
const STARTS: &[FaultKind] = &[
    FaultKind::KafkaDown,
    FaultKind::KafkaSlow,
    FaultKind::ShardKill,
    FaultKind::ShardLock,
    FaultKind::ShardFreeze,
    FaultKind::RedisKill,
    FaultKind::RedisFreeze,
    FaultKind::RedisBlackHole,
];

/// Kept short: the product says at level ERROR only what somebody must act on.
const ALLOWED: [Allowed; 8] = [
    // An idempotent producer that lost the broker's memory of it ends and is replaced.
    Allowed {
        faults: KAFKA,
        role: "edge",
        text: "the log's producer failed for good and is replaced",
    },
    Allowed {
        faults: KAFKA,
        role: "api",
        text: "the log's producer failed for good and is replaced",
    },
    Allowed {
        faults: KAFKA,
        role: "edge",
        text: "cannot start a new producer",
    },
    Allowed {
        faults: KAFKA,
        role: "api",
        text: "cannot start a new producer",
    },
    // librdkafka's binding closes a queue whose client has just left the group in order.
    Allowed {
        faults: &[FaultKind::ConsumerScale, FaultKind::ClockJump],
        role: "consumer",
        text: "Failed to close consumer queue on drop",
    },
    // One fault killed it, and another keeps it from starting.
    Allowed {
        faults: STARTS,
        role: "edge",
        text: "start error=",
    },
    Allowed {
        faults: STARTS,
        role: "api",
        text: "cannot start error=",
    },
    Allowed {
        faults: STARTS,
        role: "consumer",
        text: "cannot start error=",
    },
];

pub(super) fn check(index: &Index, findings: &mut Findings) {
    for line in &index.log_lines {
        findings.checked(A14, 1);
        let panic = line.level == "panic";
        if !panic && explained(index, line.at, &line.process, &line.text) {
            findings.count("explained_errors", 1);
            continue;
        }
        let name = if panic { "panic" } else { "unexplained error" };
        findings.broken(A14, name, Some(line.at), || {
            format!("{}: {}", line.process, line.text)
        });
    }
    // A log that was read and said nothing is a fact too: one for each process.
    findings.checked(A14, index.processes.len() as u64);
}

fn explained(index: &Index, at: u64, process: &str, text: &str) -> bool {
    let role = process.split('-').next().unwrap_or(process);
    ALLOWED.iter().any(|allowed| {
        allowed.role == role
            && text.contains(allowed.text)
            && index.faults.any_of(allowed.faults, at, AFTER_US)
    })
}
