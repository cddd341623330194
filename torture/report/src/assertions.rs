use hubbub_checker::Assertion;

/// All assertions with what breaks when they do, in order.
pub(crate) const ALL: [(Assertion, &str); 15] = [
    (Assertion::A1, "lost write"),
    (Assertion::A2, "phantom, aborted or corrupt read"),
    (Assertion::A3, "duplicate"),
    (Assertion::A4, "inconsistent read"),
    (Assertion::A5, "inconsistent offset"),
    (Assertion::A6, "skipped or nonmonotonic delivery"),
    (Assertion::A7, "unseen after quiescence"),
    (Assertion::A8, "lying synced or lying recovery"),
    (Assertion::A9, "not a linearizable append"),
    (Assertion::A10, "new enemy (memberships)"),
    (
        Assertion::A11,
        "conservation: log = rows + duplicates + dead",
    ),
    (Assertion::A12, "delivery status goes back or says too much"),
    (Assertion::A13, "leak"),
    (Assertion::A14, "panic, or an error that no fault explains"),
    (Assertion::A15, "stale dashboard"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn none_is_missing() {
        assert_eq!(ALL.map(|(assertion, _)| assertion), Assertion::ALL);
    }
}
