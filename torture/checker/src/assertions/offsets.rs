//! A5, inconsistent offset: an id has one seq and a seq one id, over acks, the wire, what was
//! handed on, and the store. The places in the log of later copies of a stored message (shadows)
//! are counted apart.

use crate::{
    Assertion,
    findings::Findings,
    index::{Index, Outcome, What},
};

const A5: Assertion = Assertion::A5;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// The row's.
    Kept,
    /// That of a later copy.
    Shadow,
    /// Another one's, or nobody's.
    Foreign,
    /// The message is not in the store (A1 or A2 says so) and no other one has this seq.
    Unknown,
}

/// What a seq is to a message.
pub(super) fn place(index: &Index, message: u32, seq: u64) -> Place {
    let it = index.message(message);
    if it.kept == seq {
        return Place::Kept;
    }
    if index.shadows.contains(&(message, seq)) {
        return Place::Shadow;
    }
    let rows = index.rows_of(it.channel);
    let taken = rows.binary_search_by_key(&seq, |row| row.seq).is_ok();
    if it.kept == 0 && !taken {
        Place::Unknown
    } else {
        Place::Foreign
    }
}

pub(super) fn check(index: &Index, findings: &mut Findings) {
    findings.count("shadows", index.shadows.len() as u64);
    let mut checked = 0;
    for attempt in &index.attempts {
        if let Outcome::Ok { seq: Some(seq) } = attempt.outcome {
            checked += 1;
            one(
                index,
                attempt.message,
                seq,
                attempt.answered,
                "acks",
                findings,
            );
        }
    }
    for stream in &index.streams {
        for fact in &stream.facts {
            let (message, seq, shadows) = match fact.what {
                What::Wire { message, seq } => (message, seq, "wire"),
                What::Given { message, seq, .. } => (message, seq, "given"),
                What::Moved { message, seq } => (message, seq, "moved"),
                _ => continue,
            };
            checked += 1;
            one(index, message, seq, fact.at, shadows, findings);
        }
    }
    findings.checked(A5, checked);
}

fn one(index: &Index, message: u32, seq: u64, at: u64, seen: &str, findings: &mut Findings) {
    match place(index, message, seq) {
        Place::Kept | Place::Unknown => {}
        Place::Shadow => findings.count(&format!("shadows_{seen}"), 1),
        Place::Foreign => findings.broken(A5, "inconsistent offset", Some(at), || {
            let kept = index.message(message).kept;
            let name = index.named(message);
            format!("{name} was seen ({seen}) with seq {seq}; its row has {kept} (0 = none)")
        }),
    }
}
