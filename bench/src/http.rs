//! Requests over connections that are kept: as cheap for the client as can be, since only the
//! server's time counts.

use anyhow::{Context, Result, bail, ensure};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

/// One answer may take this long.
const ANSWER: Duration = Duration::from_secs(10);
/// The head of an answer is smaller.
const HEAD_BYTES: usize = 16 * 1024;

/// A connection that is kept from request to request.
#[derive(Debug)]
struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    async fn open(addr: SocketAddr) -> Result<Self> {
        let stream = timeout(ANSWER, TcpStream::connect(addr)).await;
        let stream = stream.context("no connection in time")??;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            buffer: Vec::with_capacity(HEAD_BYTES),
        })
    }

    /// Sends a request and reads its answer, which must be a 200 with a length. Gives the range of
    /// the body in the buffer.
    async fn ask(&mut self, request: &[u8]) -> Result<std::ops::Range<usize>> {
        timeout(ANSWER, async {
            self.stream.write_all(request).await?;
            self.buffer.clear();
            loop {
                if let Some(body) = body_of(&self.buffer)? {
                    while self.buffer.len() < body.end {
                        self.read().await?;
                    }
                    ensure!(self.buffer.len() == body.end, "more than was asked for");
                    return Ok(body);
                }
                self.read().await?;
            }
        })
        .await
        .context("no answer in time")?
    }

    async fn read(&mut self) -> Result<()> {
        let read = self.stream.read_buf(&mut self.buffer).await?;
        ensure!(read > 0, "the server closed the connection");
        Ok(())
    }
}

/// Where the body will lie, as soon as the head is complete.
fn body_of(bytes: &[u8]) -> Result<Option<std::ops::Range<usize>>> {
    let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
        ensure!(bytes.len() < HEAD_BYTES, "the answer's head does not end");
        return Ok(None);
    };
    let head = std::str::from_utf8(&bytes[..end]).context("read the answer's head")?;
    let mut lines = head.lines();
    let status = lines.next().unwrap_or_default();
    if status.split(' ').nth(1) != Some("200") {
        bail!("{status}: {}", String::from_utf8_lossy(&bytes[end..]));
    }
    let length = lines.find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length")
            .then(|| value.trim())
    });
    let length: usize = length.context("an answer without a length")?.parse()?;
    Ok(Some(end + 4..end + 4 + length))
}

/// The bytes of a `GET`. `headers` end with a line end each.
#[must_use]
pub fn request(addr: SocketAddr, path: &str, headers: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: {addr}\r\n{headers}\r\n").into_bytes()
}

/// One `GET`.
///
/// # Errors
/// When the answer is no 200.
pub async fn get(addr: SocketAddr, path: &str, headers: &str) -> Result<String> {
    let mut connection = Connection::open(addr).await?;
    let body = connection.ask(&request(addr, path, headers)).await;
    let body = body.with_context(|| format!("GET {path}"))?;
    let text = std::str::from_utf8(&connection.buffer[body]);
    Ok(text.context("an answer in UTF-8")?.to_owned())
}

/// Asks `requests` again and again, by turns, until `count` were answered, over `connections`
/// connections, one at a time on each. Gives the bytes of all bodies.
///
/// # Errors
/// When an answer is no 200.
pub async fn load(
    addr: SocketAddr,
    connections: usize,
    count: usize,
    requests: &[Vec<u8>],
) -> Result<u64> {
    let mut tasks = JoinSet::new();
    for number in 0..connections {
        let requests = requests.to_vec();
        let mut connection = Connection::open(addr).await?;
        tasks.spawn(async move {
            let mut bytes = 0;
            for turn in (number..count).step_by(connections) {
                let body = connection.ask(&requests[turn % requests.len()]).await?;
                bytes += body.len() as u64;
            }
            anyhow::Ok(bytes)
        });
    }
    let mut bytes = 0;
    while let Some(done) = tasks.join_next().await {
        bytes += done.context("a connection's task")??;
    }
    Ok(bytes)
}

/// An answer and how long it took.
#[derive(Debug)]
pub struct Answer {
    /// From the first byte of the request to the last one of the answer.
    pub took: Duration,
    /// Its body.
    pub body: Vec<u8>,
}

/// Asks one thing `count` times, over `connections` that are all open before the first question,
/// one at a time on each.
///
/// # Errors
/// When an answer is no 200.
pub async fn timed(
    addr: SocketAddr,
    connections: usize,
    count: usize,
    request: &[u8],
) -> Result<Vec<Answer>> {
    let mut open = Vec::new();
    for _ in 0..connections {
        open.push(Connection::open(addr).await?);
    }
    let mut tasks = JoinSet::new();
    for (number, mut connection) in open.into_iter().enumerate() {
        let request = request.to_vec();
        tasks.spawn(async move {
            let mut answers = Vec::new();
            for _ in (number..count).step_by(connections) {
                let begun = Instant::now();
                let body = connection.ask(&request).await?;
                answers.push(Answer {
                    took: begun.elapsed(),
                    body: connection.buffer[body].to_vec(),
                });
            }
            anyhow::Ok(answers)
        });
    }
    let mut answers = Vec::new();
    while let Some(done) = tasks.join_next().await {
        answers.extend(done.context("a connection's task")??);
    }
    Ok(answers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_are_found_by_their_length() {
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel";
        assert_eq!(body_of(answer).expect("a 200"), Some(38..43));
        assert_eq!(body_of(&answer[..20]).expect("half a head"), None);
        assert!(body_of(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n").is_err());
        assert!(body_of(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
    }
}
