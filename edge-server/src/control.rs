//! What arrives on `pods` and `pod-<id>`: questions, and orders to this process.

use std::sync::Arc;

use bytes::Bytes;
use hubbub_protocol::{Answer, BusChannel, Command, PodMessage, Question};

use crate::{Edge, hub::Turn};

/// Answers a question at once, or does what is ordered.
pub(crate) fn on_message(edge: &Arc<Edge>, payload: &Bytes, turn: &mut Turn) {
    let message: PodMessage = match serde_json::from_slice(payload) {
        Ok(message) => message,
        Err(error) => {
            edge.metrics.bus_event("malformed");
            tracing::warn!(error = %error, "malformed pod message on the bus");
            return;
        }
    };
    match message {
        PodMessage::Ask {
            request,
            reply_to,
            question,
        } => {
            let answer = match question {
                Question::Evict { channel, user } => {
                    edge.metrics.evictions.inc();
                    let (evicted, sockets) = edge.hub.evict(channel, user, edge.now_ms());
                    turn.merge(evicted);
                    tracing::info!(channel.id = %channel, user.id = %user, sockets, "evicted");
                    Answer::Evicted { sockets }
                }
                Question::Who { .. } | Question::Presence { .. } => {
                    edge.metrics.bus_event("unexpected");
                    return;
                }
            };
            // An answer that is lost is asked for again.
            let reply = PodMessage::Reply {
                request,
                pod: edge.pod.clone(),
                answer,
            };
            let to = BusChannel::Pod(reply_to);
            if edge
                .publisher
                .offer(&to, Bytes::from(reply.encode()))
                .is_err()
            {
                edge.metrics.bus_event("reply_dropped");
            }
        }
        PodMessage::Command(Command::Drain {}) => edge.begin_drain("ordered over the bus"),
        // Edges ask nothing yet, and probes end in the bus.
        PodMessage::Reply { .. } | PodMessage::Probe { .. } => edge.metrics.bus_event("unexpected"),
    }
}
