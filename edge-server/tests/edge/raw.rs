//! Bytes on a TCP connection, for what a well-behaved client cannot do.

use std::net::SocketAddr;

use anyhow::{Context, ensure};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::support::{LONG, ORIGIN};

/// An HTTP answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Status line and headers, names in lower case.
    pub(crate) head: String,
    pub(crate) body: Value,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (found, value) = line.split_once(": ")?;
            found.eq_ignore_ascii_case(name).then_some(value)
        })
    }
}

/// The parts of an upgrade request that a test changes.
#[derive(Debug, Clone)]
pub(crate) struct Upgrade {
    pub(crate) line: String,
    pub(crate) headers: Vec<(&'static str, String)>,
}

impl Upgrade {
    /// One that is in order but for its token.
    pub(crate) fn bare() -> Self {
        let header = |name, value: &str| (name, value.to_owned());
        Self {
            line: "GET /ws HTTP/1.1".to_owned(),
            headers: vec![
                header("Host", "localhost"),
                header("Connection", "Upgrade"),
                header("Upgrade", "websocket"),
                header("Sec-WebSocket-Version", "13"),
                header("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
            ],
        }
    }

    pub(crate) fn new(token: &str) -> Self {
        Self::bare().with("Authorization", &format!("Bearer {token}"))
    }

    pub(crate) fn line(mut self, line: &str) -> Self {
        self.line = line.to_owned();
        self
    }

    pub(crate) fn with(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }

    pub(crate) fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(found, _)| *found != name);
        self
    }

    pub(crate) fn by_a_browser(self) -> Self {
        self.with("Origin", ORIGIN)
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut text = format!("{}\r\n", self.line);
        for (name, value) in &self.headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        text.push_str("\r\n");
        text.into_bytes()
    }

    /// Sends it on a fresh connection and reads the answer.
    pub(crate) async fn answer(&self, addr: SocketAddr) -> anyhow::Result<(Raw, Answer)> {
        let mut raw = Raw::connect(addr).await?;
        raw.send(&self.bytes()).await?;
        let answer = raw.answer().await?;
        Ok((raw, answer))
    }
}

/// A connection.
pub(crate) struct Raw {
    pub(crate) tcp: TcpStream,
    buffer: Vec<u8>,
}

/// A frame with a mask, as clients send them. `first` holds FIN, the reserved bits and the opcode.
pub(crate) fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
    let mut frame = vec![first];
    frame.extend(length(0x80, payload.len()));
    frame.extend(MASK);
    frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(b, m)| b ^ m));
    frame
}

/// A length as it stands in a frame; `bit` is the mask's.
pub(crate) fn length(bit: u8, length: usize) -> Vec<u8> {
    match length {
        0..=125 => vec![bit | length as u8],
        126..=0xffff => {
            let mut bytes = vec![bit | 126];
            bytes.extend((length as u16).to_be_bytes());
            bytes
        }
        _ => {
            let mut bytes = vec![bit | 127];
            bytes.extend((length as u64).to_be_bytes());
            bytes
        }
    }
}

impl Raw {
    pub(crate) async fn connect(addr: SocketAddr) -> anyhow::Result<Self> {
        Ok(Self {
            tcp: TcpStream::connect(addr).await?,
            buffer: Vec::new(),
        })
    }

    /// An upgraded connection, after its `hello`.
    pub(crate) async fn upgraded(addr: SocketAddr, token: &str) -> anyhow::Result<Self> {
        let (mut raw, answer) = Upgrade::new(token).answer(addr).await?;
        ensure!(answer.status == 101, "{answer:?}");
        let (opcode, hello) = raw.frame().await?.context("a hello")?;
        ensure!(opcode == 1 && hello.starts_with(b"{\"type\":\"hello\""));
        Ok(raw)
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        Ok(timeout(LONG, self.tcp.write_all(bytes)).await??)
    }

    /// Reads more; false at the end.
    async fn more(&mut self) -> anyhow::Result<bool> {
        let read = timeout(LONG, self.tcp.read_buf(&mut self.buffer)).await;
        Ok(read.context("nothing comes")?? > 0)
    }

    async fn fill(&mut self, count: usize) -> anyhow::Result<bool> {
        while self.buffer.len() < count {
            if !self.more().await? {
                ensure!(self.buffer.is_empty(), "the connection ends in a frame");
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// One HTTP answer with a `content-length`, or a 101.
    pub(crate) async fn answer(&mut self) -> anyhow::Result<Answer> {
        let end = loop {
            let found = self.buffer.windows(4).position(|four| four == b"\r\n\r\n");
            if let Some(at) = found {
                break at;
            }
            ensure!(self.more().await?, "no answer");
        };
        let head = String::from_utf8(self.buffer.drain(..end + 4).collect())?;
        let mut answer = Answer {
            status: head.get(9..12).context("a status")?.parse()?,
            head,
            body: Value::Null,
        };
        if let Some(length) = answer.header("content-length") {
            let length: usize = length.parse()?;
            ensure!(self.fill(length).await?, "no body");
            let body: Vec<u8> = self.buffer.drain(..length).collect();
            if !body.is_empty() {
                answer.body = serde_json::from_slice(&body)?;
            }
        }
        Ok(answer)
    }

    /// The next frame of the server: opcode and payload; `None` at the end.
    pub(crate) async fn frame(&mut self) -> anyhow::Result<Option<(u8, Vec<u8>)>> {
        if !self.fill(2).await? {
            return Ok(None);
        }
        let (first, short) = (self.buffer[0], self.buffer[1]);
        ensure!(first & 0xf0 == 0x80, "fragmented or reserved: {first:#x}");
        ensure!(short & 0x80 == 0, "a server does not mask");
        let header = match short {
            126 => 4,
            127 => 10,
            _ => 2,
        };
        ensure!(self.fill(header).await?, "half a frame");
        let length = match header {
            2 => usize::from(short),
            _ => self.buffer[2..header]
                .iter()
                .fold(0, |sum, byte| sum << 8 | usize::from(*byte)),
        };
        ensure!(self.fill(header + length).await?, "half a frame");
        self.buffer.drain(..header);
        Ok(Some((first & 0x0f, self.buffer.drain(..length).collect())))
    }

    /// Reads until the close frame: its code.
    pub(crate) async fn close_code(&mut self) -> anyhow::Result<u16> {
        while let Some((opcode, payload)) = self.frame().await? {
            if opcode == 8 {
                let code = payload.get(..2).context("a code")?;
                return Ok(u16::from_be_bytes([code[0], code[1]]));
            }
        }
        anyhow::bail!("the connection ended without a close frame")
    }

    /// Reads until the end of the connection; gives what came.
    pub(crate) async fn end(&mut self) -> anyhow::Result<Vec<u8>> {
        loop {
            match self.more().await {
                Ok(true) => {}
                Ok(false) => break,
                // A reset is an end, too.
                Err(error) if error.is::<std::io::Error>() => break,
                Err(error) => return Err(error),
            }
        }
        Ok(std::mem::take(&mut self.buffer))
    }
}
