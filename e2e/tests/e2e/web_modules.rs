//! The page's own modules: its protocol, its timeline, its dashboard, without a browser.

use std::time::Duration;

use anyhow::{Context, ensure};
use tokio::{process::Command, time::timeout};

const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn modules_of_the_page_keep_their_promises() -> anyhow::Result<()> {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/../web");
    let mut command = Command::new("node");
    command
        .args(["--test", "test/"])
        .current_dir(directory)
        .kill_on_drop(true);
    let output = timeout(PATIENCE, command.output())
        .await
        .context("the tests of the page's modules hang")?
        .context("node runs the tests of the page's modules: ./dev packages installs it")?;
    ensure!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}
