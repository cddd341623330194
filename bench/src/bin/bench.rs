//! See the crate's documentation.

fn main() {}
