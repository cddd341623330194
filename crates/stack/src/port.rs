//! TCP ports that stay ours while a server is down.
//!
//! A port found by binding port 0 comes from the range that the kernel also uses for outgoing
//! connections: while its server is being restarted, any client on the machine may be given the
//! same number. So ports are taken below that range, and a lock file per port keeps two test
//! binaries that run at the same time from choosing the same one.

use anyhow::{Context, Result};
use rand::RngExt;
use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;

/// First port tried. Lower ones are full of well-known servers.
const FIRST: u16 = 12_000;
/// Where Linux begins to hand out ports to clients, unless configured otherwise.
const EPHEMERAL_DEFAULT: u16 = 32_768;
const ATTEMPTS: usize = 200;

/// A loopback port reserved among processes that use this crate, until dropped.
#[derive(Debug)]
pub struct Port {
    number: u16,
    /// Holds the lock; the file itself stays.
    _lock: File,
}

impl Port {
    /// Reserves a port on which nothing listens.
    ///
    /// # Errors
    /// When 200 random candidates were all taken.
    pub fn free() -> Result<Self> {
        let last = ephemeral_start().max(FIRST + 1000);
        for _ in 0..ATTEMPTS {
            if let Some(port) = Self::try_take(rand::rng().random_range(FIRST..last)) {
                return Ok(port);
            }
        }
        anyhow::bail!("found no free port between {FIRST} and {last} in {ATTEMPTS} attempts")
    }

    /// The wanted port, or another one if it is taken.
    ///
    /// # Errors
    /// As [`Port::free`].
    pub fn prefer(number: u16) -> Result<Self> {
        Self::try_take(number).map_or_else(Self::free, Ok)
    }

    /// The port's number.
    #[must_use]
    pub fn number(&self) -> u16 {
        self.number
    }

    /// The loopback address with this port.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.number))
    }

    /// `None` if something listens there or another process has reserved it.
    fn try_take(number: u16) -> Option<Self> {
        let lock = lock_file(number).ok()?;
        lock.try_lock().ok()?;
        TcpListener::bind((Ipv4Addr::LOCALHOST, number)).ok()?;
        Some(Self {
            number,
            _lock: lock,
        })
    }
}

fn lock_file(number: u16) -> Result<File> {
    let dir = std::env::temp_dir().join(format!("hubbub-ports-{}", nix::unistd::getuid()));
    std::fs::create_dir_all(&dir).context("create the directory of port locks")?;
    let path: PathBuf = dir.join(number.to_string());
    let mut options = File::options();
    options.create(true).truncate(false).write(true);
    options.open(path).context("open a port lock")
}

fn ephemeral_start() -> u16 {
    let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range");
    let start = range.unwrap_or_default();
    let start = start.split_whitespace().next().unwrap_or_default();
    start.parse().unwrap_or(EPHEMERAL_DEFAULT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn taken_port_is_not_given_twice() {
        let first = Port::free().unwrap();
        let second = Port::prefer(first.number()).unwrap();
        assert_ne!(first.number(), second.number());
        let number = first.number();
        drop(first);
        assert_eq!(Port::prefer(number).unwrap().number(), number);
    }

    #[test]
    fn listening_port_is_not_given() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let number = listener.local_addr().unwrap().port();
        assert_ne!(Port::prefer(number).unwrap().number(), number);
    }
}
