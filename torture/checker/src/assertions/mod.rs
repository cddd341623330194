//! The assertions, each a function of the index.

mod append;
mod conservation;
mod counts;
mod dashboard;
mod delivery;
mod direct;
mod duplicates;
mod errors;
mod floors;
mod inconsistent;
mod leaks;
mod listening;
mod lost;
mod memberships;
mod offsets;
mod order;
mod phantom;
mod point;
mod repaired;
mod skipped;
mod states;
mod status;
mod sweep;
mod synced;
mod unseen;

use crate::{Assertion, findings::Findings, index::Index};

/// Everything that the scope asks for.
pub(crate) fn run(index: &Index, findings: &mut Findings) {
    for assertion in Assertion::ALL {
        findings.checked(assertion, 0);
    }
    counts::count(index, findings);
    if findings.scope().has_store() {
        lost::check(index, findings);
        phantom::check(index, findings);
        duplicates::check(index, findings);
        inconsistent::check(index, findings);
        states::check(index, findings);
        offsets::check(index, findings);
        skipped::check(index, findings);
        order::check(index, findings);
        unseen::check(index, findings);
        sweep::check(index, findings);
        synced::check(index, findings);
        append::check(index, findings);
        memberships::check(index, findings);
        direct::check(index, findings);
        conservation::check(index, findings);
        status::check(index, findings);
        leaks::check(index, findings);
        dashboard::check(index, findings);
        errors::check(index, findings);
    } else {
        delivery::check(index, findings);
    }
}
