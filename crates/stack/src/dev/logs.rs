//! `./dev logs`

use super::screen::say;
use super::state::State;
use anyhow::{Context, Result, bail};
use clap::Args;
use hubbub_stack::process::tail;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;
use tokio::time::sleep;

const POLL: Duration = Duration::from_millis(100);

#[derive(Debug, Args)]
pub(crate) struct LogsArgs {
    /// Whose log: edge-1, kafka, core, …; all of them if absent.
    name: Option<String>,
    /// Lines from the end.
    #[arg(short = 'n', long, default_value_t = 20)]
    lines: usize,
    /// Go on as the log grows, until Ctrl-C.
    #[arg(short, long, requires = "name")]
    follow: bool,
}

pub(crate) async fn run(dir: &Path, args: LogsArgs) -> Result<ExitCode> {
    let logs = find(dir)?;
    let Some(name) = &args.name else {
        for (name, log) in logs {
            say(format_args!("== {name} ({})", log.display()));
            tail(&log, args.lines).iter().for_each(say);
        }
        return Ok(ExitCode::SUCCESS);
    };
    let Some((_, log)) = logs.iter().find(|(known, _)| known == name) else {
        let names: Vec<&str> = logs.iter().map(|(name, _)| name.as_str()).collect();
        bail!("no log of {name:?}; there are: {}", names.join(", "));
    };
    let mut offset = log.metadata().map_or(0, |m| m.len());
    tail(log, args.lines).iter().for_each(say);
    if !args.follow {
        return Ok(ExitCode::SUCCESS);
    }
    loop {
        sleep(POLL).await;
        offset = print_from(log, offset)?;
    }
}

/// Name and path of every log: also after a stop, when they are most wanted.
fn find(dir: &Path) -> Result<Vec<(String, PathBuf)>> {
    let mut logs = Vec::new();
    if let Some(state) = State::read(dir) {
        logs.extend(state.parts.into_iter().map(|part| (part.name, part.log)));
    }
    let mut folders = vec![dir.to_owned()];
    let entries = std::fs::read_dir(dir).with_context(|| format!("list {}", dir.display()))?;
    folders.extend(
        entries
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| path.is_dir()),
    );
    for folder in folders {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        for path in entries.map(|entry| entry.path()) {
            let name = path
                .file_stem()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            let is_log = path.extension().is_some_and(|ext| ext == "log");
            if is_log && !logs.iter().any(|(known, _)| *known == name) {
                logs.push((name, path));
            }
        }
    }
    logs.sort();
    Ok(logs)
}

fn print_from(path: &Path, offset: u64) -> Result<u64> {
    let mut file = File::open(path).context("open the log")?;
    // A log that got shorter was begun anew.
    let start = offset.min(file.metadata().context("read the log's length")?.len());
    file.seek(SeekFrom::Start(start))
        .context("seek in the log")?;
    let mut bytes = Vec::new();
    let n = file.read_to_end(&mut bytes).context("read the log")?;
    std::io::stdout()
        .write_all(&bytes)
        .context("write to the terminal")?;
    Ok(start + n as u64)
}
