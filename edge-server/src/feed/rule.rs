//! Each rule of the feed can be taken out in the tests, one at a time, to show that the model
//! notices. Elsewhere a rule is the constant `true` and costs nothing.

/// Whether the named rule holds: always, except in a test that has taken it out.
macro_rules! rule {
    ($name:ident) => {{
        #[cfg(not(test))]
        let holds = $crate::feed::rule::holds();
        #[cfg(test)]
        let holds = $crate::feed::model::rules::holds($crate::feed::model::rules::Rule::$name);
        holds
    }};
}

/// A call, for a literal would make the linter simplify the rules away.
#[cfg(not(test))]
pub(super) const fn holds() -> bool {
    true
}
