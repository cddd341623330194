//! Statements by the installed `psql`, for tests that disturb a cluster.

use super::bin_dir;
use anyhow::{Context, Result, bail};
use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;
use tokio::process::Command;
use tokio::time::timeout;

const STATEMENT: Duration = Duration::from_secs(60);

pub(crate) async fn sql(addr: SocketAddr, database: &str, statement: &str) -> Result<String> {
    let mut command = Command::new(bin_dir()?.join("psql"));
    command.args(["--no-psqlrc", "--quiet", "--tuples-only", "--no-align"]);
    command.args(["--set", "ON_ERROR_STOP=1", "--username", "postgres"]);
    command.args(["--host", &addr.ip().to_string()]);
    command.args(["--port", &addr.port().to_string()]);
    command.args(["--dbname", database, "--command", statement]);
    command.env("PGAPPNAME", super::SQL_APPLICATION);
    command.env("PGCONNECT_TIMEOUT", "5");
    // A statement whose caller went away ends soon, and with it the locks that it holds.
    command.env("PGOPTIONS", "-c client_connection_check_interval=200ms");
    command.stdin(Stdio::null()).kill_on_drop(true);
    let output = timeout(STATEMENT, command.output())
        .await
        .with_context(|| format!("`{statement}` is not done after {STATEMENT:?}"))?
        .context("run psql")?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("`{statement}` failed: {}", said.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout)
        .trim_end()
        .to_owned())
}
