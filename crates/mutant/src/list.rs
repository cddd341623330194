//! The mistakes: each as somebody could make it, and the assertions that should name it.

macro_rules! mutants {
    ($($name:ident: [$($expected:literal),+], $sentence:literal;)*) => {
        /// A mistake that can be planted.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Mutant {
            $(#[doc = $sentence] $name,)*
        }

        /// All of them.
        pub const ALL: &[Mutant] = &[$(Mutant::$name),*];

        impl Mutant {
            /// Its name, as `HUBBUB_MUTANT` takes it.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)*
                }
            }

            /// What is wrong, in a sentence.
            pub const fn sentence(self) -> &'static str {
                match self {
                    $(Self::$name => $sentence,)*
                }
            }

            /// The assertions of which at least one should notice it.
            pub const fn expected(self) -> &'static [&'static str] {
                match self {
                    $(Self::$name => &[$($expected),+],)*
                }
            }
        }
    };
}

mutants! {
    M1: ["A1", "A5"], "A send is answered ok, with the seq that it will probably get, before the log has acknowledged it.";
    M2: ["A1", "A11"], "The consumer commits its position in a transaction of its own, before the one that inserts the rows.";
    M3: ["A6", "A7"], "After a loss of the bus an edge never opens its channels again.";
    M4: ["A3", "A5"], "A resend finds its id taken in the store and is stored as a second row.";
    M5: ["A6", "A8"], "A join takes `since` for the first seq that the client lacks and goes on one too far.";
    M6: ["A3"], "A repair gives plain sockets also the rows that they had live.";
    M7: ["A6", "A8"], "The consumer announces what it is about to store, before the transaction.";
    M8: ["A6", "A8"], "Edges read heads and ranges from a replica that is 5 s behind.";
    M9: ["A10"], "An edge keeps who belongs to a channel for 5 s, whatever it is told of removals.";
    M10: ["A6", "A8"], "A full outbox drops its oldest frame to make room.";
    M11: ["A11"], "The consumer sets its position without comparing it first, so that a zombie writes too.";
    M12: ["A12"], "How far a device came is what its last mark says, whatever it had said before.";
    M13: ["A4"], "The API takes the bound of a page of history for its first row and skips one.";
    M14: ["A15"], "A pod takes the end of one watch for the end of all, whoever began it and when.";
    M15: ["A2", "A3", "A5"], "A message is published, with the seq that it will probably get, before the log has acknowledged it.";
    M16: ["A6", "A8"], "An announcement is applied although it starts above the horizon.";
    M17: ["A6", "A7"], "The head is read before the SUBSCRIBE is confirmed, and not again after it.";
    M18: ["A8"], "`synced` is sent before the rows that it speaks of.";
    M19: ["A3", "A6"], "An ordered join is given messages the moment they arrive.";
    M20: ["A3"], "An edge does not remember ids, so that a message that was sent twice is shown twice.";
    HorizonNeverGoesBack: ["A3"], "An announcement that comes late moves the horizon back.";
    DecidedAtTheAnswer: ["A3"], "What a fetch gives is decided when it is asked for, and not when its answer is there.";
    ReaderGetsNoLive: ["A3", "A6"], "A socket that reads pages is given live messages meanwhile.";
    RefusedIsDetached: ["A6", "A8"], "A socket counts as attached although its outbox refused a frame.";
    Sweep: ["A7"], "No sweep looks for what was announced to nobody.";
}
