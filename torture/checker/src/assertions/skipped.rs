//! A6, skipped delivery: what a device was handed between its join point and the end of its span
//! is what the store has, over all reconnects, each under the seq that the store has.
//!
//! The end is the channel's head for devices that listen to the end, and otherwise the last
//! `synced`, in time before the device went away: nothing promises more to one that is gone.

use crate::{Assertion, findings::Findings, index::Index};

use super::{
    listening::{self, Had, Span},
    memberships::Memberships,
};

const A6: Assertion = Assertion::A6;

pub(super) fn check(index: &Index, findings: &mut Findings) {
    let members = Memberships::of(index);
    listening::spans(index, |stream, span, had| {
        let Some(start) = span.start() else {
            findings.count("spans_without_a_join_point", 1);
            return;
        };
        let end = if listening::to_the_end(index, &members, stream, span) {
            index.head_of(stream.channel)
        } else {
            span.settled
        };
        let rows = index.rows_of(stream.channel);
        let first = rows.partition_point(|row| row.seq <= start);
        let rows = rows[first..].iter().take_while(|row| row.seq <= end);
        let mut checked = 0;
        for row in rows {
            checked += 1;
            if had.given(row.message).is_none() {
                findings.broken(A6, "skipped", Some(span.synced_at), || {
                    format!(
                        "{} was never handed {} (seq {}), owed from {start} to {end}",
                        index.place(stream),
                        index.named(row.message),
                        row.seq
                    )
                });
            } else if misplaced(span, had, row.message, row.seq) {
                findings.broken(A6, "not moved", Some(span.synced_at), || {
                    format!(
                        "{} has {} at seq {} and synced {}, the store has it at {}",
                        index.place(stream),
                        index.named(row.message),
                        had.seq(row.message),
                        span.synced,
                        row.seq
                    )
                });
            }
        }
        findings.checked(A6, checked);
        findings.count("spans", 1);
    });
}

/// The device knows a shadow's seq only, although everything through the row's was sent.
fn misplaced(span: &Span, had: &Had, message: u32, seq: u64) -> bool {
    seq <= span.synced && had.seq(message) != seq
}
