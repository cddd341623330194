//! Whole systems for the end-to-end tests: real servers, our binaries, people with devices.
//!
//! Each test has a system of its own, in a directory of its own, and they run one after another:
//! two cores are not enough for several Kafkas and an honest deadline.

mod browser;
mod device;
mod world;

pub use browser::{Browser, ENTER, ESCAPE, UP};
pub use device::{Device, Heard};
pub use world::{MARGIN, World, eventually};
