//! Which rule is taken out in this thread.

use std::cell::Cell;

macro_rules! rules {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// A rule of design section 4 that the planted mistakes take out, one at a time.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(in crate::feed) enum Rule {
            $($(#[$doc])* $name),*
        }

        impl Rule {
            pub(in crate::feed) const ALL: &[Self] = &[$(Self::$name),*];
        }
    };
}

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
    UnknownHorizonIsSuspect,
    Sweep,
    SuspectWaitsForHorizon,
}

thread_local! {
    static TAKEN_OUT: Cell<Option<Rule>> = const { Cell::new(None) };
}

pub(in crate::feed) fn holds(rule: Rule) -> bool {
    TAKEN_OUT.get() != Some(rule)
}

/// Takes one rule out for as long as it lives.
#[derive(Debug)]
pub(super) struct TakenOut;

impl TakenOut {
    pub(super) fn new(rule: Rule) -> Self {
        TAKEN_OUT.set(Some(rule));
        Self
    }
}

impl Drop for TakenOut {
    fn drop(&mut self) {
        TAKEN_OUT.set(None);
    }
}
