//! What the assertions find, before it is a verdict.

use crate::{Assertion, Scope, Verdict, Violation};

/// How many violations of an assertion are kept in full.
const KEPT: u64 = 100;

/// Collects violations, and what was compared and counted.
#[derive(Debug)]
pub(crate) struct Findings {
    scope: Scope,
    verdict: Verdict,
}

impl Findings {
    pub(crate) fn new(scope: Scope) -> Self {
        Self {
            scope,
            verdict: Verdict::default(),
        }
    }

    pub(crate) fn scope(&self) -> &Scope {
        &self.scope
    }

    /// A violation. The message is only made if it is kept.
    pub(crate) fn broken(
        &mut self,
        assertion: Assertion,
        name: &str,
        at_us: Option<u64>,
        message: impl FnOnce() -> String,
    ) {
        if !self.scope.has(assertion) {
            return;
        }
        let count = self.verdict.broken.entry(assertion).or_default();
        *count += 1;
        if *count <= KEPT {
            self.verdict.violations.push(Violation {
                assertion,
                name: name.to_owned(),
                message: message(),
                at_us,
            });
        }
    }

    /// So many facts were compared.
    pub(crate) fn checked(&mut self, assertion: Assertion, facts: u64) {
        if self.scope.has(assertion) {
            *self.verdict.checked.entry(assertion).or_default() += facts;
        }
    }

    /// Adds to a count.
    pub(crate) fn count(&mut self, name: &str, more: u64) {
        match self.verdict.counts.get_mut(name) {
            Some(count) => *count += more,
            None => {
                self.verdict.counts.insert(name.to_owned(), more);
            }
        }
    }

    pub(crate) fn into_verdict(self) -> Verdict {
        self.verdict
    }
}
