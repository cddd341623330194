//! Installs what the lock file pins, once, outside the checkout.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, anyhow};
use hubbub_stack::environment::{cache_dir, find_program};
use tokio::{process::Command, time::timeout};
use uuid::Uuid;

use super::{Unavailable, programs};

const FILES: [(&str, &str); 5] = [
    ("package.json", include_str!("../../peers/package.json")),
    (
        "package-lock.json",
        include_str!("../../peers/package-lock.json"),
    ),
    ("ws.js", include_str!("../../peers/ws.js")),
    ("socketio.js", include_str!("../../peers/socketio.js")),
    ("express.js", include_str!("../../peers/express.js")),
];
const INSTALLATION: Duration = Duration::from_secs(180);
/// Written last.
const DONE: &str = ".installed";

/// Where it is, and with what it runs.
#[derive(Debug)]
pub(super) struct Installed {
    node: PathBuf,
    node_version: String,
    dir: PathBuf,
}

impl Installed {
    /// The command line of one of our scripts.
    pub(super) fn command(&self, script: &str) -> Vec<String> {
        let script = self.dir.join(script);
        vec![
            self.node.display().to_string(),
            script.display().to_string(),
        ]
    }

    /// `ws 8.23.0, Node.js v20.20.2`.
    pub(super) fn version(&self, packages: &[&str]) -> String {
        let mut words: Vec<String> = packages.iter().map(|name| pinned(name)).collect();
        words.push(format!("Node.js {}", self.node_version));
        words.join(", ")
    }
}

/// Installs it unless that was done before.
pub(super) async fn install() -> Result<Installed, Unavailable> {
    let (Some(node), Some(npm)) = (find_program("node"), find_program("npm")) else {
        return Err(Unavailable::absent(
            "node and npm are not installed (Debian: apt-get install npm)",
        ));
    };
    // One directory for each set of files: another checkout's version has another.
    let text: String = FILES.iter().map(|(_, text)| *text).collect();
    let name = Uuid::new_v5(&Uuid::NAMESPACE_OID, text.as_bytes()).simple();
    let dir = cache_dir()?.join(format!("bench-peers-{name}"));
    std::fs::create_dir_all(&dir).with_context(|| format!("create {}", dir.display()))?;
    // Two who start a peer at the same time: the second one waits and finds it installed.
    let lock = programs::lock(&dir.join("lock")).await?;
    for (name, text) in FILES {
        let path = dir.join(name);
        std::fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
    }
    let version = programs::says(&node, &["--version"]).await;
    let version = version.map_err(|why| anyhow!("node does not run: {why}"))?;
    let installed = Installed {
        node,
        node_version: version,
        dir,
    };
    if installed.dir.join(DONE).exists() {
        return Ok(installed);
    }
    // A machine without a way to the registry is not a mistake.
    let packages = packages(&npm, &installed.dir).await;
    packages.map_err(|why| Unavailable::absent(format!("npm ci failed: {why}")))?;
    std::fs::write(installed.dir.join(DONE), "").context("mark the installation")?;
    drop(lock);
    Ok(installed)
}

async fn packages(npm: &Path, dir: &Path) -> Result<(), String> {
    let mut command = Command::new(npm);
    command.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"]);
    let output = command.current_dir(dir).kill_on_drop(true).output();
    let output = match timeout(INSTALLATION, output).await {
        Ok(output) => output.map_err(|error| error.to_string())?,
        Err(_) => return Err(format!("not done after {INSTALLATION:?}")),
    };
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(said.lines().last().unwrap_or("it said nothing").to_owned())
}

/// A package with the version that `package.json` pins.
fn pinned(name: &str) -> String {
    #[derive(serde::Deserialize)]
    struct Package {
        dependencies: std::collections::BTreeMap<String, String>,
    }
    let package: Package =
        serde_json::from_str(FILES[0].1).expect("package.json is in the source and is JSON");
    let version = package.dependencies.get(name);
    format!("{name} {}", version.expect("what is named is pinned"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_named_is_what_is_locked() {
        let lock: serde_json::Value = serde_json::from_str(FILES[1].1).unwrap();
        for name in [
            "ws",
            "socket.io",
            "@socket.io/redis-adapter",
            "express",
            "pg",
        ] {
            let locked = &lock["packages"][format!("node_modules/{name}")];
            let version = locked["version"].as_str().unwrap();
            assert_eq!(pinned(name), format!("{name} {version}"));
            assert!(locked["integrity"].is_string(), "{name} has a checksum");
        }
    }
}
