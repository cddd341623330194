//! Directories that vanish with this process, however it ends.

use anyhow::{Context, Result};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Waits for the end of its input, which is our end, and lets our children die first: they hold
/// files below the directory.
const SCRIPT: &str = "cat >/dev/null; sleep 1; rm -rf -- \"$1\"";

/// A directory below the system's temporary one. Unlike a guard in a `static`, which is never
/// dropped, it is removed when the process ends, even by SIGKILL.
#[derive(Debug)]
pub(crate) struct ProcessDir {
    path: PathBuf,
    /// Its standard input is the leash.
    reaper: Child,
}

impl ProcessDir {
    pub(crate) fn create(prefix: &str) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix(prefix).tempdir()?;
        let enterable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(dir.path(), enterable)?;
        let path = dir.keep();
        let reaper = Command::new("sh")
            .args(["-c", SCRIPT, "reaper"])
            .arg(&path)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .context("start the reaper of a temporary directory")?;
        Ok(Self { path, reaper })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for ProcessDir {
    fn drop(&mut self) {
        self.reaper.kill().ok();
        self.reaper.wait().ok();
        // What cannot be removed is a temporary file that nobody needs.
        std::fs::remove_dir_all(&self.path).ok();
    }
}
