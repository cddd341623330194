//! `hubbub-stack`: the servers behind `./dev`.
fn main() {}
