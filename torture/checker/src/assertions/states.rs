//! A4 too: a message is shown, by every server and by its row, as its edits, deletion, reactions
//! and replies make it, in the order of seq; and nobody changed what another said.

use crate::{
    Assertion,
    findings::Findings,
    history::{State, Thread},
    index::{Changed, Index, Row, Shown},
};
use hubbub_protocol::{Seq, UserId, limits::VERSIONS_PER_MESSAGE};

const A4: Assertion = Assertion::A4;

pub(super) fn check(index: &Index, findings: &mut Findings) {
    for row in &index.rows {
        text(index, row, findings);
    }
    findings.checked(A4, index.rows.len() as u64);
    for message in &index.fold.foreign {
        findings.broken(A4, "changed by another", None, || {
            let name = index.named(*message);
            format!("{name} is in the store and changes what somebody else said")
        });
    }
    for shown in &index.shown {
        one(index, shown, findings);
    }
    findings.checked(A4, index.shown.len() as u64);
}

/// The text of a row. One that nothing explains is corrupt (A2).
fn text(index: &Index, row: &Row, findings: &mut Findings) {
    let (expected, it) = (index.fold.text_of(index, row.message), row.sum);
    let corrupt = || {
        let is = |c: &&crate::index::Corrupt| c.message == row.message && c.sum == it;
        index.corrupt.iter().any(|c| is(&c))
    };
    if it != expected && !corrupt() {
        let name = if expected == 0 {
            "deleted text in the store"
        } else {
            "text is not the latest"
        };
        findings.broken(A4, name, Some(row.at), || {
            let (name, seq) = (index.named(row.message), row.seq);
            format!("{name} (seq {seq}): the row's text has the sum {it:08x}, not {expected:08x}")
        });
    }
}

fn one(index: &Index, shown: &Shown, findings: &mut Findings) {
    // What is shown and is no row is a finding of the pages.
    let Some(row) = index.row_at(shown.channel, shown.seq) else {
        return;
    };
    let mut expected = expected(index, row);
    let state = &shown.state;
    if state.versions.is_none() {
        expected.versions = None;
    }
    let name = if expected.deleted && (state.sum != 0 || state.versions != expected.versions) {
        "deleted text shown"
    } else if state.deleted != expected.deleted {
        "deletion not shown"
    } else if (state.sum, state.edited) != (expected.sum, expected.edited) {
        "text is not the latest"
    } else if state.reactions != expected.reactions {
        "reactions differ"
    } else if state.thread != expected.thread {
        "thread differs"
    } else if state.versions != expected.versions {
        "versions differ"
    } else {
        return;
    };
    findings.broken(A4, name, Some(shown.at), || {
        format!(
            "{} shows {} (seq {}) as {state:?}; its records make it {expected:?}",
            index.processes.name(shown.server),
            index.named(row.message),
            shown.seq
        )
    });
}

fn expected(index: &Index, row: &Row) -> State {
    let Some(changed) = index.fold.changed(row.message) else {
        return State {
            sum: index.message(row.message).sum,
            versions: Some(Vec::new()),
            ..State::default()
        };
    };
    let user = |number: &u32| *index.users.name(*number);
    let users = |numbers: &[u32]| numbers.iter().map(user).collect::<Vec<UserId>>();
    State {
        sum: changed.sum,
        deleted: changed.deleted.is_some(),
        edited: changed.edited.map(|(seq, count)| (Seq(seq), count)),
        reactions: changed
            .reactions
            .iter()
            .map(|(sum, given)| (*sum, users(given)))
            .collect(),
        thread: changed.thread.as_ref().map(|thread| Thread {
            count: thread.count,
            last: Seq(thread.last),
            users: users(&thread.users),
        }),
        versions: Some(newest(changed)),
    }
}

/// The versions that history shows.
fn newest(changed: &Changed) -> Vec<(Seq, u32)> {
    let most = usize::try_from(VERSIONS_PER_MESSAGE).unwrap_or(usize::MAX);
    let first = changed.versions.len().saturating_sub(most);
    let newest = changed.versions[first..].iter();
    newest.map(|(seq, sum)| (Seq(*seq), *sum)).collect()
}
