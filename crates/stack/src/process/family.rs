//! A process and all its descendants, from /proc. Postgres' backends leave the process group, so
//! a group signal would miss them.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// Looks until everybody has stopped. One is enough for a process that is not forking.
const ROUNDS: usize = 200;
/// A killed process is gone within milliseconds, unless it waits for a disk.
const GONE_LIMIT: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(5);

/// One process. Its number may be used again after its end, its start time may not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Member {
    pid: Pid,
    parent: i32,
    state: char,
    /// In clock ticks since boot.
    born: u64,
}

impl Member {
    fn read(pid: i32) -> Option<Self> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // "pid (comm) state ppid …": comm may contain spaces and parentheses.
        let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
        let state = fields.next()?.chars().next()?;
        let parent = fields.next()?.parse().ok()?;
        let born = fields.nth(17)?.parse().ok()?; // the 22nd of all
        Some(Self {
            pid: Pid::from_raw(pid),
            parent,
            state,
            born,
        })
    }

    /// Whether it can do nothing any more until somebody lets it.
    fn is_still(self) -> bool {
        matches!(self.state, 'T' | 't' | 'Z' | 'X')
    }

    fn is_gone(self) -> bool {
        let now = Self::read(self.pid.as_raw());
        now.is_none_or(|now| now.born != self.born || matches!(now.state, 'Z' | 'X'))
    }
}

/// `root` and all its descendants, `root` first.
fn members(root: Pid) -> Vec<Member> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let pid = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok());
        all.extend(pid.and_then(Member::read));
    }
    let mut found: Vec<Member> = all.iter().filter(|m| m.pid == root).copied().collect();
    let mut next = 0;
    while let Some(parent) = found.get(next).map(|member| member.pid.as_raw()) {
        found.extend(all.iter().filter(|member| member.parent == parent));
        next += 1;
    }
    found
}

/// Stops everybody and returns them. A parent that forks while it is being stopped does not get
/// away with it: it is over when two looks have found the same ones, all of them still.
pub(super) fn freeze(root: Pid) -> Vec<Member> {
    let mut before = Vec::new();
    for _ in 0..ROUNDS {
        let now = members(root);
        if now.iter().all(|member| member.is_still()) && now == before {
            break;
        }
        for member in now.iter().filter(|member| !member.is_still()) {
            // It may be gone by now, which is as good; likewise below.
            kill(member.pid, Signal::SIGSTOP).ok();
        }
        std::thread::yield_now();
        before = now;
    }
    before
}

/// Lets everybody go on, the youngest generation first.
pub(super) fn thaw(root: Pid) {
    for member in members(root).iter().rev() {
        kill(member.pid, Signal::SIGCONT).ok();
    }
}

/// Kills those that [`freeze`] has found. Nobody reaps the children of a frozen parent, so their
/// numbers are still theirs.
pub(super) fn kill_all(family: &[Member]) {
    for member in family {
        kill(member.pid, Signal::SIGKILL).ok();
    }
}

/// Waits until the killed are gone, with their locks and shared memory.
pub(super) async fn until_gone(family: &[Member]) {
    let deadline = Instant::now() + GONE_LIMIT;
    while !family.iter().all(|member| member.is_gone()) && Instant::now() < deadline {
        sleep(POLL).await;
    }
}
