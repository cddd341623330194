//! Mistakes that a process can be made to have, for the torture suite: the list, always, and in a
//! build with the feature `mutants` the option that plants one.
pub use hubbub_mutant::*;

/// What the log of a process says that has one.
pub const PLANTED: &str = "A MISTAKE IS PLANTED";

/// Which mistake this process has.
#[cfg(feature = "mutants")]
#[derive(Debug, Clone, clap::Args)]
pub struct MutantConfig {
    /// Plant this mistake: a build for the torture suite's own test, of no use to anybody else.
    #[arg(long, env = "HUBBUB_MUTANT")]
    pub mutant: Option<Mutant>,
}

#[cfg(feature = "mutants")]
impl MutantConfig {
    /// Plants it, and says so. Once, before anything else is begun.
    pub fn plant(&self) {
        let Some(mutant) = self.mutant else { return };
        if plant(mutant) {
            tracing::warn!(mutant = mutant.name(), "{PLANTED}: {}", mutant.sentence());
        } else {
            tracing::error!(mutant = mutant.name(), "another mistake is planted already");
        }
    }
}

#[cfg(all(test, feature = "mutants"))]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Config {
        #[command(flatten)]
        mutant: MutantConfig,
    }

    #[test]
    fn unknown_name_is_refused_with_the_list() {
        let parsed = |name: &str| Config::try_parse_from(["x", "--mutant", name]);
        assert_eq!(parsed("M7").expect("known").mutant.mutant, Some(Mutant::M7));
        for unknown in ["M12", "m7", ""] {
            let error = parsed(unknown).expect_err(unknown);
            assert!(error.use_stderr());
            let text = error.to_string();
            assert!(
                ALL.iter().all(|mutant| text.contains(mutant.name())),
                "{text}"
            );
        }
    }
}
