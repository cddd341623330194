//! A11, conservation: per partition the log's records are rows, copies dropped and dead letters,
//! to the unit, as the consumer itself counts them; and nothing acknowledged is a dead letter.

use std::collections::BTreeMap;

use crate::{
    Assertion,
    findings::Findings,
    index::{Counts, Index, Logged, NEVER, NONE},
};

const A11: Assertion = Assertion::A11;

/// What the log and the store say of a partition.
#[derive(Debug, Default)]
struct Tally {
    records: u64,
    rows: u64,
    duplicates: u64,
    dead: u64,
    /// The offset after the last record.
    end: i64,
    counted: bool,
}

pub(super) fn check(index: &Index, findings: &mut Findings) {
    let mut partitions: BTreeMap<i32, Tally> = BTreeMap::new();
    for record in &index.log {
        let tally = partitions.entry(record.partition).or_default();
        tally.records += 1;
        tally.end = tally.end.max(record.offset + 1);
        one(index, record, tally, findings);
    }
    findings.checked(A11, index.log.len() as u64);
    for row in &index.rows {
        partitions.entry(row.partition).or_default().rows += 1;
    }
    unlogged_dead(index, findings);
    for counts in &index.counts {
        let tally = partitions.entry(counts.partition).or_default();
        tally.counted = true;
        compare(counts, tally, findings);
        findings.checked(A11, 4);
    }
    for (partition, tally) in &partitions {
        let kept = tally.rows + tally.duplicates + tally.dead;
        if tally.records != kept {
            findings.broken(A11, "not conserved", None, || {
                format!(
                    "partition {partition}: {} records in the log, but {} rows, {} copies and {} \
                     dead letters",
                    tally.records, tally.rows, tally.duplicates, tally.dead
                )
            });
        }
        if !index.counts.is_empty() && !tally.counted {
            findings.broken(A11, "not counted", None, || {
                format!("partition {partition} has records and no counts of the consumer")
            });
        }
        findings.checked(A11, 1);
    }
}

fn one(index: &Index, record: &Logged, tally: &mut Tally, findings: &mut Findings) {
    let place = (record.partition, record.offset);
    if record.dead {
        tally.dead += 1;
        if record.message != NONE && index.message(record.message).acked != NEVER {
            findings.broken(A11, "acked and given up", Some(record.at), || {
                let name = index.named(record.message);
                format!("{name} was answered ok and is the dead letter at {place:?}")
            });
        }
        return;
    }
    if record.message != NONE {
        let message = index.message(record.message);
        if message.logged != Some(place) {
            tally.duplicates += 1;
            return;
        }
        if message.kept != 0 {
            return;
        }
    }
    findings.broken(
        A11,
        "neither row nor copy nor dead letter",
        Some(record.at),
        || {
            let what = match record.message {
                NONE => "a record that nobody can read".to_owned(),
                message => index.named(message),
            };
            format!("{what} at {place:?} left no trace")
        },
    );
}

fn unlogged_dead(index: &Index, findings: &mut Findings) {
    if index.log.is_empty() {
        return;
    }
    for (partition, offset, at) in &index.dead {
        let place = (*partition, *offset);
        let found = index
            .log
            .binary_search_by(|r| (r.partition, r.offset).cmp(&place));
        if found.is_err() {
            findings.broken(A11, "dead letter without a record", Some(*at), || {
                format!("a dead letter says {place:?}, where the log has nothing")
            });
        }
        findings.checked(A11, 1);
    }
}

fn compare(counts: &Counts, tally: &Tally, findings: &mut Findings) {
    let pairs = [
        ("rows", counts.rows, tally.rows),
        ("copies", counts.duplicates, tally.duplicates),
        ("dead letters", counts.dead, tally.dead),
    ];
    for (what, counted, found) in pairs {
        if counted != found {
            findings.broken(A11, "miscounted", Some(counts.at), || {
                let partition = counts.partition;
                format!(
                    "partition {partition}: the consumer counts {counted} {what}, {found} are there"
                )
            });
        }
    }
    if counts.next_offset != tally.end {
        findings.broken(A11, "not read to the end", Some(counts.at), || {
            format!(
                "partition {}: the consumer reads {} next, the log ends at {}",
                counts.partition, counts.next_offset, tally.end
            )
        });
    }
}
