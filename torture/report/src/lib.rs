//! Turns a recorded and judged run into figures and pages: `report.json` for programs,
//! `report.md` for a reader who has a minute, `timeline.html` and `timeline.svg` for one who wants
//! to see what happened when.
//!
//! It judges nothing: what is broken is the checker's word. It promises that every figure can be
//! computed again from the history, that a figure which was not measured is left out and not 0,
//! and that no text of a history becomes markup.

mod assertions;
mod chart;
mod escape;
mod html;
mod markdown;
mod measure;
pub mod measures;
mod mutants;
mod quantiles;
mod report;
mod run;
mod units;
mod words;

pub use measure::measure;
pub use measures::Measures;
pub use mutants::{MutantOutcome, mutants_table};
pub use quantiles::Quantiles;
pub use report::{Bound, Report, Swapped, Target, write};
pub use run::Run;
