//! The accept loop: a permit for each socket, a bounded number of handshakes, fast refusal.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::JoinSet,
    time::{sleep, timeout},
};

use crate::{Edge, connection, handshake};

/// Handshakes under way at once. One more is refused: a queue without a bound makes a reconnect
/// storm permanent, since its clients have given up before their turn comes.
const HANDSHAKES: usize = 500;
/// A pause after a failed accept (no descriptors left), so that the loop does not spin.
const PAUSE: Duration = Duration::from_millis(50);
/// To write a refusal.
const REFUSAL_DEADLINE: Duration = Duration::from_secs(1);

/// Accepts until the drain begins, then waits for every connection to end.
pub(crate) async fn run(edge: Arc<Edge>, listener: TcpListener) -> Result<(), io::Error> {
    let permits = Arc::new(Semaphore::new(edge.config.max_connections));
    let handshakes = Arc::new(Semaphore::new(HANDSHAKES));
    let mut connections = JoinSet::new();
    loop {
        // Waits for: the moment after which nobody new is taken; a connection that ended, to
        // reap it; a new connection. All three are cancel-safe.
        tokio::select! {
            () = edge.stop_accepting.cancelled() => break,
            Some(ended) = connections.join_next() => report(&edge, ended),
            accepted = listener.accept() => match accepted {
                Ok((tcp, peer)) => {
                    let (edge, permits, handshakes) =
                        (Arc::clone(&edge), Arc::clone(&permits), Arc::clone(&handshakes));
                    connections.spawn(async move {
                        serve(edge, permits, handshakes, tcp, peer).await;
                    });
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

async fn serve(
    edge: Arc<Edge>,
    permits: Arc<Semaphore>,
    handshakes: Arc<Semaphore>,
    tcp: TcpStream,
    peer: SocketAddr,
) {
    let (Ok(_permit), Ok(handshake)) = (permits.try_acquire(), handshakes.try_acquire()) else {
        edge.metrics.handshake("no_room");
        refuse(tcp).await;
        return;
    };
    if let Err(error) = tcp.set_nodelay(true) {
        tracing::debug!(peer = %peer, error = %error, "set TCP_NODELAY");
        return;
    }
    if edge.config.send_buffer_bytes > 0 {
        let socket = socket2::SockRef::from(&tcp);
        if let Err(error) = socket.set_send_buffer_size(edge.config.send_buffer_bytes) {
            tracing::debug!(peer = %peer, error = %error, "set SO_SNDBUF");
        }
    }
    // Boxed, so that what the handshake needs is given back before the socket's long life.
    let accepted = Box::pin(handshake::perform(&edge, tcp, peer)).await;
    drop(handshake);
    if let Some(accepted) = accepted {
        connection::run(edge, accepted, peer).await;
    }
}

async fn refuse(mut tcp: TcpStream) {
    const REFUSAL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\n\
        content-type: application/json\r\nretry-after: 2\r\nconnection: close\r\n\
        content-length: 126\r\n\r\n\
        {\"error\":{\"code\":\"overloaded\",\"message\":\"this server has no room: \
        connect again\",\"retryable\":true,\"retry_after_ms\":2000}}    ";
    let answer = async {
        tcp.write_all(REFUSAL).await?;
        tcp.shutdown().await
    };
    // A client that does not even take a refusal is not waited for.
    timeout(REFUSAL_DEADLINE, answer).await.ok();
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;

    #[tokio::test]
    async fn refusal_is_a_whole_http_answer() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let addr = listener.local_addr().expect("bound");
        let mut client = TcpStream::connect(addr).await.expect("listening");
        refuse(listener.accept().await.expect("a client").0).await;
        let mut text = String::new();
        client
            .read_to_string(&mut text)
            .await
            .expect("closed after the answer");
        let (head, body) = text.split_once("\r\n\r\n").expect("a head and a body");
        assert!(
            head.contains(&format!("content-length: {}", body.len())),
            "{} {head}",
            body.len()
        );
        let reply: hubbub_protocol::ErrorReply = serde_json::from_str(body).expect("our error");
        assert!(reply.error.retryable);
    }
}
