//! Mistakes that can be planted in the product, one at a time, to show that the torture suite
//! notices each.
//!
//! The list is always here, so that the suite can print it. The mistakes themselves exist only in
//! a build with the feature `mutants`, which a release build refuses; without it [`planted`] is the
//! constant `false`, and every site that asks it costs nothing. A process plants at most one, once,
//! at its start.

mod list;

#[cfg(all(feature = "mutants", not(debug_assertions)))]
compile_error!("the feature `mutants` plants mistakes: never in a release build");

use std::{fmt, str::FromStr};

pub use list::{ALL, Mutant};

/// A name that no mistake has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownMutant(String);

impl fmt::Display for UnknownMutant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = ALL.iter().map(|mutant| mutant.name()).collect();
        write!(
            f,
            "no mistake is called `{}`; there are {}",
            self.0,
            names.join(", ")
        )
    }
}

impl std::error::Error for UnknownMutant {}

impl FromStr for Mutant {
    type Err = UnknownMutant;

    fn from_str(name: &str) -> Result<Self, UnknownMutant> {
        let known = ALL.iter().find(|mutant| mutant.name() == name);
        known.copied().ok_or_else(|| UnknownMutant(name.to_owned()))
    }
}

impl fmt::Display for Mutant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(feature = "mutants")]
mod state {
    use std::sync::OnceLock;

    use crate::Mutant;

    static PLANTED: OnceLock<Mutant> = OnceLock::new();

    /// Plants a mistake in this process, for good. `false`: another one is there already.
    pub fn plant(mutant: Mutant) -> bool {
        *PLANTED.get_or_init(|| mutant) == mutant
    }

    /// What is planted in this process.
    pub fn which() -> Option<Mutant> {
        PLANTED.get().copied()
    }

    /// Whether this mistake is planted in this process.
    pub fn planted(mutant: Mutant) -> bool {
        which() == Some(mutant)
    }
}

#[cfg(feature = "mutants")]
pub use state::{plant, planted, which};

/// Whether this mistake is planted in this process: never, in this build.
#[cfg(not(feature = "mutants"))]
pub const fn planted(_mutant: Mutant) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_read_back_and_an_unknown_one_lists_them() {
        for mutant in ALL {
            assert_eq!(mutant.name().parse(), Ok(*mutant));
            assert_eq!(mutant.to_string(), mutant.name());
            assert!(mutant.sentence().ends_with('.'), "{mutant}");
            assert!(!mutant.expected().is_empty(), "{mutant}");
        }
        let names: BTreeSet<_> = ALL.iter().map(|mutant| mutant.name()).collect();
        assert_eq!(names.len(), ALL.len());
        let error = "M21".parse::<Mutant>().expect_err("there is none");
        let text = error.to_string();
        assert!(
            text.contains("`M21`") && text.contains("M1, M2, M3"),
            "{text}"
        );
        assert!(text.ends_with("Sweep"), "{text}");
    }

    #[cfg(not(feature = "mutants"))]
    #[test]
    fn nothing_is_planted_in_an_ordinary_build() {
        const {
            assert!(!planted(Mutant::M1));
        }
        assert!(ALL.iter().all(|mutant| !planted(*mutant)));
    }

    #[cfg(feature = "mutants")]
    #[test]
    fn one_is_planted_and_stays() {
        assert_eq!(which(), None);
        assert!(plant(Mutant::M7));
        assert!(!plant(Mutant::M8));
        assert!(planted(Mutant::M7) && !planted(Mutant::M8));
    }
}
