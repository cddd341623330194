//! A level-triggered epoll: what is left unread is reported again.

use std::{io, os::fd::AsFd, time::Duration};

use anyhow::Context;
use nix::{
    errno::Errno,
    sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout},
};

/// What one wait reports at most.
const EVENTS: usize = 1024;

/// What may be done with a file now. An error or a hang-up counts as readable: the read tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ready {
    /// The number under which it was added.
    pub token: u64,
    /// A read will not wait.
    pub readable: bool,
    /// A write will not wait.
    pub writable: bool,
}

/// Watches files.
#[derive(Debug)]
pub struct Poll {
    epoll: Epoll,
    events: Vec<EpollEvent>,
    ready: usize,
}

impl Poll {
    /// Watches nothing yet.
    pub fn new() -> anyhow::Result<Self> {
        Ok(Self {
            epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).context("create an epoll")?,
            events: vec![EpollEvent::empty(); EVENTS],
            ready: 0,
        })
    }

    /// Watches a file, for writing too if wanted. It is forgotten when it is closed.
    pub fn add(&self, file: impl AsFd, token: u64, writable: bool) -> io::Result<()> {
        let event = EpollEvent::new(flags(true, writable), token);
        self.epoll.add(file, event).map_err(io::Error::from)
    }

    /// Changes what a file is watched for.
    pub fn set(
        &self,
        file: impl AsFd,
        token: u64,
        readable: bool,
        writable: bool,
    ) -> io::Result<()> {
        let mut event = EpollEvent::new(flags(readable, writable), token);
        self.epoll.modify(file, &mut event).map_err(io::Error::from)
    }

    /// Waits, up to `timeout` (rounded up to a millisecond), and says how many files are ready.
    pub fn wait(&mut self, timeout: Option<Duration>) -> anyhow::Result<usize> {
        let timeout = match timeout {
            None => EpollTimeout::NONE,
            Some(timeout) => {
                let ms = timeout.as_nanos().div_ceil(1_000_000);
                EpollTimeout::try_from(u32::try_from(ms).unwrap_or(u32::MAX) & 0x7FFF_FFFF)
                    .context("a timeout")?
            }
        };
        self.ready = match self.epoll.wait(&mut self.events, timeout) {
            Ok(ready) => ready,
            Err(Errno::EINTR) => 0,
            Err(error) => return Err(error).context("wait for events"),
        };
        Ok(self.ready)
    }

    /// What the last wait reported at this place.
    pub fn ready(&self, at: usize) -> Ready {
        debug_assert!(at < self.ready, "the last wait reported so many");
        let event = &self.events[at];
        let failed = EpollFlags::EPOLLERR | EpollFlags::EPOLLHUP;
        Ready {
            token: event.data(),
            readable: event.events().intersects(EpollFlags::EPOLLIN | failed),
            writable: event.events().contains(EpollFlags::EPOLLOUT),
        }
    }
}

fn flags(readable: bool, writable: bool) -> EpollFlags {
    let mut flags = EpollFlags::empty();
    flags.set(EpollFlags::EPOLLIN, readable);
    flags.set(EpollFlags::EPOLLOUT, writable);
    flags
}
