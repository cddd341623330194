//! One connection through the proxy.

use super::pump::{Failure, Pump};
use super::{Conditions, Counters, Route};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::time::timeout;

/// A server that does not take a connection by then is as good as down.
const CONNECT: Duration = Duration::from_secs(2);

enum End {
    /// Both ways came to their end.
    Orderly,
    /// A side went away, or was not there.
    Broken,
    /// By command.
    Cut,
    Silenced,
}

struct OpenGuard(Arc<Counters>);

impl OpenGuard {
    fn new(counters: Arc<Counters>) -> Self {
        counters.open.fetch_add(1, Ordering::SeqCst);
        Self(counters)
    }
}

impl Drop for OpenGuard {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Carries one connection until both ways are at their end, an error, or a command.
pub(super) async fn carry(
    client: TcpStream,
    route: Arc<Route>,
    mut conditions: watch::Receiver<Conditions>,
    counters: Arc<Counters>,
) {
    let open = OpenGuard::new(counters);
    let counters = &open.0;
    let made = *conditions.borrow_and_update();
    let Some(server) = connect(&route).await else {
        client.set_zero_linger().ok();
        return;
    };
    client.set_nodelay(true).ok();
    server.set_nodelay(true).ok();
    let (mut client, mut server) = (client, server);
    let mut end = run(&mut client, &mut server, made, &mut conditions, counters).await;
    if matches!(end, End::Silenced) {
        counters.silenced.fetch_add(1, Ordering::SeqCst);
        // The sender is gone only when the proxy is, and then this task is about to be aborted.
        let cut = conditions.wait_for(|now| now.cuts != made.cuts).await;
        cut.map(drop).ok();
        end = End::Cut;
    }
    if matches!(end, End::Cut) {
        counters.cut.fetch_add(1, Ordering::SeqCst);
    }
    if !matches!(end, End::Orderly) {
        client.set_zero_linger().ok();
        server.set_zero_linger().ok();
    }
}

async fn run(
    client: &mut TcpStream,
    server: &mut TcpStream,
    made: Conditions,
    conditions: &mut watch::Receiver<Conditions>,
    counters: &Counters,
) -> End {
    let pump = |way| Pump::new(way, made, conditions.clone(), &counters.forwarded[way]);
    let (to_server, to_client) = (pump(0), pump(1));
    let (client_read, client_write) = client.split();
    let (server_read, server_write) = server.split();
    let both = async {
        tokio::try_join!(
            to_server.run(client_read, server_write),
            to_client.run(server_read, client_write)
        )
    };
    // Waits for: the end of both ways; a command.
    tokio::select! {
        ended = both => match ended {
            Ok(_) => End::Orderly,
            Err(Failure::Torn) => End::Cut,
            Err(Failure::Broken) => End::Broken,
        },
        now = conditions.wait_for(|now| now.ends(&made)) => {
            match now {
                Ok(now) if now.cuts == made.cuts => End::Silenced,
                _ => End::Cut,
            }
        }
    }
}

async fn connect(route: &Route) -> Option<TcpStream> {
    for &upstream in &route.upstreams {
        let attempt = connect_to(upstream, route.buffer_bytes);
        if let Ok(Ok(server)) = timeout(CONNECT, attempt).await {
            return Some(server);
        }
    }
    None
}

async fn connect_to(upstream: SocketAddr, buffer_bytes: Option<u32>) -> io::Result<TcpStream> {
    let socket = if upstream.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    set_buffers(&socket, buffer_bytes)?;
    socket.connect(upstream).await
}

/// A segment's size where buffers are small, as a real network has it. Loopback's own is 64 KiB: a
/// sender holds back what is larger than the window and sends what fits of it once in 200 ms
/// (RFC 9293, 3.8.6.2.1), so that a reader who had been slow stayed slow for long.
const SEGMENT_BYTES: u32 = 1448;

/// Only before a socket connects or listens does its size bound the window that it announces.
pub(super) fn set_buffers(socket: &TcpSocket, bytes: Option<u32>) -> io::Result<()> {
    if let Some(bytes) = bytes {
        socket.set_recv_buffer_size(bytes)?;
        socket.set_send_buffer_size(bytes)?;
        socket2::SockRef::from(socket).set_tcp_mss(SEGMENT_BYTES)?;
    }
    Ok(())
}
