//! The one place that reads the environment.

use anyhow::{Context, Result};
use std::path::{Path, PathBuf};

/// A variable's value; empty counts as unset.
#[expect(clippy::disallowed_methods, reason = "this module is the place for it")]
#[must_use]
pub fn var(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Where jars and templates are kept between runs, outside the checkout:
/// `${XDG_CACHE_HOME:-~/.cache}/hubbub`.
///
/// # Errors
/// When neither variable is set.
pub fn cache_dir() -> Result<PathBuf> {
    let base = var("XDG_CACHE_HOME").map(PathBuf::from);
    let base = base.or_else(|| var("HOME").map(|home| Path::new(&home).join(".cache")));
    let base = base.context("neither XDG_CACHE_HOME nor HOME is set")?;
    Ok(base.join("hubbub"))
}

/// The library that gives a process another wall clock, if it is installed. Set `LD_PRELOAD` to
/// it, `FAKETIME` (`+1h`) and `FAKETIME_DONT_FAKE_MONOTONIC=1`, without which timers bend, too.
#[must_use]
pub fn faketime() -> Option<PathBuf> {
    // Debian puts it into a directory per architecture: /usr/lib/x86_64-linux-gnu/faketime.
    let per_machine = std::fs::read_dir("/usr/lib")
        .into_iter()
        .flatten()
        .flatten();
    let dirs = per_machine.map(|entry| entry.path());
    let dirs = dirs.chain(["/usr/lib", "/usr/lib64", "/usr/local/lib"].map(PathBuf::from));
    // Our programs have several threads, which is what the second one is for.
    let mut found = dirs.map(|dir| dir.join("faketime").join("libfaketimeMT.so.1"));
    found.find(|library| library.is_file())
}

/// Finds a program in PATH, and in the system directories that a user's PATH may lack.
#[must_use]
pub fn find_program(name: &str) -> Option<PathBuf> {
    let path = var("PATH").unwrap_or_default();
    let dirs = path.split(':').chain(["/usr/sbin", "/sbin"]);
    dirs.map(|dir| Path::new(dir).join(name))
        .find(|candidate| candidate.is_file())
}
