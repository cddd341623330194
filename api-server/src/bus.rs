//! This process's own end of the bus: answers to its questions, and orders.
use std::convert::Infallible;

use hubbub_bus::{Asker, Event, Inbox};
use hubbub_protocol::{BusChannel, Command, PodId, PodMessage};
use hubbub_service::Lifecycle;
use prometheus_client::metrics::counter::Counter;
use tokio_util::sync::CancellationToken;

/// Reads what arrives on `pod-<id>`, until `stop`. What cannot be read is counted and dropped: a
/// newer process may have sent it.
pub(crate) async fn drain_inbox(
    mut inbox: Inbox,
    me: PodId,
    asker: Asker,
    lifecycle: Lifecycle,
    bad: Counter,
    stop: CancellationToken,
) -> Result<(), Infallible> {
    let own = BusChannel::Pod(me);
    let mut events = Vec::new();
    loop {
        // Waits for the end, or for events.
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = inbox.recv_all(&mut events) => {}
        }
        for event in events.drain(..) {
            let Event::Message { channel, payload } = event else {
                // A gap costs at most answers, which the asker asks for again.
                continue;
            };
            if channel != own {
                continue;
            }
            match serde_json::from_slice(&payload) {
                Ok(PodMessage::Reply {
                    request,
                    pod,
                    answer,
                }) => asker.on_reply(request, pod, answer),
                Ok(PodMessage::Command(Command::Drain {})) => {
                    lifecycle.begin_drain("a command on the bus");
                }
                // Questions go to pods with sockets; probes are the bus's own.
                Ok(PodMessage::Ask { .. } | PodMessage::Probe { .. }) => {}
                Err(error) => {
                    bad.inc();
                    tracing::debug!(%error, "message to this process not understood");
                }
            }
        }
    }
}
