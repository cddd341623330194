//! The edge of the seed's literal flow, for the comparison alone.

use clap::Parser;
use hubbub_compare::seed_flow::edge::{EdgeArgs, run};

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    run(EdgeArgs::parse()).await
}
