//! A7, unseen: when the workload has ended, every device that is connected has everything within
//! two seconds, and has been told so; and who asks for something is answered.

use crate::{
    Assertion,
    findings::Findings,
    history::Phase,
    index::{Index, Row, Stream},
};

use super::{
    listening::{self, Had, Span},
    memberships::Memberships,
};

const A7: Assertion = Assertion::A7;
/// Contract P7.
const BOUND_US: u64 = 2_000_000;

pub(super) fn check(index: &Index, findings: &mut Findings) {
    for (at, request, answered) in &index.asked {
        findings.checked(A7, 1);
        if !answered {
            findings.broken(A7, "unanswered", Some(*at), || {
                format!("{request} was not answered although nothing was wrong")
            });
        }
    }
    let members = Memberships::of(index);
    let quiet = index.phase(Phase::Quiet).unwrap_or(index.finally());
    listening::spans(index, |stream, span, had| {
        if !listening::to_the_end(index, &members, stream, span) {
            return;
        }
        let device = &index.devices[stream.device as usize];
        let connection = device.connected(index.finally());
        // A listening that began on a later one began during the final reads.
        if connection.is_some_and(|c| c.number > span.connection) {
            findings.broken(A7, "not joined again", Some(span.joined), || {
                let place = index.place(stream);
                format!("{place} is connected at the end and was not joined again")
            });
            return;
        }
        // Who joined after the end of the workload has the time from there on.
        let by = quiet.max(span.joined) + BOUND_US;
        everything(index, stream, span, had, by, findings);
        told(index, stream, span, by, findings);
    });
}

fn everything(
    index: &Index,
    stream: &Stream,
    span: &Span,
    had: &Had,
    by: u64,
    findings: &mut Findings,
) {
    let rows = index.rows_of(stream.channel);
    let first = rows.partition_point(|row| Some(row.seq) <= span.start());
    for row in &rows[first..] {
        let given = had.given(row.message);
        if given.is_none_or(|at| at > by) {
            findings.broken(A7, "unseen", Some(given.unwrap_or(by)), || {
                unseen(index, stream, row, given, by)
            });
        }
    }
    findings.checked(A7, (rows.len() - first) as u64);
}

fn unseen(index: &Index, stream: &Stream, row: &Row, given: Option<u64>, by: u64) -> String {
    let (place, name, seq) = (index.place(stream), index.named(row.message), row.seq);
    match given {
        None => format!("{place} is connected at the end and never got {name} (seq {seq})"),
        Some(at) => format!(
            "{place} got {name} (seq {seq}) {} ms after it had to",
            (at - by) / 1_000
        ),
    }
}

fn told(index: &Index, stream: &Stream, span: &Span, by: u64, findings: &mut Findings) {
    let head = index.head_of(stream.channel);
    findings.checked(A7, 1);
    if span.start().is_none() || span.synced < head {
        findings.broken(A7, "not synced", Some(span.synced_at), || {
            let place = index.place(stream);
            format!(
                "{place}: the last synced is {}, the head is {head}",
                span.synced
            )
        });
    } else if span.synced_at > by {
        findings.broken(A7, "synced late", Some(span.synced_at), || {
            format!(
                "{}: synced {} came {} ms after it had to",
                index.place(stream),
                span.synced,
                (span.synced_at - by) / 1_000
            )
        });
    }
}
