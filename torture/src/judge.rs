//! Holds a saved run against the contract, and writes what came of it.

use anyhow::Result;
use hubbub_checker::Verdict;
use hubbub_torture_report::Run;

use crate::files::{RunDir, read_history, read_json, write_json};

/// Reads the history of a run, checks it, and writes verdict and reports.
///
/// # Errors
/// When a file of the run cannot be read or written.
pub fn judge(dir: &RunDir) -> Result<Verdict> {
    let run: Run = read_json(&dir.run())?;
    let entries = read_history(&dir.history())?;
    let verdict = hubbub_checker::check(entries.iter().cloned());
    write_json(&dir.verdict(), &verdict)?;
    let measures = hubbub_torture_report::measure(&entries);
    hubbub_torture_report::write(dir.path(), &run, &measures, &verdict, &entries)?;
    Ok(verdict)
}
