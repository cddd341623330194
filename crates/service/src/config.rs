//! Helps a binary to read its configuration: all mistakes are reported together, with exit code
//! 64, before a port is bound.
use std::{
    fmt::{self, Display},
    process::ExitCode,
    str::FromStr,
};

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Exit code of a process whose command line or environment is wrong (`EX_USAGE` of sysexits).
pub const EXIT_CONFIG: u8 = 64;

/// Parses the command line and the environment. `Err` is the exit code for `main`: 64 after a
/// mistake, 0 after `--help` and `--version`; clap's text has been printed.
pub fn parse<C: clap::Parser>() -> Result<C, ExitCode> {
    C::try_parse().map_err(|error| {
        let failed = error.use_stderr();
        // Nobody is left to tell when even stderr is closed.
        error.print().ok();
        ExitCode::from(if failed { EXIT_CONFIG } else { 0 })
    })
}

/// Splits a comma-separated list and parses each entry. Spaces around entries and empty entries
/// are dropped; `Err` names the entry at fault.
pub fn parse_list<T>(text: &str) -> Result<Vec<T>, String>
where
    T: FromStr,
    T::Err: Display,
{
    text.split(',')
        .map(str::trim)
        .filter(|entry| !entry.is_empty())
        .map(|entry| entry.parse().map_err(|error| format!("`{entry}`: {error}")))
        .collect()
}

/// Collects the mistakes of a configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mistakes {
    found: Vec<String>,
}

impl Mistakes {
    /// None so far.
    pub fn new() -> Self {
        Self::default()
    }

    /// Notes one. `option` is the flag or variable as the user writes it.
    pub fn add(&mut self, option: &str, mistake: impl Display) {
        self.found.push(format!("{option}: {mistake}"));
    }

    /// Notes one unless `holds`.
    pub fn require(&mut self, holds: bool, option: &str, mistake: impl Display) {
        if !holds {
            self.add(option, mistake);
        }
    }

    /// Unwraps a result, or notes its error (anyhow's with its causes) and goes on without it.
    pub fn take<T, E: Display>(&mut self, option: &str, result: Result<T, E>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(error) => {
                self.add(option, format_args!("{error:#}"));
                None
            }
        }
    }

    /// Ends the check. `Err` shows every mistake on a line of its own.
    pub fn finish(self) -> Result<(), Self> {
        if self.found.is_empty() {
            Ok(())
        } else {
            Err(self)
        }
    }

    /// Prints the mistakes to stderr (no log is set up yet) and returns the exit code 64.
    pub fn report(&self) -> ExitCode {
        eprintln!("{self}");
        ExitCode::from(EXIT_CONFIG)
    }
}

impl Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the configuration has {} mistake(s):", self.found.len())?;
        for mistake in &self.found {
            write!(f, "\n  {mistake}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Mistakes {}

/// Why a process may not open as many files as it needs.
#[derive(Debug, thiserror::Error)]
pub enum NofileError {
    /// The hard limit is too low, and only its owner can raise it.
    #[error("{needed} open files are needed and {hard} are allowed: raise `ulimit -Hn`")]
    TooLow {
        /// What the process needs.
        needed: u64,
        /// The hard limit.
        hard: u64,
    },
    /// The system refused to tell or to set the limit.
    #[error("read or set the limit of open files: {0}")]
    System(#[from] nix::Error),
}

/// Raises the soft limit of open files to the hard one and checks that `needed` fit. Returns the
/// limit now in force.
pub fn check_nofile(needed: u64) -> Result<u64, NofileError> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if hard < needed {
        return Err(NofileError::TooLow { needed, hard });
    }
    if soft < hard {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    }
    Ok(hard)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn list_entries_are_trimmed_and_the_bad_one_is_named() {
        assert_eq!(parse_list::<u16>(" 1,2 ,, 3"), Ok(vec![1, 2, 3]));
        assert_eq!(parse_list::<u16>(""), Ok(vec![]));
        let error = parse_list::<u16>("1,x,3").expect_err("x is no number");
        assert!(error.starts_with("`x`: "), "{error}");
    }

    #[test]
    fn all_mistakes_are_reported_together() {
        let mut mistakes = Mistakes::new();
        assert_eq!(mistakes.take("--a", Ok::<_, String>(1)), Some(1));
        assert_eq!(mistakes.take("--b", Err::<u8, _>("is missing")), None);
        mistakes.require(true, "--c", "unused");
        mistakes.require(false, "--d", "must be above 0");
        let error = mistakes.finish().expect_err("two mistakes");
        assert_eq!(
            error.to_string(),
            "the configuration has 2 mistake(s):\n  --b: is missing\n  --d: must be above 0"
        );
        assert_eq!(Mistakes::new().finish(), Ok(()));
    }

    #[test]
    fn file_limit_is_raised_to_the_hard_one_and_checked() {
        let limit = check_nofile(16).expect("16 files");
        let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("readable");
        assert_eq!((soft, hard), (limit, limit));
        if hard < u64::MAX {
            let error = check_nofile(hard + 1).expect_err("above the hard limit");
            assert!(error.to_string().contains("ulimit -Hn"), "{error}");
        }
    }
}
