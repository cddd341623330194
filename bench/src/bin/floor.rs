//! Bare programs; see `hubbub_bench::floor`.

use clap::Parser as _;
use hubbub_bench::floor::{Args, run};

fn main() -> anyhow::Result<()> {
    run(Args::parse())
}
