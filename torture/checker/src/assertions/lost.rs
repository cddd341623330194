//! A1, lost write: every id that was answered `ok` is in the store.

use crate::{
    Assertion,
    findings::Findings,
    index::{Index, NEVER},
};

pub(super) fn check(index: &Index, findings: &mut Findings) {
    let mut acked = 0;
    for (number, message) in (0..).zip(&index.messages) {
        if message.acked == NEVER {
            continue;
        }
        acked += 1;
        if message.kept == 0 {
            findings.broken(Assertion::A1, "lost write", Some(message.acked), || {
                format!(
                    "{} was answered ok and is not in the store",
                    index.named(number)
                )
            });
        }
    }
    findings.checked(Assertion::A1, acked);
}
