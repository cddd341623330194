use std::{
    io,
    net::{SocketAddr, TcpStream},
    os::fd::{AsFd, BorrowedFd},
};

use anyhow::Context;
use nix::errno::Errno;
use socket2::{Domain, Protocol, Socket as Raw, Type};

use crate::wire::pump::{Backlog, Carry};

/// How far a connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    /// TCP's handshake is under way.
    Connecting,
    /// The request for an upgrade is out.
    Upgrading,
    /// The server is to speak first.
    Greeting,
    /// Joins are out.
    Joining,
    /// Every join was answered.
    Ready,
}

/// One connection.
#[derive(Debug)]
pub(super) struct Socket {
    pub(super) stream: TcpStream,
    pub(super) carry: Carry,
    pub(super) backlog: Backlog,
    pub(super) phase: Phase,
    /// Answers that its joins still wait for.
    pub(super) steps_left: usize,
    /// Where the last payload was in its frame.
    pub(super) hint: usize,
    /// What a streaming dialect has of the next event.
    pub(super) text: Vec<u8>,
    /// When it was to be opened.
    pub(super) intended_ns: u64,
    /// Whether it is watched for room to write.
    pub(super) watches_writes: bool,
}

impl Socket {
    /// Begins to connect. `receive_buffer` is for slow readers: a kernel that reads ahead for
    /// them would hide how slow they are.
    pub(super) fn open(
        address: SocketAddr,
        receive_buffer: Option<usize>,
        intended_ns: u64,
    ) -> anyhow::Result<Self> {
        let raw = Raw::new(
            Domain::for_address(address),
            Type::STREAM,
            Some(Protocol::TCP),
        )
        .context("open a socket")?;
        let set = || -> io::Result<()> {
            raw.set_nonblocking(true)?;
            raw.set_tcp_nodelay(true)?;
            if let Some(bytes) = receive_buffer {
                raw.set_recv_buffer_size(bytes)?;
            }
            match raw.connect(&address.into()) {
                Err(error) if error.raw_os_error() == Some(Errno::EINPROGRESS as i32) => Ok(()),
                other => other,
            }
        };
        set().with_context(|| format!("connect to {address}"))?;
        Ok(Self {
            stream: raw.into(),
            carry: Carry::default(),
            backlog: Backlog::default(),
            phase: Phase::Connecting,
            steps_left: 0,
            hint: 0,
            text: Vec::new(),
            intended_ns,
            watches_writes: true,
        })
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}
