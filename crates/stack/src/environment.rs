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

/// Finds a program in PATH, and in the system directories that a user's PATH may lack.
#[must_use]
pub fn find_program(name: &str) -> Option<PathBuf> {
    let path = var("PATH").unwrap_or_default();
    let dirs = path.split(':').chain(["/usr/sbin", "/sbin"]);
    dirs.map(|dir| Path::new(dir).join(name))
        .find(|candidate| candidate.is_file())
}
