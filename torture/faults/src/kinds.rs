//! What the suite knows of each kind of fault before it happens.

use std::ops::RangeInclusive;

use hubbub_checker::FaultKind;

/// All kinds, in the order of their declaration.
pub const KINDS: [FaultKind; 27] = [
    FaultKind::EdgeKill,
    FaultKind::EdgeFreeze,
    FaultKind::EdgeDrain,
    FaultKind::EdgeCrashAfterAck,
    FaultKind::ConsumerKill,
    FaultKind::ConsumerFreeze,
    FaultKind::ConsumerCrashAfterCommit,
    FaultKind::ConsumerScale,
    FaultKind::RedisKill,
    FaultKind::RedisFreeze,
    FaultKind::PubsubKill,
    FaultKind::RedisBlackHole,
    FaultKind::BusLossy,
    FaultKind::KafkaDown,
    FaultKind::KafkaSlow,
    FaultKind::ShardKill,
    FaultKind::ShardLock,
    FaultKind::ShardFreeze,
    FaultKind::HaproxyReload,
    FaultKind::HaproxyKill,
    FaultKind::ClientReset,
    FaultKind::ClientSilent,
    FaultKind::ClientTorn,
    FaultKind::ClientSlow,
    FaultKind::PoisonRecord,
    FaultKind::ApiKill,
    FaultKind::ClockJump,
];

/// How a kind goes about.
#[derive(Debug)]
pub(crate) struct Manner {
    /// How long it lasts.
    pub(crate) lasts_ms: RangeInclusive<u64>,
    /// How long the system needs, about, to have what was hit ready again. Nothing else is done
    /// to it meanwhile.
    pub(crate) settles_ms: u64,
    /// What is expected, and which promise carries it.
    pub(crate) hypothesis: &'static str,
}

pub(crate) fn manner(kind: FaultKind) -> Manner {
    let (lasts_ms, settles_ms, hypothesis) = match kind {
        FaultKind::EdgeKill => (
            500..=2_000,
            2_000,
            "Its devices come back through the other edges and resume with nothing lost or doubled \
             (P5, P6); sends without an answer are sent again and stay one message (P3).",
        ),
        // HAProxy needs two to three seconds to notice; a shorter one nobody does.
        FaultKind::EdgeFreeze => (
            3_500..=5_000,
            1_000,
            "HAProxy cuts its sockets after two to three seconds and they resume elsewhere (P6); when \
             it wakes up, its lapsed lease keeps it from relaying to anybody it should not (P8).",
        ),
        FaultKind::EdgeDrain => (
            2_500..=3_500,
            3_000,
            "Every socket gets a goodbye, answers to its sends and close 1012, and the process ends \
             with code 0 (P11).",
        ),
        FaultKind::EdgeCrashAfterAck => (
            3_000..=4_500,
            2_000,
            "The record is in the log and nobody has been told: the announcement of the consumer \
             shows it to every joined device within 2 s (P5, P7), its sender's retry does not \
             double it (P3).",
        ),
        FaultKind::ConsumerKill => (
            1_000..=3_000,
            2_000,
            "Another consumer takes its partitions over in under 10 s and goes on at the position \
             in the store (P12); plain joins notice nothing (P9).",
        ),
        FaultKind::ConsumerFreeze => (
            4_500..=5_500,
            2_000,
            "Its partitions are given away; when it wakes up as a zombie its commit is refused by \
             the compare-and-set (P12) and its announcements do no harm (P5).",
        ),
        FaultKind::ConsumerCrashAfterCommit => (
            3_000..=4_500,
            2_000,
            "The rows are there and were never announced: the edges' sweep finds the head and \
             repairs within 2 s (P7).",
        ),
        FaultKind::ConsumerScale => (
            2_000..=4_000,
            2_500,
            "The partitions move twice, in order, and each record takes effect once (P12); nobody \
             notices (P9).",
        ),
        FaultKind::RedisKill => (
            500..=2_000,
            1_500,
            "Sends still get ok (P1), every feed is read again after the reconnect, and what was \
             published meanwhile arrives from the store within 2 s of its return (P7).",
        ),
        FaultKind::RedisFreeze => (
            2_500..=3_500,
            1_500,
            "The edges' probe finds that they are deaf, and every feed repairs itself within 2 s of \
             the thaw (P7).",
        ),
        FaultKind::PubsubKill => (
            300..=600,
            1_000,
            "Successful publishes are lost for a moment and every confirmation of a subscription \
             starts a read of the heads: no hole stays (P5, P7).",
        ),
        FaultKind::RedisBlackHole => (
            2_500..=4_000,
            1_500,
            "A connection that looks open carries nothing one way: the probe notices it in under \
             2 s and the feeds are read again (P7).",
        ),
        FaultKind::BusLossy => (
            5_000..=8_000,
            500,
            "What the bus loses without a trace is repaired by the announcements, and where those \
             are lost too by the sweep, within 2 s (P7).",
        ),
        FaultKind::KafkaDown => (
            2_000..=4_000,
            6_000,
            "Nobody is told ok for what is not in the log (P1); senders hear unknown within 5 s and \
             their retries stay one message (P2, P3).",
        ),
        FaultKind::KafkaSlow => (
            3_000..=6_000,
            1_000,
            "Answers come late or are unknown, never false (P1, P2); the order in a channel holds \
             (P4).",
        ),
        FaultKind::ShardKill => (
            1_500..=2_500,
            2_000,
            "Live chat goes on in all channels; only history, resumes and repairs of that shard \
             wait, and a join that cannot be replayed says so (P6, P9).",
        ),
        FaultKind::ShardLock => (
            3_000..=3_000,
            500,
            "Statements meet their deadlines instead of piling up; live chat goes on, and the other \
             shard notices nothing (P9, P10).",
        ),
        // Longer than a sweep waits, so that somebody notices where nobody writes.
        FaultKind::ShardFreeze => (
            3_000..=4_000,
            1_000,
            "Callers meet their deadlines and the partitions of that shard wait; nothing is lost \
             when it thaws (P9, P12).",
        ),
        FaultKind::HaproxyReload => (
            300..=600,
            1_500,
            "The old worker keeps its tunnels and the new one takes who is new: nobody is cut \
             (P11).",
        ),
        FaultKind::HaproxyKill => (
            1_000..=2_500,
            1_000,
            "All its sockets are cut at once, come back through the other one and resume (P6).",
        ),
        FaultKind::ClientReset => (
            200..=500,
            500,
            "The client comes back with its cursor and has everything once (P5, P6).",
        ),
        FaultKind::ClientSilent => (
            6_000..=8_000,
            500,
            "The client finds by itself that its connection is dead, leaves it and resumes (P6); \
             the edge gives the dead socket up (P10).",
        ),
        FaultKind::ClientTorn => (
            2_000..=3_000,
            500,
            "Half a frame is no frame: the client counts nothing that it has not read whole, and \
             gets it again (P5).",
        ),
        FaultKind::ClientSlow => (
            7_000..=9_000,
            1_000,
            "It falls back to reading history at its own pace and has everything in the end; nobody \
             else is delayed, and it costs 1 MiB at most (P10).",
        ),
        FaultKind::PoisonRecord => (
            300..=600,
            2_000,
            "Each becomes a dead letter, kept whole and counted, and delays nobody (P12).",
        ),
        FaultKind::ApiKill => (
            500..=2_000,
            1_500,
            "Reads are tried on the other server; a send without an answer is unknown, and its retry \
             stays one message (P2, P3).",
        ),
        FaultKind::ClockJump => (
            4_000..=6_000,
            3_000,
            "Order, deduplication, leases and resumes never look at a wall clock: nothing changes \
             but the times that are shown (P4, P6).",
        ),
    };
    Manner {
        lasts_ms,
        settles_ms,
        hypothesis,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_listed_once_and_names_its_promise() {
        for (i, kind) in KINDS.into_iter().enumerate() {
            assert_eq!(kind as usize, i, "{kind:?} stands elsewhere");
            let manner = manner(kind);
            assert!(!manner.lasts_ms.is_empty(), "{kind:?}");
            assert!(
                manner.hypothesis.contains("(P") && manner.hypothesis.ends_with(").")
                    || manner.hypothesis.ends_with('.') && manner.hypothesis.contains("(P"),
                "{kind:?}"
            );
            assert!(!manner.hypothesis.contains("  "), "{kind:?}");
        }
        assert_eq!(KINDS.last(), Some(&FaultKind::ClockJump), "the last one");
    }
}
