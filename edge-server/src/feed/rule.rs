//! Each rule of the feed can be taken out, one at a time in the tests to show that the model
//! notices, and by a mistake that is planted for the torture suite. Elsewhere a rule is the
//! constant `true` and costs nothing.

/// Whether the named rule holds: always, except where it has been taken out.
macro_rules! rule {
    ($name:ident) => {{
        #[cfg(not(any(test, feature = "mutants")))]
        let holds = $crate::feed::rule::holds();
        #[cfg(any(test, feature = "mutants"))]
        let holds = $crate::feed::rule::holds($crate::feed::rule::Rule::$name);
        holds
    }};
}

/// A call, for a literal would make the linter simplify the rules away.
#[cfg(not(any(test, feature = "mutants")))]
pub(super) const fn holds() -> bool {
    true
}

#[cfg(any(test, feature = "mutants"))]
macro_rules! rules {
    ($($name:ident),* $(,)?) => {
        /// A rule of design section 4.
        #[cfg_attr(
            not(test),
            expect(dead_code, reason = "two are kept outside of the feed: the model has them alone")
        )]
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(super) enum Rule {
            $($name),*
        }

        #[cfg(test)]
        impl Rule {
            pub(super) const ALL: &[Self] = &[$(Self::$name),*];
        }
    };
}

#[cfg(any(test, feature = "mutants"))]
rules! {
    SyncedIsNeverAhead,
    FailedSweepKeepsItsPositions,
    HeadAfterSubscribe,
    HorizonConsulted,
    RecentConsulted,
    IdsConsulted,
    OrderedGetsRowsOnly,
    ReaderGetsNoLive,
    DetachBeforeRefused,
    RefusedIsDetached,
    ReplayAfterDetach,
    LeaveDropsSynced,
    FramelessIsRemembered,
    EverySubscribeChecks,
    EarlierHeadReadDoesNotCount,
    FullWaitingIsMerged,
    HorizonNeverGoesBack,
    ListedRowsAreFetched,
    AnnouncementAboveIsFetched,
    FailedIsRepeated,
    MissingRowIsAskedAgain,
    FullPageIsNotTheEnd,
    DecidedAtTheAnswer,
    AheadOfTheHeadIsTold,
    FirstHeadTrimsRecent,
    HorizonIsTheirJoinPoint,
    ReplayAtFirstHorizon,
    SyncedBehindTheRows,
    RowsAscend,
    RowsAreNeverSuppressedById,
    AdvanceConsultsRecent,
    FramelessGoesToLaterOnes,
    FramelessGoesToLaterOnesOnly,
    IdsTakeRows,
    RecentLosesCopies,
    EveryAdvanceIsTold,
    AheadIsRepairedFirst,
    SinceIsTheLastSeqTheyHave,
    LostIsTold,
    ReplayAtJoin,
    RecentIsHandedOver,
    RefusedHandOverStaysReader,
    ArrivalNumberIsKept,
    AttachIsTold,
    LastPageGoesToItsEnd,
    PageServesFromItsStart,
    NoCursorGoesBack,
    ReplayBeforePage,
    OnlyRowsAboveTheCursor,
    PageEndsWhereTheOutboxIsFull,
    PageIsTold,
    PromisedPageIsRepeated,
    TailStartsAtTheHorizon,
    TailServesFromItsStart,
    TailGrowsWithTheHorizon,
    TailLacksNoRow,
    TailHasNoGap,
    TailBeginsWhereItIsFull,
    DroppedRowRaisesTheTail,
    TailPageEndsAtItsLastRow,
    UnknownHorizonIsSuspect,
    Sweep,
    SuspectWaitsForHorizon,
}

#[cfg(all(feature = "mutants", not(test)))]
pub(super) fn holds(rule: Rule) -> bool {
    !hubbub_mutant::which().is_some_and(|mutant| taken_out_by(mutant).contains(&rule))
}

/// The rules that a planted mistake takes out.
#[cfg(feature = "mutants")]
fn taken_out_by(mutant: hubbub_mutant::Mutant) -> &'static [Rule] {
    use hubbub_mutant::Mutant;
    match mutant {
        Mutant::M5 => &[Rule::SinceIsTheLastSeqTheyHave],
        Mutant::M6 => &[Rule::AdvanceConsultsRecent],
        Mutant::M16 => &[Rule::AnnouncementAboveIsFetched],
        Mutant::M17 => &[Rule::HeadAfterSubscribe, Rule::EverySubscribeChecks],
        Mutant::M18 => &[Rule::SyncedBehindTheRows],
        Mutant::M19 => &[Rule::OrderedGetsRowsOnly],
        Mutant::M20 => &[Rule::IdsConsulted],
        Mutant::HorizonNeverGoesBack => &[Rule::HorizonNeverGoesBack],
        Mutant::DecidedAtTheAnswer => &[Rule::DecidedAtTheAnswer],
        Mutant::ReaderGetsNoLive => &[Rule::ReaderGetsNoLive],
        Mutant::RefusedIsDetached => &[Rule::RefusedIsDetached, Rule::RefusedHandOverStaysReader],
        Mutant::Sweep => &[Rule::Sweep],
        _ => &[],
    }
}

#[cfg(test)]
pub(super) use taken_out::{TakenOut, any_is_taken_out, holds};

#[cfg(test)]
mod taken_out {
    use std::cell::Cell;

    use super::Rule;

    thread_local! {
        static TAKEN_OUT: Cell<Option<Rule>> = const { Cell::new(None) };
    }

    pub(in crate::feed) fn holds(rule: Rule) -> bool {
        TAKEN_OUT.get() != Some(rule)
    }

    pub(in crate::feed) fn any_is_taken_out() -> bool {
        TAKEN_OUT.get().is_some()
    }

    /// Takes one rule out, in this thread, for as long as it lives.
    #[derive(Debug)]
    pub(in crate::feed) struct TakenOut;

    impl TakenOut {
        pub(in crate::feed) fn new(rule: Rule) -> Self {
            TAKEN_OUT.set(Some(rule));
            Self
        }
    }

    impl Drop for TakenOut {
        fn drop(&mut self) {
            TAKEN_OUT.set(None);
        }
    }
}

#[cfg(all(test, feature = "mutants"))]
mod tests {
    use hubbub_mutant::Mutant;

    use super::{Rule, taken_out_by};

    /// The others are planted elsewhere, in part here too.
    #[test]
    fn mistakes_named_after_a_rule_take_it_out() {
        for mutant in hubbub_mutant::ALL {
            let rules = taken_out_by(*mutant);
            let named = |rule: &Rule| format!("{rule:?}") == mutant.name();
            if !mutant.name().starts_with('M') {
                assert!(rules.iter().any(named), "{mutant}: {rules:?}");
            }
            let unique = rules.iter().all(|rule| {
                let of = |other: &&Mutant| taken_out_by(**other).contains(rule);
                hubbub_mutant::ALL.iter().filter(of).count() == 1
            });
            assert!(unique, "{mutant} is another one too");
        }
    }
}
