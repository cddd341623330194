//! The accept loop: a permit for each socket, a bounded number of handshakes, fast refusal.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use hubbub_service::http::refuse;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinSet,
    time::sleep,
};

use crate::{
    Edge, connection,
    handshake::{self, Accepted},
};

/// Handshakes under way at once. One more is refused: a queue without a bound makes a reconnect
/// storm permanent, since its clients have given up before their turn comes.
const HANDSHAKES: usize = 500;
/// A pause after a failed accept (no descriptors left), so that the loop does not spin.
const PAUSE: Duration = Duration::from_millis(50);
/// Clients that are told at one time that there is no room; above it they are closed without a word.
const REFUSALS: usize = 64;
/// What a refused client is told, and to wait how long.
const NO_ROOM: &str = "this server has no room: connect again";
const RETRY_AFTER: Duration = Duration::from_secs(2);

/// What the kernel takes for a client beyond what is on its way. Left to itself it takes megabytes
/// for each that reads slowly, and copies them for nothing: the store has them.
/// A client takes bytes, for us, when the kernel does, half of this at a time: one that reads 350 B/s
/// is still seen to live.
const UNSENT_BYTES: u32 = 16 * 1024;

/// Accepts until the drain begins, then waits for every connection to end.
pub(crate) async fn run(edge: Arc<Edge>, listener: TcpListener) -> Result<(), io::Error> {
    let room = Room {
        connections: Arc::new(Semaphore::new(edge.config.max_connections)),
        handshakes: Arc::new(Semaphore::new(HANDSHAKES)),
        refusals: Arc::new(Semaphore::new(REFUSALS)),
    };
    let mut connections = JoinSet::new();
    loop {
        // Waits for: the moment after which nobody new is taken; a connection that ended, to
        // reap it; a new connection. All three are cancel-safe.
        tokio::select! {
            () = edge.stop_accepting.cancelled() => break,
            Some(ended) = connections.join_next() => report(&edge, ended),
            accepted = listener.accept() => match accepted {
                Ok((tcp, peer)) => {
                    connections.spawn(serve(Arc::clone(&edge), room.clone(), tcp, peer));
                }
                Err(error) => {
                    edge.metrics.accept_errors.inc();
                    tracing::warn!(error = %error, "accept a connection");
                    sleep(PAUSE).await;
                }
            },
        }
    }
    drop(listener);
    while let Some(ended) = connections.join_next().await {
        report(&edge, ended);
    }
    Ok(())
}

/// A panic costs one socket: its guard has taken it out of the hub; the client comes back.
fn report(edge: &Edge, ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        edge.metrics.panics.inc();
        tracing::error!(error = %error, "a connection's task panicked");
    }
}

/// What those who come must find room in.
#[derive(Debug, Clone)]
pub(crate) struct Room {
    connections: Arc<Semaphore>,
    handshakes: Arc<Semaphore>,
    refusals: Arc<Semaphore>,
}

/// The life of a connection. What lets it in is boxed, and given back before the socket's long
/// life; and no `async fn`, whose arguments would be held as long as that.
pub(crate) fn serve(
    edge: Arc<Edge>,
    room: Room,
    tcp: TcpStream,
    peer: SocketAddr,
) -> impl Future<Output = ()> + Send {
    let admitted = Box::pin(admit(Arc::clone(&edge), room, tcp, peer));
    async move {
        let admitted = admitted.await;
        if let Some((_permit, accepted)) = admitted {
            connection::run(edge, accepted).await;
        }
    }
}

/// `None`: it was refused, or said nothing of use.
async fn admit(
    edge: Arc<Edge>,
    room: Room,
    tcp: TcpStream,
    peer: SocketAddr,
) -> Option<(OwnedSemaphorePermit, Box<Accepted>)> {
    let Ok(permit) = room.connections.clone().try_acquire_owned() else {
        return turn_away(&edge, &room, tcp).await;
    };
    // A connection that says nothing costs its own place and no handshake's.
    if !handshake::speaks(&edge, &tcp).await {
        return None;
    }
    let Ok(_handshake) = room.handshakes.try_acquire() else {
        return turn_away(&edge, &room, tcp).await;
    };
    if let Err(error) = prepare(&tcp, edge.config.send_buffer_bytes) {
        tracing::debug!(peer = %peer, error = %error, "set options of a socket");
        return None;
    }
    let accepted = handshake::perform(&edge, tcp, peer).await?;
    Some((permit, Box::new(accepted)))
}

/// Sets what the kernel is to know of a socket. `send_buffer_bytes` of 0 leaves the buffer to it.
fn prepare(tcp: &TcpStream, send_buffer_bytes: usize) -> io::Result<()> {
    tcp.set_nodelay(true)?;
    let socket = socket2::SockRef::from(tcp);
    socket.set_tcp_notsent_lowat(UNSENT_BYTES)?;
    if send_buffer_bytes > 0 {
        socket.set_send_buffer_size(send_buffer_bytes)?;
    }
    Ok(())
}

/// There is no room for it.
async fn turn_away<T>(edge: &Edge, room: &Room, tcp: TcpStream) -> Option<T> {
    edge.metrics.handshake("no_room");
    if let Ok(_refusal) = room.refusals.try_acquire() {
        refuse(tcp, NO_ROOM, RETRY_AFTER).await;
    }
    None
}
