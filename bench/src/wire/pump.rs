//! Bytes in and out of a non-blocking socket: one shared read buffer, and per socket only what a
//! read or a write left over.

use std::{
    io::{self, ErrorKind, IoSlice, Read, Write},
    net::TcpStream,
};

/// What a socket's last read left: the beginning of a frame whose end has not come yet.
#[derive(Debug, Default)]
pub struct Carry(Vec<u8>);

/// What one read brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filled {
    /// The first so many bytes of the buffer are what is to be read, `new` of them just came.
    Bytes {
        /// With what was carried.
        total: usize,
        /// By this read.
        new: usize,
    },
    /// Nothing is there now.
    Empty,
    /// The other side has closed.
    Ended,
}

impl Carry {
    /// Reads once, behind what was carried, up to `limit` bytes.
    pub fn fill(
        &self,
        mut stream: &TcpStream,
        buffer: &mut [u8],
        limit: usize,
    ) -> io::Result<Filled> {
        let carried = self.0.len();
        let (head, free) = buffer.split_at_mut_checked(carried).ok_or_else(|| {
            io::Error::new(ErrorKind::InvalidData, "a frame is longer than the buffer")
        })?;
        if free.is_empty() {
            let why = "a frame is as long as the buffer";
            return Err(io::Error::new(ErrorKind::InvalidData, why));
        }
        head.copy_from_slice(&self.0);
        let end = free.len().min(limit);
        match stream.read(&mut free[..end]) {
            Ok(0) => Ok(Filled::Ended),
            Ok(new) => Ok(Filled::Bytes {
                total: carried + new,
                new,
            }),
            Err(error) if retry(&error) => Ok(Filled::Empty),
            Err(error) => Err(error),
        }
    }

    /// Keeps what is left of the bytes that [`Carry::fill`] gave.
    pub fn keep(&mut self, rest: &[u8]) {
        self.0.clear();
        self.0.extend_from_slice(rest);
    }
}

/// What a socket's kernel buffer had no room for.
#[derive(Debug, Default)]
pub struct Backlog {
    bytes: Vec<u8>,
    written: usize,
}

impl Backlog {
    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Bytes that wait.
    pub fn len(&self) -> usize {
        self.bytes.len() - self.written
    }

    /// Writes what it can and keeps the rest. Says how many writes it made.
    pub fn send(&mut self, mut stream: &TcpStream, bytes: &[u8]) -> io::Result<u64> {
        if !self.is_empty() {
            self.bytes.extend_from_slice(bytes);
            return Ok(0);
        }
        let written = taken(stream.write(bytes))?;
        self.bytes.extend_from_slice(&bytes[written..]);
        Ok(1)
    }

    /// As [`Backlog::send`], of pieces. `total` is their length.
    pub fn send_all(
        &mut self,
        mut stream: &TcpStream,
        pieces: &[IoSlice<'_>],
        total: usize,
    ) -> io::Result<u64> {
        let mut written = 0;
        if self.is_empty() {
            written = taken(stream.write_vectored(pieces))?;
            if written == total {
                return Ok(1);
            }
        }
        let mut skip = written;
        for piece in pieces {
            let rest = piece.get(skip..).unwrap_or_default();
            self.bytes.extend_from_slice(rest);
            skip = skip.saturating_sub(piece.len());
        }
        Ok(u64::from(written > 0))
    }

    /// Goes on with what waits. Says whether all of it went out.
    pub fn flush(&mut self, mut stream: &TcpStream) -> io::Result<bool> {
        while self.written < self.bytes.len() {
            match taken(stream.write(&self.bytes[self.written..]))? {
                0 => return Ok(false),
                written => self.written += written,
            }
        }
        // Memory goes back: a burst is over.
        *self = Self::default();
        Ok(true)
    }
}

fn taken(result: io::Result<usize>) -> io::Result<usize> {
    match result {
        Err(error) if retry(&error) => Ok(0),
        other => other,
    }
}

fn retry(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use socket2::SockRef;

    use super::*;

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (far, _) = listener.accept().unwrap();
        near.set_nonblocking(true).unwrap();
        (near, far)
    }

    #[test]
    fn what_the_kernel_refuses_follows_in_order() {
        let (near, mut far) = pair();
        // Left alone, the kernel makes them as large as the machine's settings let it.
        let room = 64 * 1024;
        SockRef::from(&near).set_send_buffer_size(room).unwrap();
        SockRef::from(&far).set_recv_buffer_size(room).unwrap();
        let mut backlog = Backlog::default();
        let mut expected = Vec::new();
        for round in 0..200_u32 {
            let piece: Vec<u8> = (0..20_000).map(|i| (i * 7 + round) as u8).collect();
            expected.extend_from_slice(&piece);
            if round % 2 == 0 {
                backlog.send(&near, &piece).unwrap();
            } else {
                let pieces = [IoSlice::new(&piece[..7]), IoSlice::new(&piece[7..])];
                backlog.send_all(&near, &pieces, piece.len()).unwrap();
            }
        }
        assert!(!backlog.is_empty(), "4 MB are more than both buffers");
        far.set_nonblocking(true).unwrap();
        let mut got = Vec::new();
        let mut buffer = vec![0; 1 << 20];
        while got.len() < expected.len() {
            match Carry::default().fill(&far, &mut buffer, 1 << 20).unwrap() {
                Filled::Bytes { total, .. } => got.extend_from_slice(&buffer[..total]),
                Filled::Empty => {
                    backlog.flush(&near).unwrap();
                }
                Filled::Ended => panic!("nobody closed"),
            }
        }
        assert_eq!(got, expected);
        assert!(backlog.is_empty());
        far.set_nonblocking(false).unwrap();
        drop(near);
        assert_eq!(far.read(&mut buffer).unwrap(), 0);
    }

    #[test]
    fn carried_bytes_stand_before_new_ones() {
        let (near, mut far) = pair();
        let mut carry = Carry::default();
        let mut buffer = [0; 8];
        assert_eq!(carry.fill(&near, &mut buffer, 8).unwrap(), Filled::Empty);
        carry.keep(b"abc");
        far.write_all(b"defgh").unwrap();
        let mut total = 3;
        while total < 8 {
            if let Filled::Bytes { total: now, .. } = carry.fill(&near, &mut buffer, 8).unwrap() {
                total = now;
                carry.keep(&buffer[..now]);
            }
        }
        assert_eq!(&buffer, b"abcdefgh");
        assert!(
            carry.fill(&near, &mut buffer, 8).is_err(),
            "no room is left"
        );
    }
}
