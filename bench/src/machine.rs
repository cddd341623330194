//! The machine, and who else used it.

use crate::process::{Meter, Whose};
use anyhow::{Context, Result};
use nix::sys::utsname::uname;
use serde::{Deserialize, Serialize};
use std::fs;
use tokio::time::Instant;

/// Where it was measured.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// Cores that may be used.
    pub cores: usize,
    /// As `/proc/cpuinfo` calls it.
    pub processor: String,
    /// In GiB, rounded.
    pub memory_gib: u64,
    /// Its release.
    pub kernel: String,
    /// Of the compiler.
    pub rustc: String,
}

impl Machine {
    /// This one.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub fn this() -> Result<Self> {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").context("read /proc/cpuinfo")?;
        let value = |text: &str, key: &str| {
            let line = text.lines().find(|line| line.starts_with(key))?;
            Some(line.split_once(':')?.1.trim().to_owned())
        };
        let meminfo = fs::read_to_string("/proc/meminfo").context("read /proc/meminfo")?;
        let total = value(&meminfo, "MemTotal").unwrap_or_default();
        let kib: u64 = total
            .trim_end_matches(" kB")
            .parse()
            .context("read the size of the memory")?;
        let release = uname().context("ask for the kernel's name")?;
        let rustc = std::process::Command::new("rustc")
            .arg("--version")
            .output()
            .map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
        Ok(Self {
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            processor: value(&cpuinfo, "model name").unwrap_or_default(),
            memory_gib: (kib + (1 << 19)) >> 20,
            kernel: release.release().to_string_lossy().into_owned(),
            // Whoever runs built programs may have no compiler.
            rustc: rustc.unwrap_or_default(),
        })
    }
}

/// Which core is whose: the measured programs have one to themselves.
#[derive(Debug, Clone, Copy, Default)]
pub struct Cores {
    /// What is measured.
    pub server: Option<usize>,
    /// The client, and every server that is not measured.
    pub client: Option<usize>,
}

impl Cores {
    /// The last core for what is measured; nothing is pinned where there is only one.
    #[must_use]
    pub fn of(cores: usize) -> Self {
        if cores < 2 {
            return Self::default();
        }
        Self {
            server: Some(cores - 1),
            client: Some(cores - 2),
        }
    }
}

/// Counts what the machine does that is none of ours.
#[derive(Debug)]
pub struct Strangers {
    begun: Instant,
    busy_ns: u64,
    ours: Meter,
}

impl Strangers {
    /// Begins to count.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub fn watch() -> Result<Self> {
        Ok(Self {
            begun: Instant::now(),
            busy_ns: busy_ns()?,
            ours: Meter::start(&[Whose::Family(std::process::id())])?,
        })
    }

    /// Cores that were busy with something else since then, on average.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub fn cores(&self) -> Result<f64> {
        let busy = busy_ns()?.saturating_sub(self.busy_ns);
        let others = busy.saturating_sub(self.ours.used()?.total_ns());
        Ok(others as f64 / self.begun.elapsed().as_nanos().max(1) as f64)
    }
}

/// Of all cores, since the start of the machine (proc(5): user, nice, system, irq, softirq, steal;
/// in hundredths of a second).
fn busy_ns() -> Result<u64> {
    let stat = fs::read_to_string("/proc/stat").context("read /proc/stat")?;
    let first = stat.lines().next().unwrap_or_default();
    let fields: Vec<u64> = first
        .split_whitespace()
        .skip(1)
        .filter_map(|field| field.parse().ok())
        .collect();
    anyhow::ensure!(fields.len() >= 8, "/proc/stat: {first}");
    let ticks = fields[0] + fields[1] + fields[2] + fields[5] + fields[6] + fields[7];
    Ok(ticks * 10_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_a_name_and_memory() {
        let machine = Machine::this().expect("a machine");
        assert!(machine.cores > 0 && machine.memory_gib > 0);
        assert!(!machine.kernel.is_empty());
    }

    #[test]
    fn a_single_core_is_not_divided() {
        assert!(Cores::of(1).server.is_none());
        let two = Cores::of(2);
        assert_eq!((two.client, two.server), (Some(0), Some(1)));
    }
}
