//! The files of a run's directory.

use std::{
    fs::File,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use hubbub_checker::{Entry, Fault};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// What was done to the system, and when: enough to do it again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schedule {
    /// The profile.
    pub profile: String,
    /// The seed of schedule and workload.
    pub seed: u64,
    /// The faults.
    pub faults: Vec<Fault>,
}

/// A run's directory.
#[derive(Debug, Clone)]
pub struct RunDir {
    path: PathBuf,
}

impl RunDir {
    /// Makes the directory; one that holds a history already is refused.
    ///
    /// # Errors
    /// When it cannot be made, or is used.
    pub fn create(path: &Path) -> Result<Self> {
        std::fs::create_dir_all(path).with_context(|| format!("create {}", path.display()))?;
        let path = path.canonicalize().context("resolve the run's directory")?;
        let dir = Self { path };
        anyhow::ensure!(
            !dir.history().exists(),
            "{} holds a run already: choose another --dir",
            dir.path.display()
        );
        Ok(dir)
    }

    /// The directory of a saved run.
    ///
    /// # Errors
    /// When there is none.
    pub fn open(path: &Path) -> Result<Self> {
        let path = path
            .canonicalize()
            .with_context(|| format!("find {}", path.display()))?;
        Ok(Self { path })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// `history.jsonl`
    #[must_use]
    pub fn history(&self) -> PathBuf {
        self.path.join("history.jsonl")
    }

    /// `schedule.json`
    #[must_use]
    pub fn schedule(&self) -> PathBuf {
        self.path.join("schedule.json")
    }

    /// `run.json`
    #[must_use]
    pub fn run(&self) -> PathBuf {
        self.path.join("run.json")
    }

    /// `verdict.json`
    #[must_use]
    pub fn verdict(&self) -> PathBuf {
        self.path.join("verdict.json")
    }

    /// `logs/`
    #[must_use]
    pub fn logs(&self) -> PathBuf {
        self.path.join("logs")
    }
}

/// Writes a JSON file for people and programs.
///
/// # Errors
/// When it cannot be written.
pub fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<()> {
    let mut text = serde_json::to_string_pretty(value).context("encode JSON")?;
    text.push('\n');
    std::fs::write(path, text).with_context(|| format!("write {}", path.display()))
}

/// Reads a JSON file.
///
/// # Errors
/// When it is not there, or is another one.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let text = std::fs::read(path).with_context(|| format!("read {}", path.display()))?;
    serde_json::from_slice(&text).with_context(|| format!("parse {}", path.display()))
}

/// Reads a history, sorted by time (those who wrote it took care already).
///
/// # Errors
/// When the file cannot be read, or a line is none of a history; the error names it. A last line
/// without an end is dropped: the run was cut off there.
pub fn read_history(path: &Path) -> Result<Vec<Entry>> {
    let file = File::open(path).with_context(|| format!("open {}", path.display()))?;
    let mut reader = BufReader::with_capacity(1024 * 1024, file);
    let (mut entries, mut line, mut number) = (Vec::new(), String::new(), 0_u64);
    loop {
        line.clear();
        let read = reader.read_line(&mut line).context("read the history")?;
        number += 1;
        if read == 0 || !line.ends_with('\n') {
            break;
        }
        let entry: Entry = serde_json::from_str(&line)
            .with_context(|| format!("{} line {number}", path.display()))?;
        entries.push(entry);
    }
    entries.sort_by_key(|entry| entry.at_us);
    Ok(entries)
}

/// Copies the logs of the processes.
///
/// # Errors
/// When one cannot be copied.
pub fn copy_logs(logs: &[(String, PathBuf)], to: &Path) -> Result<()> {
    std::fs::create_dir_all(to).with_context(|| format!("create {}", to.display()))?;
    for (name, path) in logs {
        // A process that never started has written none.
        if path.exists() {
            std::fs::copy(path, to.join(format!("{name}.log")))
                .with_context(|| format!("copy the log of {name}"))?;
        }
    }
    Ok(())
}
