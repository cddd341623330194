//! What a process used: CPU, memory, system calls.

mod syscalls;

pub use syscalls::{Syscalls, count_syscalls};

use anyhow::{Context, Result};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::{Pid, SysconfVar, sysconf};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::fs;
use std::iter::Sum;
use std::ops::Add;

/// A reading by ticks is believed over the exact one when it is larger by this many: threads that
/// ended took their exact figures with them.
const TICKS_OF_DOUBT: u64 = 3;

/// Processor time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cpu {
    /// In the program.
    pub user_ns: u64,
    /// In the kernel on its behalf; on loopback that includes the receiver's half of each send.
    pub system_ns: u64,
}

impl Cpu {
    /// Both.
    #[must_use]
    pub fn total_ns(self) -> u64 {
        self.user_ns + self.system_ns
    }
}

impl Add for Cpu {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self {
            user_ns: self.user_ns + other.user_ns,
            system_ns: self.system_ns + other.system_ns,
        }
    }
}

impl Sum for Cpu {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), Add::add)
    }
}

/// Whose CPU counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    /// One process with all its threads.
    Process(u32),
    /// A process, its descendants, and those of them that ended and were waited for: Postgres.
    Family(u32),
    /// Only the children of a process that ended and were waited for.
    Ended(u32),
}

/// A moment's reading of one [`Whose`].
#[derive(Debug, Clone, Copy, Default)]
struct Reading {
    /// Of living threads, to the nanosecond (`schedstat`).
    exact_ns: u64,
    user_ticks: u64,
    system_ticks: u64,
    /// Of children that ended.
    ended_user_ticks: u64,
    ended_system_ticks: u64,
}

/// Readings of a set of processes, to be held against a later moment.
#[derive(Debug, Clone)]
pub struct Meter {
    whose: Vec<Whose>,
    before: Vec<Reading>,
    tick_ns: u64,
}

impl Meter {
    /// Begins to count.
    ///
    /// # Errors
    /// When one of the processes does not run.
    pub fn start(whose: &[Whose]) -> Result<Self> {
        let hertz = sysconf(SysconfVar::CLK_TCK).context("ask for the clock tick")?;
        let hertz = u64::try_from(hertz.unwrap_or(100)).context("a positive clock tick")?;
        Ok(Self {
            whose: whose.to_vec(),
            before: whose.iter().map(|one| read(*one)).collect::<Result<_>>()?,
            tick_ns: 1_000_000_000 / hertz,
        })
    }

    /// What was used since the start.
    ///
    /// # Errors
    /// When one of the processes does not run any more.
    pub fn used(&self) -> Result<Cpu> {
        let pairs = self.whose.iter().zip(&self.before);
        pairs
            .map(|(one, before)| Ok(difference(*before, read(*one)?, self.tick_ns)))
            .sum()
    }
}

fn difference(before: Reading, now: Reading, tick_ns: u64) -> Cpu {
    let user_ticks = now.user_ticks.saturating_sub(before.user_ticks);
    let system_ticks = now.system_ticks.saturating_sub(before.system_ticks);
    let ended_user = now.ended_user_ticks.saturating_sub(before.ended_user_ticks);
    let ended_system = now
        .ended_system_ticks
        .saturating_sub(before.ended_system_ticks);
    let exact = now.exact_ns.saturating_sub(before.exact_ns);
    let by_ticks = (user_ticks + system_ticks) * tick_ns;
    let doubtful = by_ticks > exact + TICKS_OF_DOUBT * tick_ns;
    let total = if doubtful { by_ticks } else { exact } + (ended_user + ended_system) * tick_ns;
    // The split is sampled by ticks; the sum is exact.
    let ticks = user_ticks + system_ticks + ended_user + ended_system;
    let user_ns = match ticks {
        0 => 0,
        _ => (u128::from(total) * u128::from(user_ticks + ended_user) / u128::from(ticks)) as u64,
    };
    Cpu {
        user_ns,
        system_ns: total - user_ns,
    }
}

fn read(whose: Whose) -> Result<Reading> {
    match whose {
        Whose::Process(pid) => {
            let mut reading = reading_of(pid)?;
            (reading.ended_user_ticks, reading.ended_system_ticks) = (0, 0);
            Ok(reading)
        }
        Whose::Ended(pid) => {
            let reading = reading_of(pid)?;
            Ok(Reading {
                ended_user_ticks: reading.ended_user_ticks,
                ended_system_ticks: reading.ended_system_ticks,
                ..Reading::default()
            })
        }
        Whose::Family(pid) => {
            let mut sum = reading_of(pid)?;
            for member in descendants(pid)? {
                // It may end between the look at the list and the look at it; its parent has it.
                let Ok(one) = reading_of(member) else {
                    continue;
                };
                sum.exact_ns += one.exact_ns;
                sum.user_ticks += one.user_ticks;
                sum.system_ticks += one.system_ticks;
                sum.ended_user_ticks += one.ended_user_ticks;
                sum.ended_system_ticks += one.ended_system_ticks;
            }
            Ok(sum)
        }
    }
}

fn reading_of(pid: u32) -> Result<Reading> {
    let stat = Stat::of(pid)?;
    let mut exact_ns = 0;
    for thread in threads(pid)? {
        // A thread that ended meanwhile is in the ticks.
        let path = format!("/proc/{pid}/task/{thread}/schedstat");
        let text = fs::read_to_string(path).unwrap_or_default();
        let run = text.split_whitespace().next().unwrap_or("0");
        exact_ns += run.parse::<u64>().context("read a thread's run time")?;
    }
    Ok(Reading {
        exact_ns,
        user_ticks: stat.user_ticks,
        system_ticks: stat.system_ticks,
        ended_user_ticks: stat.ended_user_ticks,
        ended_system_ticks: stat.ended_system_ticks,
    })
}

/// Fields of `/proc/PID/stat` (proc(5)).
struct Stat {
    parent: u32,
    user_ticks: u64,
    system_ticks: u64,
    ended_user_ticks: u64,
    ended_system_ticks: u64,
}

impl Stat {
    fn of(pid: u32) -> Result<Self> {
        let path = format!("/proc/{pid}/stat");
        let text = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
        Self::parse(&text).with_context(|| format!("understand {path}"))
    }

    fn parse(text: &str) -> Option<Self> {
        // The name may hold spaces and parentheses; what follows the last one is numbers.
        let (_, numbers) = text.rsplit_once(')')?;
        let fields: Vec<&str> = numbers.split_whitespace().collect();
        // Field 3 of the manual is the first here.
        let field = |number: usize| fields.get(number - 3).and_then(|f| f.parse().ok());
        Some(Self {
            parent: u32::try_from(field(4)?).ok()?,
            user_ticks: field(14)?,
            system_ticks: field(15)?,
            ended_user_ticks: field(16)?,
            ended_system_ticks: field(17)?,
        })
    }
}

fn threads(pid: u32) -> Result<Vec<i32>> {
    let path = format!("/proc/{pid}/task");
    let entries = fs::read_dir(&path).with_context(|| format!("list {path}"))?;
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    Ok(names.filter_map(|name| name.parse().ok()).collect())
}

/// Everything below a process, by the parents that `/proc` tells.
fn descendants(root: u32) -> Result<Vec<u32>> {
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    for entry in fs::read_dir("/proc").context("list /proc")? {
        let name = entry.context("list /proc")?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        if let Ok(stat) = Stat::of(pid) {
            children.entry(stat.parent).or_default().push(pid);
        }
    }
    let mut found = Vec::new();
    let mut next = vec![root];
    while let Some(pid) = next.pop() {
        let below = children.remove(&pid).unwrap_or_default();
        found.extend(&below);
        next.extend(below);
    }
    Ok(found)
}

/// Lets a process and its descendants run on one core only, with all their threads; later threads
/// inherit it. Without a core nothing is done.
///
/// # Errors
/// When the process does not run, or the core is not there.
pub fn pin(pid: u32, core: Option<usize>) -> Result<()> {
    let Some(core) = core else { return Ok(()) };
    let family = std::iter::once(pid).chain(descendants(pid)?);
    for member in family {
        allow(member, &[core])?;
    }
    anyhow::ensure!(Stat::of(pid).is_ok(), "process {pid} does not run");
    Ok(())
}

/// Lets all threads of a process run on these cores.
///
/// # Errors
/// When one of the cores is not there.
pub fn allow(pid: u32, cores: &[usize]) -> Result<()> {
    let mut set = CpuSet::new();
    for core in cores {
        set.set(*core).context("name a core")?;
    }
    for thread in threads(pid).unwrap_or_default() {
        match sched_setaffinity(Pid::from_raw(thread), &set) {
            // It ended meanwhile.
            Ok(()) | Err(nix::errno::Errno::ESRCH) => {}
            Err(error) => {
                let what = format!("let process {pid} run on {cores:?}");
                return Err(error).context(what);
            }
        }
    }
    Ok(())
}

/// Resident memory of a process, in bytes.
///
/// # Errors
/// When it does not run.
pub fn rss_bytes(pid: u32) -> Result<u64> {
    let path = format!("/proc/{pid}/smaps_rollup");
    let text = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("Rss:"));
    let kib = line.context("no Rss")?.trim().trim_end_matches(" kB");
    Ok(kib.parse::<u64>().context("read Rss")? * 1_024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_parentheses_do_not_shift_the_fields() {
        let stat = Stat::parse("7 (a) (b c) S 3 1 1 0 -1 4194560 0 0 0 0 11 12 13 14 20 0 1");
        let stat = stat.expect("fields");
        assert_eq!(stat.parent, 3);
        let ticks = (stat.user_ticks, stat.system_ticks);
        assert_eq!(ticks, (11, 12));
        assert_eq!((stat.ended_user_ticks, stat.ended_system_ticks), (13, 14));
        assert!(Stat::parse("7 (a) S 3").is_none());
    }

    #[test]
    fn exact_time_is_split_as_the_ticks_say() {
        let tick = 10_000_000;
        let now = Reading {
            exact_ns: 100_000_000,
            user_ticks: 2,
            system_ticks: 6,
            ..Reading::default()
        };
        let used = difference(Reading::default(), now, tick);
        assert_eq!(used.user_ns, 25_000_000);
        assert_eq!(used.total_ns(), 100_000_000);
    }

    #[test]
    fn threads_and_children_that_ended_are_counted_by_ticks() {
        let tick = 10_000_000;
        let now = Reading {
            exact_ns: 5_000_000,
            user_ticks: 10,
            system_ticks: 0,
            ended_user_ticks: 3,
            ended_system_ticks: 1,
        };
        let used = difference(Reading::default(), now, tick);
        assert_eq!(used.total_ns(), 140_000_000);
    }

    #[test]
    fn own_work_shows() {
        let own = std::process::id();
        let meter = Meter::start(&[Whose::Process(own)]).expect("own process");
        let mut sum = 0_u64;
        for n in 0..3_000_000_u64 {
            sum = std::hint::black_box(sum ^ n.wrapping_mul(n));
        }
        assert!(meter.used().expect("own process").total_ns() > 0, "{sum}");
        assert!(rss_bytes(own).expect("own memory") > 1 << 20);
    }
}
