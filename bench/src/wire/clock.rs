//! Time and CPU time of this process.

use std::{ops::Sub, time::Duration};

use anyhow::Context;
use nix::{
    sched::{CpuSet, sched_setaffinity},
    sys::resource::{Resource, UsageWho, getrlimit, getrusage, setrlimit},
    time::{ClockId, clock_gettime},
    unistd::Pid,
};

/// Nanoseconds of the monotonic clock: the same for every process of this machine.
pub fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("Linux has a monotonic clock");
    u64::try_from(Duration::from(now).as_nanos()).expect("uptime is below five hundred years")
}

/// CPU time that this process has used, in nanoseconds (the kernel counts in microseconds).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CpuTime {
    /// In our own code.
    pub user_ns: u64,
    /// In the kernel on our behalf.
    pub system_ns: u64,
}

impl CpuTime {
    /// Of all threads of this process until now.
    pub fn now() -> Self {
        let usage = getrusage(UsageWho::RUSAGE_SELF).expect("a process may ask for its own usage");
        let ns = |time: nix::sys::time::TimeVal| {
            let us = time.tv_sec() * 1_000_000 + time.tv_usec();
            u64::try_from(us).expect("CPU time is positive") * 1_000
        };
        Self {
            user_ns: ns(usage.user_time()),
            system_ns: ns(usage.system_time()),
        }
    }
}

impl Sub for CpuTime {
    type Output = Self;

    fn sub(self, earlier: Self) -> Self {
        Self {
            user_ns: self.user_ns - earlier.user_ns,
            system_ns: self.system_ns - earlier.system_ns,
        }
    }
}

/// Binds this thread, and every one that it starts, to one core.
pub fn pin(cpu: usize) -> anyhow::Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu).with_context(|| format!("core {cpu}"))?;
    sched_setaffinity(Pid::from_raw(0), &set).with_context(|| format!("pin to core {cpu}"))
}

/// Takes as many files as the system lets this process have, and says how many.
pub fn raise_file_limit() -> anyhow::Result<u64> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).context("read the file limit")?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).context("raise the file limit")?;
    Ok(hard)
}
