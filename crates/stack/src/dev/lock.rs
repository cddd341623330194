//! One supervisor per data directory.

use super::state::is_supervisor;
use anyhow::{Context, Result};
use std::fs::File;
use std::io::Write;
use std::path::Path;

/// Held by the supervisor until its process ends, however that happens. The file has its id, so
/// that it can be asked to stop while it still starts.
#[derive(Debug)]
pub(super) struct Lock {
    file: File,
}

impl Lock {
    /// `None` if another process holds it.
    pub(super) fn take(dir: &Path) -> Result<Option<Self>> {
        let file = open(dir)?;
        Ok(file.try_lock().is_ok().then_some(Self { file }))
    }

    /// Writes down who holds it.
    pub(super) fn sign(&self) -> Result<()> {
        self.file.set_len(0).context("empty the lock")?;
        write!(&self.file, "{}", std::process::id()).context("sign the lock")
    }

    /// The process that holds it now.
    pub(super) fn holder(dir: &Path) -> Option<u32> {
        let free = open(dir).ok()?.try_lock().is_ok();
        let signed = std::fs::read_to_string(dir.join("lock")).ok()?;
        let pid = signed.parse().ok()?;
        (!free && is_supervisor(pid)).then_some(pid)
    }
}

fn open(dir: &Path) -> Result<File> {
    let mut options = File::options();
    options.create(true).truncate(false).write(true);
    options
        .open(dir.join("lock"))
        .context("open the stack's lock")
}
