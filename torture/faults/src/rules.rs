//! Which faults may be under way at the same time.

use hubbub_checker::{Fault, FaultKind};

use crate::{Shape, shape::number};

/// Of which some must always be left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Group {
    Edges,
    Apis,
    Consumers,
    Haproxies,
    Shards,
}

/// What a fault takes for itself: no two that share one of these are under way at once.
fn claims(fault: &Fault) -> Vec<&str> {
    let mut claims: Vec<&str> = match fault.kind {
        // Who may or may not hear the bus is one question, however it is broken.
        FaultKind::RedisKill
        | FaultKind::RedisFreeze
        | FaultKind::PubsubKill
        | FaultKind::RedisBlackHole
        | FaultKind::BusLossy => vec!["bus"],
        FaultKind::KafkaDown | FaultKind::KafkaSlow | FaultKind::PoisonRecord => vec!["log"],
        _ => fault.target.split_whitespace().collect(),
    };
    if fault.kind == FaultKind::ClientSlow {
        claims.push("burst");
    }
    claims
}

/// Whom a fault takes away for a while.
fn takes_away(fault: &Fault, shape: &Shape) -> Option<Group> {
    match fault.kind {
        // One that is added takes nobody away.
        FaultKind::ConsumerScale if number(&fault.target) > Some(shape.consumers) => None,
        FaultKind::EdgeKill
        | FaultKind::EdgeFreeze
        | FaultKind::EdgeDrain
        | FaultKind::EdgeCrashAfterAck => Some(Group::Edges),
        FaultKind::ConsumerKill
        | FaultKind::ConsumerFreeze
        | FaultKind::ConsumerCrashAfterCommit
        | FaultKind::ConsumerScale => Some(Group::Consumers),
        FaultKind::ShardKill | FaultKind::ShardLock | FaultKind::ShardFreeze => Some(Group::Shards),
        FaultKind::HaproxyReload | FaultKind::HaproxyKill => Some(Group::Haproxies),
        FaultKind::ApiKill => Some(Group::Apis),
        FaultKind::ClockJump => match fault.target.split('-').next() {
            Some("edge") => Some(Group::Edges),
            Some("api") => Some(Group::Apis),
            Some("consumer") => Some(Group::Consumers),
            _ => None,
        },
        FaultKind::RedisKill
        | FaultKind::RedisFreeze
        | FaultKind::PubsubKill
        | FaultKind::RedisBlackHole
        | FaultKind::BusLossy
        | FaultKind::KafkaDown
        | FaultKind::KafkaSlow
        | FaultKind::ClientReset
        | FaultKind::ClientSilent
        | FaultKind::ClientTorn
        | FaultKind::ClientSlow
        | FaultKind::PoisonRecord => None,
    }
}

/// One of each group stays, where there are two; a group of one may be away for a moment (a kind
/// for which that is too much is not in the schedule at all, see [`Shape::lacks`]).
fn may_be_away(group: Group, shape: &Shape) -> usize {
    let count = match group {
        Group::Edges => shape.edges,
        Group::Apis => shape.apis,
        Group::Consumers => shape.consumers,
        Group::Haproxies => shape.haproxies,
        Group::Shards => shape.shards,
    };
    count.saturating_sub(1).max(1)
}

/// Whether one would keep the other from having any effect: nothing is acknowledged or consumed
/// without the log.
fn spoils(one: &Fault, other: &Fault) -> bool {
    one.kind == FaultKind::KafkaDown
        && matches!(
            other.kind,
            FaultKind::EdgeCrashAfterAck
                | FaultKind::ConsumerCrashAfterCommit
                | FaultKind::ClientSlow
        )
}

/// Whether `new` may join those that are under way.
pub(crate) fn fits(under_way: &[&Fault], new: &Fault, shape: &Shape) -> bool {
    let wanted = claims(new);
    let mut held = under_way.iter().flat_map(|fault| claims(fault));
    if held.any(|claim| wanted.contains(&claim)) {
        return false;
    }
    let mut all = under_way.iter();
    if all.any(|other| spoils(other, new) || spoils(new, other)) {
        return false;
    }
    takes_away(new, shape).is_none_or(|group| {
        let away = under_way
            .iter()
            .filter(|f| takes_away(f, shape) == Some(group));
        away.count() < may_be_away(group, shape)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(kind: FaultKind, target: &str) -> Fault {
        Fault {
            number: 1,
            kind,
            target: target.to_owned(),
            start_ms: 0,
            lasts_ms: 1,
            hypothesis: String::new(),
        }
    }

    #[test]
    fn one_of_each_group_is_left_and_no_target_is_hit_twice() {
        let shape = Shape {
            edges: 3,
            apis: 1,
            consumers: 3,
            haproxies: 2,
            shards: 2,
            ..Shape::default()
        };
        let kill = |n: usize| fault(FaultKind::EdgeKill, &format!("edge-{n}"));
        let freeze = fault(FaultKind::EdgeFreeze, "edge-1");
        assert!(!fits(&[&kill(1)], &freeze, &shape));
        assert!(fits(&[&kill(2)], &freeze, &shape));
        assert!(!fits(&[&kill(2), &kill(3)], &freeze, &shape));
        let clock = fault(FaultKind::ClockJump, "edge-2");
        assert!(!fits(&[&clock, &kill(3)], &freeze, &shape));
        assert!(fits(&[], &fault(FaultKind::ApiKill, "api-1"), &shape));
        let locked = fault(FaultKind::ShardLock, "shard-0");
        assert!(!fits(
            &[&locked],
            &fault(FaultKind::ShardKill, "shard-1"),
            &shape
        ));
        let hole = fault(FaultKind::RedisBlackHole, "edge-1>redis");
        assert!(!fits(
            &[&hole],
            &fault(FaultKind::RedisFreeze, "redis"),
            &shape
        ));
        assert!(
            fits(&[&hole], &kill(1), &shape),
            "another thing at the same edge"
        );
        let down = fault(FaultKind::KafkaDown, "kafka");
        let crash = fault(FaultKind::EdgeCrashAfterAck, "edge-1");
        assert!(!fits(&[&down], &crash, &shape) && !fits(&[&crash], &down, &shape));
        assert!(fits(&[&down], &kill(1), &shape));
        let slow = |device: &str| fault(FaultKind::ClientSlow, device);
        assert!(
            !fits(&[&slow("a.1")], &slow("b.1"), &shape),
            "one burst at a time"
        );
        let scale = |n: usize| fault(FaultKind::ConsumerScale, &format!("consumer-{n}"));
        let killed = fault(FaultKind::ConsumerKill, "consumer-3");
        assert!(!fits(&[&scale(1), &killed], &scale(2), &shape));
        assert!(
            fits(&[&scale(1), &killed], &scale(4), &shape),
            "a spare one"
        );
        let reset = fault(FaultKind::ClientReset, "a.1 c.2");
        assert!(!fits(&[&slow("a.1")], &reset, &shape));
        assert!(fits(&[&slow("b.1")], &reset, &shape));
    }
}
