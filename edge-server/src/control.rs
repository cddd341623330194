//! What arrives on `pods` and `pod-<id>`: questions, answers to this pod's own, and orders.

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
            let reply = |answer| {
                let reply = PodMessage::Reply {
                    request,
                    pod: edge.pod.clone(),
                    answer,
                };
                // An answer that is lost is asked for again, or its pod is called missing.
                let to = BusChannel::Pod(reply_to.clone());
                let payload = Bytes::from(reply.encode());
                if edge.publisher.offer(&to, payload).is_err() {
                    edge.metrics.bus_event("reply_dropped");
                }
            };
            match question {
                Question::Evict { channel, user } => {
                    edge.metrics.evictions.inc();
                    let (evicted, sockets) = edge.hub.evict(channel, user, edge.now_ms());
                    turn.merge(evicted);
                    tracing::info!(channel.id = %channel, user.id = %user, sockets, "evicted");
                    reply(Answer::Evicted { sockets });
                }
                Question::Who { channel } => {
                    // A channel that is held has no answer: who asks sees this pod as missing.
                    if let Some((sockets, truncated)) = edge.hub.who(channel, &edge.pod) {
                        reply(Answer::Who { sockets, truncated });
                    }
                }
                Question::Presence { users } => edge
                    .hub
                    .presence_of(&users, |states| reply(Answer::Presence { states })),
            }
        }
        PodMessage::Reply {
            request,
            pod,
            answer,
        } => {
            if let Answer::Presence { states } = &answer {
                // In its place among what the pod publishes, and in before it counts as answered.
                let said = states.iter().map(|one| (one.user, one.state));
                edge.hub.presence_said(&pod, said, &**edge, turn);
            }
            edge.asker.on_reply(request, pod, answer);
        }
        PodMessage::Command(Command::Drain {}) => edge.begin_drain("ordered over the bus"),
        PodMessage::Watch(watch) => edge.dashboard.watch(&watch, edge.now_ms()),
        PodMessage::Unwatch(unwatch) => edge.dashboard.unwatch(&unwatch, edge.now_ms()),
        // Probes end in the bus, and snapshots go to API servers.
        PodMessage::Probe { .. } | PodMessage::Snapshot(_) => edge.metrics.bus_event("unexpected"),
    }
}
