//! A8, lying `synced` and lying recovery: at every `synced{s}` the connection has carried every
//! row of the channel from its join point to s; after `recovered:true` from `since` on. And a
//! server that has its store does not say `recovered:false`.

use crate::{
    Assertion, FaultKind,
    findings::Findings,
    index::{Fact, Index, Join, Row, Stream, What},
};

use super::point::Point;

const A8: Assertion = Assertion::A8;
/// While one of these is in force a server may be unable to tell what follows a cursor.
const STORE_AWAY: [FaultKind; 7] = [
    FaultKind::ShardKill,
    FaultKind::ShardLock,
    FaultKind::ShardFreeze,
    FaultKind::ConsumerKill,
    FaultKind::ConsumerFreeze,
    FaultKind::ConsumerCrashAfterCommit,
    FaultKind::ConsumerScale,
];
/// And so long after it: breakers and connections come back.
const STORE_BACK_US: u64 = 5_000_000;

/// The join that a device lives by.
struct Joined {
    connection: u32,
    point: Point,
    /// How many of the channel's rows have been looked at; `None` while the join point is unknown.
    next: Option<usize>,
}

/// What came since the last join.
struct Carried {
    marks: Vec<u32>,
    now: u32,
}

pub(super) fn check(index: &Index, findings: &mut Findings) {
    let mut carried = Carried {
        marks: vec![0; index.messages.len()],
        now: 0,
    };
    for stream in &index.streams {
        one(index, stream, &mut carried, findings);
    }
}

fn one(index: &Index, stream: &Stream, carried: &mut Carried, findings: &mut Findings) {
    let rows = index.rows_of(stream.channel);
    let after = |seq: u64| rows.partition_point(|row| row.seq <= seq);
    let mut joined: Option<Joined> = None;
    for fact in &stream.facts {
        if let What::Joined(join) = fact.what {
            let join = stream.joins[join as usize];
            recovery(index, stream, fact, join, findings);
            carried.now += 1;
            joined = Some(Joined {
                connection: fact.connection,
                point: Point::of(&join),
                next: join.point().map(after),
            });
            continue;
        }
        let Some(joined) = &mut joined else { continue };
        if fact.connection != joined.connection {
            continue;
        }
        match fact.what {
            What::Wire { message, seq } if seq == index.message(message).kept => {
                carried.marks[message as usize] = carried.now;
            }
            What::Replay(_) => joined.point.learn(fact),
            What::Synced(seq) => {
                joined.point.learn(fact);
                let start = joined.point.get().unwrap_or(seq);
                let from = *joined.next.get_or_insert_with(|| after(start));
                let owed = rows[from.min(rows.len())..]
                    .iter()
                    .take_while(|row| row.seq <= seq);
                let mut looked = 0;
                for row in owed {
                    looked += 1;
                    if carried.marks[row.message as usize] != carried.now {
                        lied(index, stream, fact, row, seq, findings);
                    }
                }
                joined.next = Some(from + looked);
                findings.checked(A8, looked as u64 + 1);
            }
            _ => {}
        }
    }
}

fn lied(
    index: &Index,
    stream: &Stream,
    fact: &Fact,
    row: &Row,
    synced: u64,
    findings: &mut Findings,
) {
    findings.broken(A8, "lying synced", Some(fact.at), || {
        format!(
            "{}, connection {}: synced {synced} without {} (seq {})",
            index.place(stream),
            fact.connection,
            index.named(row.message),
            row.seq
        )
    });
}

fn recovery(index: &Index, stream: &Stream, fact: &Fact, join: Join, findings: &mut Findings) {
    if join.since.is_none() {
        return;
    }
    findings.checked(A8, 1);
    if join.recovered {
        return;
    }
    findings.count("not_recovered", 1);
    if !index.faults.any_of(&STORE_AWAY, fact.at, STORE_BACK_US) {
        findings.broken(A8, "lying recovery", Some(fact.at), || {
            format!(
                "{}, connection {}: recovered:false while nothing keeps the server from its store",
                index.place(stream),
                fact.connection
            )
        });
    }
}
