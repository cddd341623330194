//! Data directories. `initdb` takes seconds, a copy of its result a fraction of one.

use super::own;
use crate::environment::cache_dir;
use crate::process::RunAs;
use anyhow::{Context, Result, bail};
use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Makes `home/data` if it is not there and says where it really is: a directory that the
/// server's user may not enter (a checkout under /root) is replaced by one in /var/tmp, with a
/// symbolic link in its place.
pub(super) fn prepare(bin: &Path, run_as: Option<RunAs>, home: &Path) -> Result<PathBuf> {
    std::fs::create_dir_all(home).with_context(|| format!("create {}", home.display()))?;
    let home = home.canonicalize().context("resolve the data directory")?;
    let link = home.join("data");
    if let Ok(target) = link.read_link() {
        if target.join("PG_VERSION").exists() {
            return Ok(target);
        }
        std::fs::remove_file(&link).context("remove a link to data that is gone")?;
    }
    let data = if may_enter(&home, run_as)? {
        link
    } else {
        let elsewhere = substitute(&home);
        if elsewhere.exists() {
            std::fs::remove_dir_all(&elsewhere)
                .with_context(|| format!("remove the unlinked {}", elsewhere.display()))?;
        }
        std::os::unix::fs::symlink(&elsewhere, &link).context("link to the data directory")?;
        elsewhere
    };
    if !data.join("PG_VERSION").exists() {
        let template = template(bin)?;
        copy(&template, &data, run_as)?;
    }
    Ok(data)
}

/// Removes the data of a cluster, wherever it is.
pub(super) fn remove(home: &Path) -> Result<()> {
    if let Ok(target) = home.join("data").read_link()
        && target.exists()
    {
        std::fs::remove_dir_all(&target).with_context(|| format!("remove {}", target.display()))?;
    }
    if home.exists() {
        std::fs::remove_dir_all(home).with_context(|| format!("remove {}", home.display()))?;
    }
    Ok(())
}

fn may_enter(dir: &Path, run_as: Option<RunAs>) -> Result<bool> {
    let Some(RunAs { uid, gid }) = run_as else {
        return Ok(true);
    };
    let status = Command::new("setpriv")
        .args([format!("--reuid={uid}"), format!("--regid={gid}")])
        .args(["--clear-groups", "--", "test", "-x"])
        .arg(dir)
        .status()
        .context("run setpriv")?;
    Ok(status.success())
}

fn substitute(home: &Path) -> PathBuf {
    let mut hasher = DefaultHasher::new();
    home.hash(&mut hasher);
    Path::new("/var/tmp").join(format!("hubbub-{:016x}", hasher.finish()))
}

/// An initialised data directory per Postgres version, made once under a file lock.
fn template(bin: &Path) -> Result<PathBuf> {
    let version = Command::new(bin.join("postgres")).arg("--version").output();
    let version = version.context("run postgres --version")?.stdout;
    let version = String::from_utf8_lossy(&version).replace(|c: char| !c.is_alphanumeric(), "-");
    let cache = cache_dir()?;
    std::fs::create_dir_all(&cache).with_context(|| format!("create {}", cache.display()))?;
    let name = version.trim_matches('-').to_owned();
    let template = cache.join(&name);
    let lock = File::create(cache.join(format!("{name}.lock"))).context("open a lock file")?;
    lock.lock().context("wait for another initdb")?;
    if !template.join("PG_VERSION").exists() {
        initdb(bin, &template)?;
    }
    Ok(template)
}

/// Runs in a directory of its own below /tmp, which every user may enter, and moves the result.
fn initdb(bin: &Path, template: &Path) -> Result<()> {
    let run_as = super::unprivileged()?;
    let scratch = tempfile::Builder::new()
        .prefix("hubbub-initdb-")
        .tempdir()?;
    own(scratch.path(), run_as)?;
    let data = scratch.path().join("data");
    let mut command = Command::new("setpriv");
    if let Some(RunAs { uid, gid }) = run_as {
        command.args([format!("--reuid={uid}"), format!("--regid={gid}")]);
        command.arg("--clear-groups");
    }
    command
        .arg("--")
        .arg(bin.join("initdb"))
        .arg("-D")
        .arg(&data);
    command.args(["-U", "postgres", "-A", "trust", "-E", "UTF8"]);
    command.args(["--locale=C.UTF-8", "--data-checksums", "--no-instructions"]);
    command.current_dir("/");
    let output = command.output().context("run initdb")?;
    if !output.status.success() {
        bail!("initdb failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    copy(&data, template, None)
}

/// Copies a data directory beside its target and renames it, so that a half copy is never used.
fn copy(from: &Path, to: &Path, run_as: Option<RunAs>) -> Result<()> {
    let part = to.with_extension("part");
    if part.exists() {
        std::fs::remove_dir_all(&part).context("remove a half copy")?;
    }
    let copied = Command::new("cp").arg("-r").arg(from).arg(&part).output();
    let copied = copied.context("run cp")?;
    if !copied.status.success() {
        bail!(
            "copy the data directory: {}",
            String::from_utf8_lossy(&copied.stderr)
        );
    }
    if let Some(RunAs { uid, gid }) = run_as {
        let owner = format!("{uid}:{gid}");
        let owned = Command::new("chown")
            .args(["-R", &owner])
            .arg(&part)
            .status();
        if !owned.context("run chown")?.success() {
            bail!("give {} to the server's user", part.display());
        }
    }
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    std::fs::set_permissions(&part, private).context("make the data directory private")?;
    std::fs::rename(&part, to).with_context(|| format!("move into {}", to.display()))
}
