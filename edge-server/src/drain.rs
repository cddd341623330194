//! A planned end: nobody new, a goodbye to everybody, spread over a time; then the rest in order.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use hubbub_protocol::{CloseCode, Goodbye, ServerFrame};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::{Config, Edge, connection, socket::Socket};

/// Between a socket's goodbye and its close: what its client wrote before it read the goodbye
/// still arrives and is answered. As long as a busy machine may need to read and to write.
const LEAD: Duration = Duration::from_secs(1);
/// For the reports of what was appended to the log. Every socket has waited for its own sends
/// before, so that what has no report by now is older than the log's own patience, or its client
/// is gone; either comes again with the same id.
const FLUSH_DEADLINE: Duration = Duration::from_secs(2);
/// For the last events to the bus; what is lost there the feeds repair.
const BUS_FLUSH_DEADLINE: Duration = Duration::from_secs(1);
/// To give the lease back, which expires by itself.
const RELEASE_DEADLINE: Duration = Duration::from_secs(1);

/// The longest that a drain of `sockets` takes, step by step: the grace must hold it.
pub(crate) fn longest(sockets: usize, config: &Config) -> Duration {
    let window = every(config).mul_f64(sockets as f64);
    Duration::from_millis(config.drain_delay_ms)
        + window
        + LEAD
        + connection::LONGEST_CLOSE
        + FLUSH_DEADLINE
        + BUS_FLUSH_DEADLINE
        + RELEASE_DEADLINE
}

/// Between two goodbyes.
fn every(config: &Config) -> Duration {
    Duration::from_secs(1).div_f64(config.drain_rate.max(1) as f64)
}

/// The order of a drain, one function (docs/OPERATIONS.md has it for people):
///
/// 1. `/readyz` answers 404, and one check interval passes, so that the load balancer sends
///    nobody new; sockets live on. 2. No connection is accepted any more. 3. Every socket gets a
///    `goodbye`, `drain_rate` of them a second, and close 1012 a second after its own; each first
///    gets the answers to its sends. 4. The log's producer is flushed, then the bus. 5. The lease is given
///    back.
///
/// Cut short by the lifecycle's grace, it loses nothing: clients resume elsewhere.
pub(crate) async fn run(edge: Arc<Edge>) {
    edge.readiness.set_draining();
    let sockets = edge.hub.sockets();
    tracing::info!(sockets, "drain begins");
    sleep(Duration::from_millis(edge.config.drain_delay_ms)).await;
    edge.stop_accepting.cancel();
    // Handshakes that were under way may still register: each sends its own socket away.
    let sockets = edge.hub.all_sockets();
    send_away(sockets.into_iter().map(|(socket, _)| socket), &edge.config).await;
    while edge.hub.sockets() > 0 {
        edge.unregistered.notified().await;
    }
    edge.check_lease();
    edge.hub
        .write_marks(u64::MAX, |mark| edge.chat.append_mark(mark));
    if let Err(error) = edge.chat.flush(FLUSH_DEADLINE).await {
        tracing::warn!(error = %error, "flush the log's producer");
    }
    if timeout(BUS_FLUSH_DEADLINE, edge.publisher.flush())
        .await
        .is_err()
    {
        tracing::info!("the bus did not take the last events in time: the feeds repair that");
    }
    match timeout(RELEASE_DEADLINE, edge.leases.release(&edge.pod)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            tracing::warn!(error = %error, "release the lease: it expires by itself");
        }
        Err(_) => tracing::warn!("the lease was not released in time: it expires by itself"),
    }
    tracing::info!("drain done");
    edge.drained.cancel();
}

/// A goodbye to each at the pace of the configuration, and its close after [`LEAD`]. The pace is
/// kept by the clock: whatever a step takes, the next is due when it is due.
async fn send_away(sockets: impl Iterator<Item = Arc<Socket>>, config: &Config) {
    let (begun, every) = (Instant::now(), every(config));
    let mut waiting = sockets.zip(0..).peekable();
    let mut told: VecDeque<(Instant, Arc<Socket>)> = VecDeque::new();
    loop {
        let now = Instant::now();
        while let Some((_, socket)) = told.pop_front_if(|(close, _)| *close <= now) {
            close(&socket);
        }
        while let Some((socket, _)) = waiting.next_if(|(_, n)| begun + every * *n <= now) {
            if socket.close_requested().is_none() {
                say_goodbye(&socket);
                told.push_back((now + LEAD, socket));
            }
        }
        let goodbye = waiting.peek().map(|(_, n)| begun + every * *n);
        let close = told.front().map(|(close, _)| *close);
        match goodbye.into_iter().chain(close).min() {
            Some(due) => sleep_until(due).await,
            None => return,
        }
    }
}

/// Sends a socket away that has only just come.
pub(crate) fn turn_back(socket: &Socket) {
    say_goodbye(socket);
    close(socket);
}

fn say_goodbye(socket: &Socket) {
    // The others of this pod come back in the same time: a client waits a random part of a second
    // beside its place in the queue, so that the next pod sees no herd.
    let goodbye = Goodbye {
        reason: "restart".to_owned(),
        reconnect_after_ms: rand::random_range(50..1_000),
    };
    socket.push_text(&ServerFrame::encode_tagged("goodbye", &goodbye));
    // Its task writes it now, a quiet socket's, too: the close follows only after [`LEAD`].
    socket.wake.notify_one();
}

fn close(socket: &Socket) {
    socket.request_close(CloseCode::Restart, "restart");
}
