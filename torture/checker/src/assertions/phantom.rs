//! A2, phantom, aborted and corrupt read: the store holds nothing that nobody sent or that was
//! rejected, no device received what the store has not, and a text is the same everywhere, or what
//! an edit or a deletion has made of it by then (see [`crate::index::Fold::explains`]).

use crate::{
    Assertion,
    findings::Findings,
    index::{Index, What},
};

pub(super) fn check(index: &Index, findings: &mut Findings) {
    stored(index, findings);
    received(index, findings);
    corrupt(index, findings);
}

fn stored(index: &Index, findings: &mut Findings) {
    for row in &index.rows {
        let message = index.message(row.message);
        if message.kind.is_sent() && message.attempts == 0 {
            findings.broken(Assertion::A2, "phantom", Some(row.at), || {
                let (name, seq) = (index.named(row.message), row.seq);
                format!("{name} is in the store with seq {seq} and nobody sent it")
            });
        } else if message.attempts > 0 && message.rejected == message.attempts {
            findings.broken(Assertion::A2, "aborted read", Some(row.at), || {
                let (name, seq) = (index.named(row.message), row.seq);
                format!("{name} was rejected each time and is in the store with seq {seq}")
            });
        }
    }
    findings.checked(Assertion::A2, index.rows.len() as u64);
}

fn received(index: &Index, findings: &mut Findings) {
    let mut checked = 0;
    for stream in &index.streams {
        for fact in &stream.facts {
            let (verb, message) = match fact.what {
                What::Wire { message, .. } => ("was sent", message),
                What::Given { message, .. } => ("was handed", message),
                _ => continue,
            };
            checked += 1;
            if index.message(message).kept == 0 {
                findings.broken(Assertion::A2, "phantom", Some(fact.at), || {
                    let (place, name) = (index.place(stream), index.named(message));
                    format!("{place} {verb} {name}, which is not in the store")
                });
            }
        }
    }
    findings.checked(Assertion::A2, checked);
}

/// The sums of all records, in whatever way the system has them.
pub(super) fn corrupt(index: &Index, findings: &mut Findings) {
    for corrupt in &index.corrupt {
        findings.broken(Assertion::A2, "corrupt read", Some(corrupt.at), || {
            format!(
                "{} is {:?} with the sum {:08x} as it was first seen, and {:?} with {:08x} {}",
                index.named(corrupt.message),
                index.message(corrupt.message).kind,
                index.message(corrupt.message).sum,
                corrupt.kind,
                corrupt.sum,
                corrupt.seen.words()
            )
        });
    }
    findings.checked(Assertion::A2, index.sums);
}
