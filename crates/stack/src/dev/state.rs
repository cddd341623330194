//! What runs, in a file: written by the supervisor, read by the other commands.

use anyhow::{Context, Result};
use hubbub_stack::{Endpoints, Ready, Role, Server, Stack};
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// One server of the stack.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Part {
    pub(crate) name: String,
    /// 0 while it is down.
    pub(crate) pid: u32,
    /// Where its clients connect; a consumer has none.
    pub(crate) addr: Option<SocketAddr>,
    pub(crate) log: PathBuf,
    /// How to ask whether it is ready, which for our own programs is another port.
    pub(crate) ready: Ready,
}

/// A running stack. It is there only while its supervisor is.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct State {
    pub(crate) supervisor: u32,
    pub(crate) bin_dir: PathBuf,
    pub(crate) endpoints: Endpoints,
    pub(crate) parts: Vec<Part>,
}

impl State {
    pub(crate) fn of(stack: &Stack) -> Self {
        let parts = stack.servers().into_iter().map(|server| Part {
            name: server.name(),
            pid: server.pid().unwrap_or(0),
            addr: client_addr(stack, server),
            log: server.log_path(),
            ready: server.ready().clone(),
        });
        Self {
            supervisor: std::process::id(),
            bin_dir: stack.bin_dir().to_owned(),
            endpoints: stack.endpoints().clone(),
            parts: parts.collect(),
        }
    }

    /// Written beside and renamed, so that a reader never sees half of it.
    pub(crate) fn write(&self, dir: &Path) -> Result<()> {
        let part = dir.join("state.json.part");
        let json = serde_json::to_vec_pretty(self).context("spell the state")?;
        std::fs::write(&part, json).context("write the state")?;
        std::fs::rename(&part, path(dir)).context("replace the state")
    }

    /// The stack that runs in `dir`. A state whose supervisor is gone is none.
    pub(crate) fn read(dir: &Path) -> Option<Self> {
        let json = std::fs::read(path(dir)).ok()?;
        let state: Self = serde_json::from_slice(&json).ok()?;
        is_supervisor(state.supervisor).then_some(state)
    }

    /// The same, or an error that says what to do.
    pub(crate) fn required(dir: &Path) -> Result<Self> {
        Self::read(dir).context("nothing runs here: start it with `./dev up`")
    }

    pub(crate) fn forget(dir: &Path) {
        // Without its supervisor the file means nothing anyway.
        std::fs::remove_file(path(dir)).ok();
    }
}

fn client_addr(stack: &Stack, server: &Server) -> Option<SocketAddr> {
    let mut services = stack
        .edges()
        .iter()
        .chain(stack.apis())
        .chain(stack.consumers());
    let name = server.name();
    match services.find(|service| service.name() == name) {
        Some(service) if service.role() == Role::Consumer => None,
        Some(service) => Some(service.addr()),
        None if name == stack.haproxy().name() => Some(stack.haproxy().front()),
        None => Some(server.ready().addr()),
    }
}

fn path(dir: &Path) -> PathBuf {
    dir.join("state.json")
}

/// Whether the process is one of ours: its number may be a stranger's by now.
pub(crate) fn is_supervisor(pid: u32) -> bool {
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let mut words = line.split(|&byte| byte == 0);
    words
        .next()
        .is_some_and(|program| program.ends_with(b"hubbub-stack"))
}
