//! Figures for people: a table, a chart.

mod chart;
mod table;

pub use table::{line, table};

use crate::results::Results;
use anyhow::{Context, Result};
use std::fs;
use std::path::Path;

/// Around the table in docs/PERFORMANCE.md.
const BEGIN: &str = "<!-- table: ./dev bench --publish -->";
const END: &str = "<!-- end of the table -->";

/// Writes table and chart beside the results.
///
/// # Errors
/// When a file cannot be written.
pub fn write(results: &Results, json: &Path) -> Result<()> {
    put(&json.with_extension("md"), &table(results))?;
    put(&json.with_extension("svg"), &chart::chart(results))
}

/// The newest results in a directory: their names are dates.
///
/// # Errors
/// When there are none, or they cannot be read.
pub fn newest(dir: &Path) -> Result<Results> {
    let entries = fs::read_dir(dir).with_context(|| format!("list {}", dir.display()))?;
    let files = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let newest = files.filter(|path| path.extension().is_some_and(|e| e == "json"));
    let newest = newest
        .max()
        .with_context(|| format!("{} has no results", dir.display()))?;
    Results::read(&newest)?.context("a file that was listed is there")
}

/// Puts table and chart into the documentation.
///
/// # Errors
/// When docs/PERFORMANCE.md has no place for the table, or a file cannot be written.
pub fn publish(results: &Results, docs: &Path) -> Result<()> {
    let page = docs.join("PERFORMANCE.md");
    let text = fs::read_to_string(&page).with_context(|| format!("read {}", page.display()))?;
    put(&page, &with_table(&text, &table(results))?)?;
    put(&docs.join("performance.svg"), &chart::chart(results))
}

fn with_table(page: &str, table: &str) -> Result<String> {
    let (before, rest) = page
        .split_once(BEGIN)
        .context("the page has a begin of the table")?;
    let (_, after) = rest
        .split_once(END)
        .context("the page has an end of the table")?;
    Ok(format!(
        "{before}{BEGIN}\n\n{}\n\n{END}{after}",
        table.trim()
    ))
}

fn put(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_replaces_the_older_one() {
        let page = format!("a\n{BEGIN}\nold\n{END}\nb\n");
        let once = with_table(&page, "new\n").expect("a place");
        assert_eq!(once, format!("a\n{BEGIN}\n\nnew\n\n{END}\nb\n"));
        assert_eq!(with_table(&once, "new").expect("a place"), once);
        assert!(with_table("a page", "new").is_err());
    }
}
