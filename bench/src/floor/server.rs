use std::{
    borrow::Cow,
    io::{self, IoSlice},
    net::{SocketAddr, TcpListener, TcpStream},
    os::fd::AsFd,
};

use anyhow::{Context, ensure};
use serde::{Deserialize, Serialize};
use socket2::{Domain, Socket, Type};

use crate::wire::{
    frame::{self, mask, parse, server_frame},
    handshake::accept,
    lines::{Commands, Input, print},
    poll::Poll,
    pump::{Backlog, Carry, Filled},
};

/// Serves every socket in turn.
const BUFFER: usize = 256 * 1024;
const FRAME_MAX: usize = 128 * 1024;
const BACKLOG: i32 = 4096;
const LISTENER: u64 = u64::MAX;
const INPUT: u64 = u64::MAX - 9;

/// One connection.
#[derive(Debug)]
struct Peer {
    stream: TcpStream,
    carry: Carry,
    backlog: Backlog,
    upgraded: bool,
    watches_writes: bool,
}

/// The sockets of a bare server. Numbers of sockets are never used again.
#[derive(Debug)]
pub(super) struct Net {
    poll: Poll,
    peers: Vec<Option<Peer>>,
}

/// What a bare server does with text.
pub(super) trait Service {
    /// A text frame came, without its mask.
    fn text(&mut self, net: &mut Net, from: usize, text: &[u8]) -> anyhow::Result<()>;

    /// Everything that one read (or one [`Service::event`]) brought was handled.
    fn turn(&mut self, net: &mut Net) -> anyhow::Result<()>;

    /// A file that the service watches itself can be read.
    fn event(&mut self, _net: &mut Net, token: u64) -> anyhow::Result<()> {
        anyhow::bail!("nobody watches {token}")
    }

    /// A socket is gone.
    fn closed(&mut self, _from: usize) {}
}

/// The line `listening`.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Listening {
    event: Cow<'static, str>,
    /// Where sockets that listen connect.
    pub(super) addr: SocketAddr,
    /// Where publishers do, if elsewhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) publish_addr: Option<SocketAddr>,
    /// The processes whose work counts.
    pub(super) pids: Vec<u32>,
}

impl Listening {
    pub(super) fn new(addr: SocketAddr, publish_addr: Option<SocketAddr>, pids: Vec<u32>) -> Self {
        Self {
            event: Cow::Borrowed("listening"),
            addr,
            publish_addr,
            pids,
        }
    }
}

/// Says where this process listens.
pub(super) fn print_listening(addr: SocketAddr) -> anyhow::Result<()> {
    print(&Listening::new(addr, None, vec![std::process::id()]))
}

/// A listener whose queue is long enough for a storm.
pub(super) fn listen(addr: SocketAddr) -> anyhow::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, None).context("a socket")?;
    socket
        .set_reuse_address(true)
        .context("reuse the address")?;
    socket
        .bind(&addr.into())
        .with_context(|| format!("bind {addr}"))?;
    socket.listen(BACKLOG).context("listen")?;
    socket
        .set_nonblocking(true)
        .context("make the listener non-blocking")?;
    Ok(socket.into())
}

/// Serves until the input ends; for ever if it is no pipe.
pub(super) fn serve(
    addr: SocketAddr,
    make: impl FnOnce(&mut Net) -> anyhow::Result<Box<dyn Service>>,
) -> anyhow::Result<()> {
    let listener = listen(addr)?;
    let mut net = Net {
        poll: Poll::new()?,
        peers: Vec::new(),
    };
    let mut service = make(&mut net)?;
    net.poll
        .add(&listener, LISTENER, false)
        .context("watch the listener")?;
    match net.poll.add(io::stdin().as_fd(), INPUT, false) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
        other => other.context("watch the input")?,
    }
    print_listening(listener.local_addr().context("the listener's address")?)?;
    let mut buffer = vec![0; BUFFER];
    loop {
        let ready = net.poll.wait(None)?;
        for at in 0..ready {
            let ready = net.poll.ready(at);
            if ready.token == LISTENER {
                net.accept(&listener)?;
                continue;
            }
            if ready.token == INPUT {
                if Commands::default().read()? == Input::Ended {
                    return Ok(());
                }
                continue;
            }
            let socket = usize::try_from(ready.token).context("a token")?;
            if socket >= net.peers.len() {
                service.event(&mut net, ready.token)?;
                service.turn(&mut net)?;
                continue;
            }
            if ready.writable {
                net.flush(socket)?;
            }
            if ready.readable && net.peers[socket].is_some() {
                read(&mut net, &mut *service, socket, &mut buffer)?;
            }
        }
    }
}

fn read(
    net: &mut Net,
    service: &mut dyn Service,
    at: usize,
    buffer: &mut [u8],
) -> anyhow::Result<()> {
    let Some(peer) = &net.peers[at] else {
        return Ok(());
    };
    let total = match peer.carry.fill(&peer.stream, buffer, usize::MAX) {
        Ok(Filled::Bytes { total, .. }) => total,
        Ok(Filled::Empty) => return Ok(()),
        Ok(Filled::Ended) | Err(_) => {
            net.peers[at] = None;
            service.closed(at);
            return Ok(());
        }
    };
    let used = consume(net, service, at, &mut buffer[..total])?;
    if let Some(peer) = &mut net.peers[at] {
        peer.carry.keep(&buffer[used..total]);
    }
    service.turn(net)
}

fn consume(
    net: &mut Net,
    service: &mut dyn Service,
    at: usize,
    bytes: &mut [u8],
) -> anyhow::Result<usize> {
    let mut used = 0;
    let upgraded = net.peers[at].as_ref().is_some_and(|peer| peer.upgraded);
    if !upgraded {
        let mut answer = Vec::new();
        match accept(bytes, &mut answer)? {
            None => return Ok(0),
            Some(length) => used = length,
        }
        net.write(at, &answer)?;
        if let Some(peer) = &mut net.peers[at] {
            peer.upgraded = true;
        }
    }
    while let Some(frame) = parse(&bytes[used..], FRAME_MAX)? {
        let payload = &mut bytes[used + frame.payload.start..used + frame.payload.end];
        let key = frame.mask.context("a client's frame without a mask")?;
        mask(payload, key);
        used += frame.payload.end;
        match frame.opcode {
            frame::TEXT if frame.last => service.text(net, at, payload)?,
            frame::PONG => {}
            frame::PING | frame::CLOSE => {
                let close = frame.opcode == frame::CLOSE;
                let mut answer = Vec::new();
                server_frame(
                    if close { frame::CLOSE } else { frame::PONG },
                    payload,
                    &mut answer,
                );
                net.write(at, &answer)?;
                if close {
                    net.peers[at] = None;
                    service.closed(at);
                    return Ok(bytes.len());
                }
            }
            other => anyhow::bail!("a frame of kind {other}"),
        }
    }
    Ok(used)
}

impl Net {
    fn accept(&mut self, listener: &TcpListener) -> anyhow::Result<()> {
        let stream = match listener.accept() {
            Ok((stream, _)) => stream,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error).context("accept"),
        };
        stream
            .set_nonblocking(true)
            .context("make a socket non-blocking")?;
        stream.set_nodelay(true).context("set TCP_NODELAY")?;
        self.poll
            .add(&stream, self.peers.len() as u64, false)
            .context("watch a socket")?;
        self.peers.push(Some(Peer {
            stream,
            carry: Carry::default(),
            backlog: Backlog::default(),
            upgraded: false,
            watches_writes: false,
        }));
        Ok(())
    }

    /// Watches another file; `token` counts down from `u64::MAX - 1`.
    pub(super) fn watch(&self, file: impl AsFd, token: u64, writable: bool) -> anyhow::Result<()> {
        ensure!(
            token < LISTENER && token > u64::MAX / 2,
            "a token of a socket"
        );
        self.poll.add(file, token, writable).context("watch a file")
    }

    /// Watches a file of [`Net::watch`] for room to write, or no more.
    pub(super) fn rewatch(
        &self,
        file: impl AsFd,
        token: u64,
        writable: bool,
    ) -> anyhow::Result<()> {
        self.poll
            .set(file, token, true, writable)
            .context("watch a file")
    }

    /// Writes once; what the kernel does not take follows when it does.
    pub(super) fn write(&mut self, to: usize, bytes: &[u8]) -> anyhow::Result<()> {
        self.put(to, |peer| peer.backlog.send(&peer.stream, bytes))
    }

    /// As [`Net::write`], of pieces whose length is `total`.
    pub(super) fn write_all(
        &mut self,
        to: usize,
        pieces: &[IoSlice<'_>],
        total: usize,
    ) -> anyhow::Result<()> {
        self.put(to, |peer| {
            peer.backlog.send_all(&peer.stream, pieces, total)
        })
    }

    fn put(
        &mut self,
        to: usize,
        send: impl FnOnce(&mut Peer) -> io::Result<u64>,
    ) -> anyhow::Result<()> {
        let Some(peer) = &mut self.peers[to] else {
            return Ok(());
        };
        // Whoever cannot be written to is gone; its end is read soon.
        if send(peer).is_ok() && !peer.backlog.is_empty() && !peer.watches_writes {
            peer.watches_writes = true;
            self.poll
                .set(&peer.stream, to as u64, true, true)
                .context("watch a socket")?;
        }
        Ok(())
    }

    fn flush(&mut self, at: usize) -> anyhow::Result<()> {
        let Some(peer) = &mut self.peers[at] else {
            return Ok(());
        };
        if matches!(peer.backlog.flush(&peer.stream), Ok(true)) {
            peer.watches_writes = false;
            self.poll
                .set(&peer.stream, at as u64, true, false)
                .context("watch a socket")?;
        }
        Ok(())
    }
}

/// What a client asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Request<'a> {
    /// `join <channel>`
    Join(&'a [u8]),
    /// `pub <channel> <payload>`
    Publish {
        channel: &'a [u8],
        payload: &'a [u8],
    },
    /// `echo <payload>`
    Echo(&'a [u8]),
}

impl<'a> Request<'a> {
    pub(super) fn read(text: &'a [u8]) -> anyhow::Result<Self> {
        if let Some(rest) = text.strip_prefix(b"pub ") {
            let space = memchr::memchr(b' ', rest).context("a message without a payload")?;
            let (channel, payload) = (&rest[..space], &rest[space + 1..]);
            return Ok(Self::Publish { channel, payload });
        }
        if let Some(payload) = text.strip_prefix(b"echo ") {
            return Ok(Self::Echo(payload));
        }
        let channel = text.strip_prefix(b"join ").context("an unknown request")?;
        Ok(Self::Join(channel))
    }
}

/// Answers a join.
pub(super) fn say_joined(net: &mut Net, to: usize, channel: &[u8]) -> anyhow::Result<()> {
    let mut out = Vec::new();
    server_frame(frame::TEXT, &[b"joined ", channel].concat(), &mut out);
    net.write(to, &out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_cut_at_spaces() {
        let read = |text: &'static str| Request::read(text.as_bytes()).unwrap();
        assert_eq!(read("join c1"), Request::Join(b"c1"));
        assert_eq!(read("echo a b"), Request::Echo(b"a b"));
        let publish = Request::Publish {
            channel: b"c1",
            payload: b"a b",
        };
        assert_eq!(read("pub c1 a b"), publish);
        Request::read(b"pub c1").unwrap_err();
        Request::read(b"leave c1").unwrap_err();
    }
}
