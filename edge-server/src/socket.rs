//! One socket as the fan-out sees it: a TCP stream, its outbox, and how to wake its task.

use std::{
    cell::RefCell,
    io::{self, Read},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use hubbub_protocol::{ChannelId, CloseCode};
use parking_lot::Mutex;
use tokio::{
    io::{AsyncRead, AsyncWrite, Interest, ReadBuf},
    net::TcpStream,
    sync::Notify,
};

use crate::{
    feed::{Burst, SocketId},
    outbox::Outbox,
};

/// In place of the time of the last request: the device was found idle.
const IDLE: u64 = u64::MAX;

/// What a write attempt left behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flushed {
    /// Nothing waits.
    Empty,
    /// The kernel is full: the socket's task waits for room.
    Blocked,
    /// The connection is gone.
    Gone,
}

/// What came of records that were to be written at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Written {
    /// The kernel has them.
    Whole,
    /// It has some of their bytes; the rest is queued, and the socket is to be flushed.
    Part,
    /// They are to be queued: something waits before them, or the kernel takes nothing.
    Nothing,
}

/// Shared by the connection's task, the hub and the wheel. Writes are done inline by whoever
/// queued something: no task is woken for a delivery unless the kernel is full.
#[derive(Debug)]
pub(crate) struct Socket {
    /// Its key in the hub and in the feeds.
    pub(crate) id: SocketId,
    tcp: TcpStream,
    outbox: Mutex<Outbox>,
    /// Wakes the connection's task: the kernel is full, or the socket must close.
    pub(crate) wake: Notify,
    blocked: AtomicBool,
    /// In a list of sockets to flush already.
    dirty: AtomicBool,
    /// A feed was refused room, or waits for it: it is told when the outbox is under half.
    wants_room: AtomicBool,
    /// Set once; the task says so in a close frame and ends.
    close: Mutex<Option<Box<(CloseCode, String)>>>,
    /// Milliseconds of the edge's clock: last frame in, and last byte out while something waited.
    heard_ms: AtomicU64,
    wrote_ms: AtomicU64,
    /// When the client last asked for something, milliseconds of the edge's clock, or [`IDLE`].
    asked_ms: AtomicU64,
    /// Bytes that the kernel has taken.
    sent_bytes: AtomicU64,
}

impl Socket {
    /// Takes an upgraded stream.
    pub(crate) fn new(id: SocketId, tcp: TcpStream, now_ms: u64) -> Arc<Self> {
        Arc::new(Self {
            id,
            tcp,
            outbox: Mutex::default(),
            wake: Notify::new(),
            blocked: AtomicBool::new(false),
            dirty: AtomicBool::new(false),
            wants_room: AtomicBool::new(false),
            close: Mutex::default(),
            heard_ms: AtomicU64::new(now_ms),
            wrote_ms: AtomicU64::new(now_ms),
            asked_ms: AtomicU64::new(now_ms),
            sent_bytes: AtomicU64::new(0),
        })
    }

    /// Runs `f` on the outbox. Nothing is written before [`Socket::flush`].
    pub(crate) fn with_outbox<T>(&self, f: impl FnOnce(&mut Outbox) -> T) -> T {
        f(&mut self.outbox.lock())
    }

    /// Queues a text frame beside the records.
    pub(crate) fn push_text(&self, json: &str) {
        let frame = crate::wire::text_frame(json.as_bytes());
        self.with_outbox(|outbox| outbox.push_control(frame));
    }

    /// Writes what waits, as much as the kernel takes, in as few calls as possible. Never waits.
    pub(crate) fn flush(&self, now_ms: u64) -> Flushed {
        // Pairs with `mark_dirty`: who finds it set may leave the write to us, so what they queued
        // before must be seen here.
        self.dirty.swap(false, Ordering::AcqRel);
        let mut outbox = self.outbox.lock();
        let rides = !outbox.is_empty();
        loop {
            if rides && outbox.synced_rides() {
                // Again after each write: behind many replies there was no room for it.
                outbox.flush_synced();
            }
            outbox.flush_held();
            if outbox.is_empty() {
                self.blocked.store(false, Ordering::Relaxed);
                self.wrote_ms.store(now_ms, Ordering::Relaxed);
                return Flushed::Empty;
            }
            let result = {
                // A frame alone is the common case of a quiet channel: it needs no list.
                match outbox.only() {
                    Some(bytes) => self.write(bytes),
                    None => {
                        let mut slices = Outbox::empty_slices();
                        let used = outbox.slices(&mut slices);
                        self.tcp.try_write_vectored(&slices[..used])
                    }
                }
            };
            match result {
                Ok(0) => return Flushed::Gone,
                Ok(count) => {
                    outbox.advance(count);
                    self.note_written(count, now_ms);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if !self.blocked.swap(true, Ordering::Relaxed) {
                        self.wake.notify_one();
                    }
                    return Flushed::Blocked;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Flushed::Gone,
            }
        }
    }

    /// Writes records of a channel past an outbox in which nothing waits: the common case, in which
    /// nothing has to be queued and looked for again. Never waits.
    pub(crate) fn write_past(&self, channel: ChannelId, burst: &Burst, now_ms: u64) -> Written {
        let mut outbox = self.outbox.lock();
        if !outbox.may_be_passed(burst) {
            return Written::Nothing;
        }
        let result = match burst.only_piece() {
            Some(bytes) => self.write(bytes),
            None => {
                let mut slices = Outbox::empty_slices();
                let used = Outbox::slices_of(burst, &mut slices);
                self.tcp.try_write_vectored(&slices[..used])
            }
        };
        // An error is met again, and dealt with, by the flush of what is queued then.
        let Ok(count @ 1..) = result else {
            return Written::Nothing;
        };
        self.note_written(count, now_ms);
        if count == burst.bytes() {
            return Written::Whole;
        }
        outbox.push_begun(channel, burst, count);
        Written::Part
    }

    /// Asks the kernel straight: what the runtime has noted of the socket lies elsewhere in memory
    /// and has left the cache by the next delivery. Only when the kernel is full the runtime tries
    /// again, and so learns that there is room to be waited for.
    fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        match socket2::SockRef::from(&self.tcp).send(bytes) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.tcp.try_write(bytes),
            result => result,
        }
    }

    /// Under the lock of the outbox, which makes it the only one that counts.
    fn note_written(&self, count: usize, now_ms: u64) {
        self.wrote_ms.store(now_ms, Ordering::Relaxed);
        let sent = self.sent_bytes.load(Ordering::Relaxed) + count as u64;
        self.sent_bytes.store(sent, Ordering::Relaxed);
    }

    /// Whether what was queued is written by the socket's own task, which waits for room in the
    /// kernel: a call that finds none is spared. Takes the socket off the list of those to flush.
    ///
    /// To be asked after the queueing. A task that finds all room ends `blocked` under the lock of
    /// the outbox: if it is seen here, a write of what was queued is still to come.
    pub(crate) fn is_left_to_its_task(&self) -> bool {
        // First, as in `flush`: who has left the write to this list has queued before.
        self.dirty.swap(false, Ordering::AcqRel);
        self.is_blocked()
    }

    /// Says that the socket is in a list of sockets to flush; true if it was in one already.
    pub(crate) fn mark_dirty(&self) -> bool {
        self.dirty.swap(true, Ordering::AcqRel)
    }

    /// Says that a feed waits for room.
    pub(crate) fn want_room(&self) {
        self.wants_room.store(true, Ordering::Relaxed);
    }

    /// Whether a feed waited for room and there is some now; asked once for each time.
    pub(crate) fn take_room(&self) -> bool {
        self.wants_room.load(Ordering::Relaxed)
            && self.with_outbox(|outbox| outbox.under_half())
            && self.wants_room.swap(false, Ordering::Relaxed)
    }

    /// Whether the kernel was full at the last write.
    pub(crate) fn is_blocked(&self) -> bool {
        self.blocked.load(Ordering::Relaxed)
    }

    /// Waits until the kernel takes bytes again. Cancel-safe.
    pub(crate) async fn writable(&self) -> io::Result<()> {
        self.tcp.writable().await
    }

    /// Reads what is there. What fills only a part of `buffer` was all: the socket counts as
    /// drained then, which spares the call that would find nothing.
    fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut all = None;
        let result = self.tcp.try_io(Interest::READABLE, || {
            match (&*socket2::SockRef::from(&self.tcp)).read(buffer) {
                Ok(count) if 0 < count && count < buffer.len() => {
                    all = Some(count);
                    Err(io::ErrorKind::WouldBlock.into())
                }
                result => result,
            }
        });
        all.map_or(result, Ok)
    }

    /// Says that nothing more comes, and drops what the client sends until it has closed, too:
    /// closing with bytes unread resets the connection, and the reset may overtake a close frame.
    /// Cancel-safe.
    pub(crate) async fn finish(&self) {
        let socket = socket2::SockRef::from(&self.tcp);
        if socket.shutdown(std::net::Shutdown::Write).is_err() {
            return;
        }
        let mut rest = [0_u8; 4096];
        while self.tcp.readable().await.is_ok() {
            match self.tcp.try_read(&mut rest) {
                Ok(0) => return,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return,
            }
        }
    }

    /// Asks the connection's task to close; the first reason stands.
    pub(crate) fn request_close(&self, code: CloseCode, reason: &str) {
        let mut close = self.close.lock();
        if close.is_none() {
            *close = Some(Box::new((code, reason.to_owned())));
            drop(close);
            self.wake.notify_one();
        }
    }

    /// Why the socket must close, if it must.
    pub(crate) fn close_requested(&self) -> Option<(CloseCode, String)> {
        self.close.lock().as_deref().cloned()
    }

    /// Takes note of a sign of life.
    pub(crate) fn heard(&self, now_ms: u64) {
        self.heard_ms.store(now_ms, Ordering::Relaxed);
    }

    /// When the client was last heard, milliseconds of the edge's clock.
    pub(crate) fn heard_ms(&self) -> u64 {
        self.heard_ms.load(Ordering::Relaxed)
    }

    /// Takes note of a request; true: the device had been found idle.
    pub(crate) fn asked(&self, now_ms: u64) -> bool {
        self.asked_ms.swap(now_ms, Ordering::AcqRel) == IDLE
    }

    /// When the device is idle if it asks nothing more, which it is `after_ms` after the last
    /// request; none: it is found idle now, and the next [`Socket::asked`] says so.
    pub(crate) fn idle_at_ms(&self, now_ms: u64, after_ms: u64) -> Option<u64> {
        let mut asked = self.asked_ms.load(Ordering::Acquire);
        while asked != IDLE {
            let at = asked.saturating_add(after_ms);
            if now_ms < at {
                return Some(at);
            }
            // Unless it asks right now: a request is never overlooked.
            match self
                .asked_ms
                .compare_exchange(asked, IDLE, Ordering::AcqRel, Ordering::Acquire)
            {
                Ok(_) => return None,
                Err(now) => asked = now,
            }
        }
        None
    }

    /// When the kernel last took a byte, or nothing waited.
    pub(crate) fn wrote_ms(&self) -> u64 {
        self.wrote_ms.load(Ordering::Relaxed)
    }

    /// Bytes that the kernel has taken so far.
    pub(crate) fn sent_bytes(&self) -> u64 {
        self.sent_bytes.load(Ordering::Relaxed)
    }
}

/// Bytes taken from the kernel at once, whatever room the reader has: a burst of requests then
/// costs one call, and a socket that is quiet holds no buffer of this size.
const READ_BYTES: usize = 16 * 1024;

thread_local! {
    /// Between the kernel and the readers; one for all sockets, since nobody keeps what is in it.
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_BYTES].into());
}

/// The stream that tungstenite sees. It reads from the socket and writes into the outbox, so
/// that its pongs and close frames are in one order with everything else.
///
/// A write always takes the whole buffer and is never pending: a data frame could otherwise land
/// inside a half-written control frame. The bytes leave at the next [`Socket::flush`].
#[derive(Debug)]
pub(crate) struct WireStream {
    socket: Arc<Socket>,
    /// What the kernel gave beyond the reader's room: less than [`READ_BYTES`], and nothing on a
    /// quiet socket.
    rest: Box<[u8]>,
    /// How much of it the reader has.
    taken: u32,
}

impl WireStream {
    /// The stream of a socket; one alone reads from it.
    pub(crate) fn new(socket: Arc<Socket>) -> Self {
        Self {
            socket,
            rest: Box::default(),
            taken: 0,
        }
    }

    fn take_rest(&mut self, buffer: &mut ReadBuf<'_>) {
        let rest = &self.rest[self.taken as usize..];
        let length = rest.len().min(buffer.remaining());
        buffer.put_slice(&rest[..length]);
        self.taken += length as u32;
        if self.taken as usize == self.rest.len() {
            self.keep(&[]);
        }
    }

    fn keep(&mut self, rest: &[u8]) {
        self.rest = rest.into();
        self.taken = 0;
    }
}

impl AsyncRead for WireStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.rest.is_empty() {
            this.take_rest(buffer);
            return Poll::Ready(Ok(()));
        }
        SCRATCH.with_borrow_mut(|scratch| {
            loop {
                ready!(this.socket.tcp.poll_read_ready(cx))?;
                match this.socket.try_read(scratch) {
                    Ok(count) => {
                        let now = count.min(buffer.remaining());
                        buffer.put_slice(&scratch[..now]);
                        if now < count {
                            this.keep(&scratch[now..count]);
                        }
                        return Poll::Ready(Ok(()));
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Poll::Ready(Err(error)),
                }
            }
        })
    }
}

impl AsyncWrite for WireStream {
    fn poll_write(
        self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        const CLOSE: u8 = 0x88;
        let copy = Bytes::copy_from_slice(bytes);
        self.socket.with_outbox(|outbox| match bytes.first() {
            Some(&CLOSE) => outbox.push_close(copy),
            _ => outbox.push_control(copy),
        });
        // A pong is written in the middle of a read that goes on waiting: somebody must flush.
        self.socket.wake.notify_one();
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests;
