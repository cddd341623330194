//! Whether anybody noticed a fault: told from what was counted before it and since.

use hubbub_checker::{Fault, FaultKind};

use crate::{
    meters::{Risen, rise},
    seen::Counts,
};

/// What is known at a moment.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sight {
    /// By the clients.
    pub(crate) counts: Counts,
    /// By the processes.
    pub(crate) risen: Risen,
}

/// What happened between two sights.
struct Between<'a> {
    seen: Counts,
    before: &'a Risen,
    now: &'a Risen,
}

impl Between<'_> {
    fn rise(&self, process: &str, words: &[&str]) -> u64 {
        let risen = rise(self.before, self.now, process, words);
        // Figures are counts; a histogram's are, too.
        risen.max(0.0).round() as u64
    }

    /// Over several sets of words.
    fn any(&self, process: &str, alternatives: &[&[&str]]) -> u64 {
        let each = alternatives.iter().map(|words| self.rise(process, words));
        each.sum()
    }

    fn cut_on(&self, pod: &str) -> u64 {
        self.seen.closed_on.get(pod).copied().unwrap_or(0)
    }
}

/// What somebody noticed of a fault, in words; `None` if nobody did. `noted` is what was seen from
/// outside while it was made: how a process ended, how many connections were killed.
pub(crate) fn effect(
    fault: &Fault,
    before: &Sight,
    now: &Sight,
    noted: &[String],
) -> Option<String> {
    let between = Between {
        seen: now.counts.since(&before.counts),
        before: &before.risen,
        now: &now.risen,
    };
    let mut parts = noted.to_vec();
    for (count, what) in counted(fault, &between) {
        if count > 0 {
            parts.push(format!("{count} {what}"));
        }
    }
    (!parts.is_empty()).then(|| parts.join(", "))
}

/// What must have risen for each kind.
fn counted(fault: &Fault, between: &Between<'_>) -> Vec<(u64, &'static str)> {
    let target = fault.target.as_str();
    let seen = &between.seen;
    let lost = |process: &str| {
        vec![
            (
                between.rise(process, &["bus_losses_total"]),
                "bus reconnects",
            ),
            (
                between.any(
                    process,
                    &[
                        &["bus_probes_total", "failed"],
                        &["bus_probes_total", "unsent"],
                        &["bus_publishes_total", "failed"],
                        &["bus_publishes_total", "stale"],
                    ],
                ),
                "probes and publishes failed",
            ),
        ]
    };
    let repaired = (
        between.rise("edge", &["feed_events", "\"repaired\""]),
        "messages repaired",
    );
    match fault.kind {
        FaultKind::EdgeKill | FaultKind::EdgeFreeze | FaultKind::EdgeDrain => {
            vec![(between.cut_on(target), "sockets cut")]
        }
        FaultKind::EdgeCrashAfterAck => vec![],
        FaultKind::ConsumerKill
        | FaultKind::ConsumerFreeze
        | FaultKind::ConsumerCrashAfterCommit
        | FaultKind::ConsumerScale => vec![
            (between.rise("consumer", &["log_rebalances"]), "rebalances"),
            (
                between.rise("consumer", &["consumer_batches", "\"zombie\""]),
                "zombie commits refused",
            ),
        ],
        FaultKind::RedisKill | FaultKind::RedisFreeze | FaultKind::PubsubKill => lost(""),
        FaultKind::RedisBlackHole => {
            let names = target
                .split_whitespace()
                .filter_map(|link| link.split('>').next());
            names.flat_map(lost).fold(Vec::new(), add_up)
        }
        FaultKind::BusLossy => vec![repaired],
        FaultKind::KafkaDown => vec![
            (seen.unknown, "sends unknown"),
            (seen.rejected, "sends rejected"),
            (
                between.rise("", &["log_appends_total", "\"unknown\""]),
                "appends without an answer",
            ),
            (
                between.rise("", &["log_consume_errors"]),
                "errors of consumers",
            ),
            (slow_appends(between), "appends over 250 ms"),
        ],
        FaultKind::KafkaSlow => vec![(slow_appends(between), "appends over 250 ms")],
        FaultKind::ShardKill | FaultKind::ShardLock | FaultKind::ShardFreeze => vec![
            (
                between.any(
                    "",
                    &[
                        &["store_calls_total", target, "\"error\""],
                        &["store_calls_total", target, "\"deadline\""],
                        &["store_calls_total", target, "\"away\""],
                    ],
                ),
                "calls to it failed",
            ),
            (slow_calls(between, target), "calls to it over 1 s"),
            // No shard is named here; but there is never a fault on two.
            (
                between.rise("edge", &["hubbub_edge_sweep_failures"]),
                "sweeps without an answer",
            ),
            (
                between.rise("consumer", &["consumer_waiting_partitions"]),
                "partitions waited",
            ),
        ],
        FaultKind::HaproxyReload => vec![],
        FaultKind::HaproxyKill => vec![(seen.closed, "sockets cut")],
        FaultKind::ClientReset | FaultKind::ClientSilent | FaultKind::ClientTorn => {
            let of = |device| seen.closed_of.get(device).copied().unwrap_or(0);
            let cut = target.split_whitespace().map(of).sum();
            vec![(cut, "connections given up")]
        }
        FaultKind::ClientSlow => vec![(
            between.rise("edge", &["feed_events", "\"detached\""]),
            "fallen back to their cursors",
        )],
        FaultKind::PoisonRecord => vec![(
            between.rise("consumer", &["consumer_records", "\"dead\""]),
            "dead letters",
        )],
        FaultKind::ApiKill | FaultKind::ClockJump => vec![],
    }
}

fn slow_appends(between: &Between<'_>) -> u64 {
    let all = between.rise("", &["log_append_seconds_count"]);
    let quick = between.rise("", &["log_append_seconds_bucket", "le=\"0.256\""]);
    all.saturating_sub(quick)
}

fn slow_calls(between: &Between<'_>, shard: &str) -> u64 {
    let all = between.rise("", &["store_call_seconds_count", shard]);
    let quick = between.rise("", &["store_call_seconds_bucket", shard, "le=\"1.0\""]);
    all.saturating_sub(quick)
}

fn add_up(
    mut sum: Vec<(u64, &'static str)>,
    (count, what): (u64, &'static str),
) -> Vec<(u64, &'static str)> {
    match sum.iter_mut().find(|(_, known)| *known == what) {
        Some((total, _)) => *total += count,
        None => sum.push((count, what)),
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::KINDS;

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

    fn sight(risen: &[(&str, &str, f64)]) -> Sight {
        let figure = |(process, series, value): &(&str, &str, f64)| {
            (((*process).to_owned(), (*series).to_owned()), *value)
        };
        Sight {
            counts: Counts::default(),
            risen: risen.iter().map(figure).collect(),
        }
    }

    #[test]
    fn nothing_happened_is_nothing_seen() {
        let quiet = sight(&[("edge-1", "bus_losses_total{reason=\"deaf\"}", 3.0)]);
        for kind in KINDS {
            assert_eq!(
                effect(&fault(kind, "edge-1"), &quiet, &quiet, &[]),
                None,
                "{kind:?}"
            );
        }
        let noted = ["exit code 0".to_owned()];
        let drained = fault(FaultKind::EdgeDrain, "edge-1");
        let said = effect(&drained, &quiet, &quiet, &noted);
        assert_eq!(said.as_deref(), Some("exit code 0"));
    }

    #[test]
    fn effects_belong_to_whom_was_hit() {
        let before = sight(&[]);
        let mut now = sight(&[
            ("edge-1", "bus_losses_total{reason=\"deaf\"}", 1.0),
            ("edge-2", "bus_losses_total{reason=\"deaf\"}", 4.0),
            (
                "consumer-1",
                "store_calls_total{database=\"shard-1\",query=\"write\",outcome=\"deadline\"}",
                2.0,
            ),
        ]);
        let say = |kind, target: &str, now: &Sight| effect(&fault(kind, target), &before, now, &[]);
        assert_eq!(
            say(
                FaultKind::RedisBlackHole,
                "edge-2>redis consumer-1>redis",
                &now
            )
            .as_deref(),
            Some("4 bus reconnects")
        );
        assert_eq!(
            say(FaultKind::RedisFreeze, "redis", &now).as_deref(),
            Some("5 bus reconnects")
        );
        assert_eq!(say(FaultKind::ShardLock, "shard-0", &now), None);
        assert_eq!(
            say(FaultKind::ShardLock, "shard-1", &now).as_deref(),
            Some("2 calls to it failed")
        );
        now.counts.closed_on.insert("edge-3".to_owned(), 9);
        assert_eq!(say(FaultKind::EdgeFreeze, "edge-1", &now), None);
        assert_eq!(
            say(FaultKind::EdgeFreeze, "edge-3", &now).as_deref(),
            Some("9 sockets cut")
        );
        now.counts.closed_of.insert("mary.1".to_owned(), 2);
        assert_eq!(
            say(FaultKind::ClientTorn, "john.1 mary.1", &now).as_deref(),
            Some("2 connections given up")
        );
    }

    #[test]
    fn slow_calls_of_the_shard_count() {
        let series = |what: &str, shard: u8| {
            format!("store_call_seconds_{what}database=\"shard-{shard}\",query=\"heads\"}}")
        };
        let (count, bucket) = ("count{", "bucket{le=\"1.0\",");
        let now = sight(&[
            ("edge-1", &series(count, 0), 7.0),
            ("edge-1", &series(bucket, 0), 7.0),
            ("edge-1", &series(count, 1), 7.0),
            ("edge-1", &series(bucket, 1), 5.0),
        ]);
        let say = |shard| {
            effect(
                &fault(FaultKind::ShardFreeze, shard),
                &sight(&[]),
                &now,
                &[],
            )
        };
        assert_eq!(say("shard-0"), None);
        assert_eq!(say("shard-1").as_deref(), Some("2 calls to it over 1 s"));
    }

    #[test]
    fn slow_appends_are_those_beyond_the_bucket() {
        let now = sight(&[
            ("edge-1", "log_append_seconds_count", 12.0),
            ("edge-1", "log_append_seconds_bucket{le=\"0.256\"}", 9.0),
        ]);
        let said = effect(
            &fault(FaultKind::KafkaSlow, "edge-1>kafka"),
            &sight(&[]),
            &now,
            &[],
        );
        assert_eq!(said.as_deref(), Some("3 appends over 250 ms"));
    }
}
