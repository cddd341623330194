//! The torture suite.

fn main() {}
