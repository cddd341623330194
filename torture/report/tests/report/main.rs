//! Tests of the report: exact figures of histories made by hand, a model of the recovery, and the
//! pages of a made-up run.

mod faults;
mod figures;
mod history;
mod joins;
mod model;
mod pages;
mod recovery;
mod specimen;
