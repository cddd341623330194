//! This process's own end of the bus: answers to its questions, orders, and what the dashboard
//! watches.
use std::convert::Infallible;

use hubbub_bus::{Asker, Event, Inbox};
use hubbub_protocol::{BusChannel, Command, PodId, PodMessage};
use hubbub_service::Lifecycle;
use prometheus_client::metrics::counter::Counter;
use tokio_util::sync::CancellationToken;

use crate::dashboard::Dashboard;

/// Reads what arrives on `pod-<id>` and for the dashboard, until `stop`. What cannot be read is counted and dropped: a
/// newer process may have sent it.
pub(crate) async fn drain_inbox(
    mut inbox: Inbox,
    me: PodId,
    (asker, dashboard): (Asker, Dashboard),
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
            let (channel, payload) = match event {
                Event::Message { channel, payload } => (channel, payload),
                Event::Subscribed(channel) => {
                    dashboard.on_subscribed(&channel);
                    continue;
                }
                // A gap costs answers, which the asker asks for again; the dashboard asks for all.
                Event::Lost => {
                    dashboard.on_lost();
                    continue;
                }
            };
            match channel {
                BusChannel::Dashboard => {
                    if !dashboard.on_event(&payload) {
                        bad.inc();
                    }
                    continue;
                }
                BusChannel::Channel(channel) => {
                    dashboard.on_channel(channel, &payload);
                    continue;
                }
                channel if channel != own => continue,
                _ => {}
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
                Ok(PodMessage::Snapshot(part)) => dashboard.on_snapshot(part),
                // Questions go to pods with sockets; probes are the bus's own.
                Ok(
                    PodMessage::Ask { .. }
                    | PodMessage::Probe { .. }
                    | PodMessage::Watch(_)
                    | PodMessage::Unwatch(_),
                ) => {}
                Err(error) => {
                    bad.inc();
                    tracing::debug!(%error, "message to this process not understood");
                }
            }
        }
    }
}
