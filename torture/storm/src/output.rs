//! Where results go.

use std::path::Path;

use anyhow::Context;
use serde::Serialize;

/// A line of progress, beside the results.
pub(crate) fn say(what: &str) {
    eprintln!("  {what}");
}

/// Which build measures: the servers beside it are of the same.
pub(crate) fn build() -> &'static str {
    if cfg!(debug_assertions) {
        "debug"
    } else {
        "release"
    }
}

/// Writes `report` as JSON and says where.
pub(crate) fn write(dir: &Path, name: &str, report: &impl Serialize) -> anyhow::Result<()> {
    std::fs::create_dir_all(dir).with_context(|| format!("create {}", dir.display()))?;
    let path = dir.join(name);
    let json = serde_json::to_string_pretty(report)?;
    std::fs::write(&path, json + "\n").with_context(|| format!("write {}", path.display()))?;
    println!("written: {}", path.display());
    Ok(())
}
