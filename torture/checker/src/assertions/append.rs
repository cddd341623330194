//! A9, linearizable append: what was acknowledged before another send began has the lower seq.
//!
//! A message's row may stem from any of its attempts: it is in the log at some moment between its
//! earliest `invoke` and its earliest `ok`, since the store keeps the lowest copy.

use crate::{
    Assertion,
    findings::Findings,
    index::{Index, NEVER, Row},
};

const A9: Assertion = Assertion::A9;

pub(super) fn check(index: &Index, findings: &mut Findings) {
    for channel in 0..index.channels.len() {
        let channel = u32::try_from(channel).expect("numbers of channels are u32");
        one(index, index.rows_of(channel), findings);
    }
}

/// From the last row back, with the earliest acknowledgement of all that come after.
fn one(index: &Index, rows: &[Row], findings: &mut Findings) {
    let mut earliest: Option<&Row> = None;
    let acked = |row: &Row| index.message(row.message).acked;
    for row in rows.iter().rev() {
        let message = index.message(row.message);
        let invoked = message.invoked;
        // Nobody sent it, or it is a second row of its message: other findings.
        if invoked == NEVER || message.kept != row.seq {
            continue;
        }
        if let Some(later) = earliest {
            findings.checked(A9, 1);
            if acked(later) < invoked {
                broken(index, row, later, findings);
            }
        }
        if earliest.is_none_or(|e| acked(row) < acked(e)) {
            earliest = Some(row);
        }
    }
}

fn broken(index: &Index, row: &Row, later: &Row, findings: &mut Findings) {
    let (i, j) = (index.message(row.message), index.message(later.message));
    let name = if i.user == j.user {
        "a sender's order"
    } else {
        "not a linearizable append"
    };
    findings.broken(A9, name, Some(i.invoked), || {
        format!(
            "{} was sent after {} had its ok, and has the lower seq: {} before {}",
            index.named(row.message),
            index.named(later.message),
            row.seq,
            later.seq
        )
    });
}
