//! What is asked of the store before a request takes effect: whether the user is a member.

use std::{pin::Pin, sync::Arc};

use futures_util::FutureExt;
use hubbub_chat::{Error as ChatError, Permit};
use hubbub_protocol::{ChannelId, Outcome, RequestId, SendMessage, Seq};

use super::Connection;
use crate::hub::{JoinRefused, JoinRequest};

pub(super) type CheckFuture = Pin<Box<dyn Future<Output = Checked> + Send>>;

/// What was asked of the store on behalf of a request. One at a time, so that the requests of a
/// socket take effect in the order in which they came.
pub(super) struct Checked {
    pub(super) id: Option<RequestId>,
    then: Then,
    permit: Result<Permit, ChatError>,
    /// The hub's count of evictions before the question: a later one asks again.
    evictions: u64,
}

pub(super) enum Then {
    Join {
        channel: ChannelId,
        since: Option<Seq>,
        ordered: bool,
    },
    Send(SendMessage),
    /// Show that the user types there.
    Typing(ChannelId),
}

impl Connection {
    /// Whether the user is a member is asked of the primary; the request goes on in
    /// [`Self::after_check`].
    pub(super) fn ask_store(&mut self, id: Option<RequestId>, channel: ChannelId, then: Then) {
        let (edge, user) = (Arc::clone(&self.edge), self.identity.user);
        let evictions = edge.hub.evictions();
        self.check = Some(
            async move {
                let permit = edge.chat.permit(channel, user).await;
                Checked {
                    id,
                    then,
                    permit,
                    evictions,
                }
            }
            .boxed(),
        );
    }

    pub(super) fn after_check(&mut self, checked: Checked) {
        // A lease that has lapsed counts as an eviction, so that it is asked again below.
        self.edge.check_lease();
        let Checked {
            id,
            then,
            permit,
            evictions,
        } = checked;
        let permit = match permit {
            Ok(permit) => permit,
            Err(error) => {
                let send = matches!(then, Then::Send(_));
                let mut body = error.body();
                if send && body.outcome.is_none() {
                    body = body.outcome(Outcome::Rejected);
                }
                self.fail(id, &body);
                return;
            }
        };
        match then {
            Then::Join {
                channel,
                since,
                ordered,
            } => {
                let request = JoinRequest {
                    channel,
                    since,
                    ordered,
                    id: id.clone(),
                    evictions,
                    by_edge: None,
                };
                if let Err(stale) = self.edge.join(self.socket.id, request) {
                    match stale {
                        JoinRefused::Evicted => {
                            self.ask_store(
                                id,
                                channel,
                                Then::Join {
                                    channel,
                                    since,
                                    ordered,
                                },
                            );
                        }
                        JoinRefused::Gone => {}
                    }
                }
            }
            Then::Send(send) => {
                let (edge, channel) = (Arc::clone(&self.edge), send.channel);
                edge.hub.vouch(channel, permit.user(), evictions);
                let posted = edge
                    .hub
                    .unless_evicted(evictions, send, |send| edge.chat.post(permit, send));
                match posted {
                    Ok(posting) => {
                        if let Some(end) = self.on_posting(id, posting) {
                            self.socket.request_close(end.code, &end.reason);
                        }
                    }
                    // The eviction may have been this user's: ask again.
                    Err(send) => self.ask_store(id, channel, Then::Send(send)),
                }
            }
            Then::Typing(channel) => {
                self.on_typing_member(id, channel, evictions);
            }
        }
    }
}
