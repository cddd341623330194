//! Counts of system calls, by `strace` where it is installed.

use anyhow::{Context, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::collections::BTreeMap;
use std::future::Future;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;
use tokio::time::timeout;

/// To attach to all threads, and to write the table at the end.
const STRACE: Duration = Duration::from_secs(10);

/// Calls by name.
pub type Syscalls = BTreeMap<String, u64>;

/// What a future returned, and the system calls of a process, all its threads, while it ran;
/// `None` where there is no `strace`. The process is slowed: nothing that is timed may run.
///
/// # Errors
/// When `strace` may not look at the process, or the future fails.
pub async fn count_syscalls<T>(
    pid: u32,
    dir: &Path,
    during: impl Future<Output = Result<T>>,
) -> Result<(T, Option<Syscalls>)> {
    let table = dir.join(format!("strace-{pid}"));
    let mut command = Command::new("strace");
    command
        .args(["-c", "-f", "-U", "name,calls", "-o"])
        .arg(&table)
        .args(["-p", &pid.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Ok((during.await?, None));
        }
        Err(error) => return Err(error).context("start strace"),
    };
    let stderr = child.stderr.take().context("strace's messages")?;
    let mut lines = BufReader::new(stderr).lines();
    let first = timeout(STRACE, lines.next_line()).await;
    let first = first.context("strace says nothing")??.unwrap_or_default();
    anyhow::ensure!(first.contains("attached"), "strace: {first}");
    let result = during.await;
    let strace = child.id().context("strace ended by itself")?;
    kill(Pid::from_raw(strace.cast_signed()), Signal::SIGINT).context("end strace")?;
    timeout(STRACE, child.wait())
        .await
        .context("strace does not end")??;
    let text = std::fs::read_to_string(&table).context("read strace's table")?;
    Ok((result?, Some(parse(&text))))
}

fn parse(table: &str) -> Syscalls {
    let rows = table.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let (name, calls) = (words.next()?, words.next()?);
        Some((name.to_owned(), calls.parse().ok()?))
    });
    rows.filter(|(name, _)| name != "total").collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_is_read_without_its_sum() {
        let table = "syscall              calls\n---------------- ---------\nwritev \
                     123\nread                     7\n---------------- ---------\ntotal 130\n";
        let calls = parse(table);
        let expected = [("read".to_owned(), 7), ("writev".to_owned(), 123)];
        assert_eq!(calls.into_iter().collect::<Vec<_>>(), expected);
    }
}
