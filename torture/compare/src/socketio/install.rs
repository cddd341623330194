//! Installs what the lock file pins, once, outside the checkout.

use std::{
    fmt,
    path::{Path, PathBuf},
    process::Output,
    time::Duration,
};

use anyhow::{Context, Result};
use hubbub_stack::environment::{cache_dir, find_program};
use tokio::{process::Command, time::timeout};

const FILES: [(&str, &str); 4] = [
    ("package.json", include_str!("../../socketio/package.json")),
    (
        "package-lock.json",
        include_str!("../../socketio/package-lock.json"),
    ),
    ("server.js", include_str!("../../socketio/server.js")),
    ("load.js", include_str!("../../socketio/load.js")),
];
const INSTALLATION: Duration = Duration::from_secs(120);
const VERSION: Duration = Duration::from_secs(10);
/// Written last.
const DONE: &str = ".installed";

/// Where it is, and with what it runs.
#[derive(Debug, Clone)]
pub(crate) struct Installed {
    node: PathBuf,
    dir: PathBuf,
    /// Of Node.js, for the report.
    pub(crate) node_version: String,
}

impl Installed {
    /// The command line of one of our scripts.
    pub(crate) fn command(&self, script: &str) -> Vec<String> {
        let script = self.dir.join(script);
        vec![
            self.node.display().to_string(),
            script.display().to_string(),
        ]
    }
}

/// Why socket.io cannot be had here.
#[derive(Debug, Clone)]
pub(crate) struct Absent(String);

impl fmt::Display for Absent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Installs it unless that was done before.
///
/// # Errors
/// When the scripts cannot be written. That Node.js or the packages cannot be had is no error.
pub(crate) async fn install() -> Result<std::result::Result<Installed, Absent>> {
    let (Some(node), Some(npm)) = (find_program("node"), find_program("npm")) else {
        return Ok(Err(Absent(
            "node and npm are not installed (Debian: apt-get install npm)".to_owned(),
        )));
    };
    let name = format!("socketio-{:08x}", crate::recorder::sum(FILES[1].1));
    let dir = cache_dir()?.join(name);
    std::fs::create_dir_all(&dir).with_context(|| format!("create {}", dir.display()))?;
    for (name, text) in FILES {
        let path = dir.join(name);
        std::fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
    }
    let mut ask = Command::new(&node);
    let version = run(ask.arg("--version"), VERSION).await?;
    let version = match version {
        Ok(output) => String::from_utf8_lossy(&output.stdout).trim().to_owned(),
        Err(why) => return Ok(Err(Absent(format!("node does not run: {why}")))),
    };
    let installed = Installed {
        node,
        dir: dir.clone(),
        node_version: version,
    };
    if dir.join(DONE).exists() {
        return Ok(Ok(installed));
    }
    Ok(match packages(&npm, &dir).await? {
        Ok(()) => Ok(installed),
        Err(why) => Err(Absent(format!("npm ci failed: {why}"))),
    })
}

async fn packages(npm: &Path, dir: &Path) -> Result<std::result::Result<(), String>> {
    let mut command = Command::new(npm);
    command.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"]);
    if let Err(why) = run(command.current_dir(dir), INSTALLATION).await? {
        return Ok(Err(why));
    }
    std::fs::write(dir.join(DONE), "").context("mark the installation")?;
    Ok(Ok(()))
}

/// Runs a program; what it said if it failed.
async fn run(
    command: &mut Command,
    limit: Duration,
) -> Result<std::result::Result<Output, String>> {
    let output = timeout(limit, command.kill_on_drop(true).output()).await;
    let Ok(output) = output else {
        return Ok(Err(format!("not done after {limit:?}")));
    };
    let output = output.context("start a program")?;
    if output.status.success() {
        return Ok(Ok(output));
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let last = said.lines().last().unwrap_or("it said nothing");
    Ok(Err(last.to_owned()))
}

/// The versions that `package.json` pins.
pub(crate) fn versions() -> Vec<(String, String)> {
    #[derive(serde::Deserialize)]
    struct Package {
        dependencies: std::collections::BTreeMap<String, String>,
    }
    let package: Package =
        serde_json::from_str(FILES[0].1).expect("package.json is in the source and is JSON");
    package.dependencies.into_iter().collect()
}
