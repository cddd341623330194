//! The epoll load client; see `hubbub_bench::load`.

use clap::Parser as _;
use hubbub_bench::load::{Args, run};

fn main() -> anyhow::Result<()> {
    run(&Args::parse())
}
