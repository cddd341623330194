//! `torture compare` alone.

use clap::Parser;
use hubbub_compare::CompareArgs;

#[derive(Debug, Parser)]
struct Cli {
    #[command(flatten)]
    args: CompareArgs,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let written = tracing_subscriber::fmt().with_writer(std::io::stderr);
    written.with_max_level(tracing::Level::WARN).init();
    let holds = hubbub_compare::compare(Cli::parse().args).await?;
    anyhow::ensure!(holds, "Hubbub did not hold what it promises");
    Ok(())
}
