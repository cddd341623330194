//! The smallest exchange by which each kind of server proves that it serves.

use crate::postgres::wire;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

pub(crate) async fn redis_ping(addr: SocketAddr) -> bool {
    let exchange = async {
        let mut stream = TcpStream::connect(addr).await?;
        stream.write_all(b"*1\r\n$4\r\nPING\r\n").await?;
        let mut answer = [0; 7];
        stream.read_exact(&mut answer).await?;
        io::Result::Ok(&answer == b"+PONG\r\n")
    };
    exchange.await.unwrap_or(false)
}

/// A Metadata request, version 5, for no topic; ready when it names at least one broker.
pub(crate) async fn kafka_metadata(addr: SocketAddr) -> bool {
    const CLIENT: &[u8] = b"hubbub-stack";
    let exchange = async {
        let mut body = Vec::new();
        body.extend_from_slice(&3_i16.to_be_bytes()); // Metadata
        body.extend_from_slice(&5_i16.to_be_bytes()); // version
        body.extend_from_slice(&1_i32.to_be_bytes()); // correlation
        body.extend_from_slice(&(CLIENT.len() as i16).to_be_bytes());
        body.extend_from_slice(CLIENT);
        body.extend_from_slice(&0_i32.to_be_bytes()); // no topics
        body.push(0); // and none created
        let mut stream = TcpStream::connect(addr).await?;
        stream.write_i32(body.len() as i32).await?;
        stream.write_all(&body).await?;
        stream.read_i32().await?; // length
        stream.read_i32().await?; // correlation
        stream.read_i32().await?; // throttle
        io::Result::Ok(stream.read_i32().await? >= 1)
    };
    exchange.await.unwrap_or(false)
}

pub(crate) async fn postgres(addr: SocketAddr) -> bool {
    let session = tokio::task::spawn_blocking(move || {
        wire::Session::open(addr, "postgres", Duration::from_secs(1))?.run("select 1")
    });
    matches!(session.await, Ok(Ok(())))
}

/// The status of a `GET`, with the connection closed after it.
pub(crate) async fn http_status(addr: SocketAddr, path: &str) -> io::Result<u16> {
    let mut stream = TcpStream::connect(addr).await?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut head = [0; 12]; // "HTTP/1.1 200"
    stream.read_exact(&mut head).await?;
    let status = std::str::from_utf8(&head[9..]).ok();
    status
        .and_then(|s| s.parse().ok())
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "not an HTTP status line"))
}

pub(crate) async fn http_ok(addr: SocketAddr, path: &str) -> bool {
    matches!(http_status(addr, path).await, Ok(200))
}
