//! The requests of a socket that are about people, and about messages that are there already.
//!
//! What has to look at the store first, and may have to wait for it, has a lane of its own: one
//! at a time, in the order of the requests, while sends and joins go on beside it.

use futures_util::future::BoxFuture;
use hubbub_chat::{Posting, receipt_of};
use hubbub_protocol::{Mark, MarkReply, PresenceState, Receipt, Typing};
use tokio::time::sleep;

use super::*;
use crate::{hub::Passed, rate::Limit};

/// Of changes of presence and watches of one socket: each reaches all pods.
pub(super) const LIMIT: Limit = Limit {
    rate: 5.0,
    burst: 20.0,
};
/// How often a membership is asked for again because somebody was evicted meanwhile.
const PROOFS: usize = 10;
/// A device may mark what another pod has only just published: it is on its way here.
const ON_ITS_WAY: Duration = Duration::from_millis(50);

/// What came of a look.
pub(super) enum Looked {
    Change(Result<Posting, ChatError>),
    Mark(Result<MarkReply, ChatError>),
}

/// The lane. Bounded by who fills it: at the bound no request is read.
#[derive(Default)]
pub(super) struct Slow(VecDeque<(Option<RequestId>, BoxFuture<'static, Looked>)>);

impl Slow {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The first one, once it is done. Cancel-safe: it goes on at the next call.
    pub(super) async fn next(&mut self) -> (Option<RequestId>, Looked) {
        let Some((_, look)) = self.0.front_mut() else {
            return std::future::pending().await;
        };
        let looked = look.await;
        let first = self.0.pop_front();
        (first.and_then(|(id, _)| id), looked)
    }
}

impl Connection {
    /// A change of a message, or a reply to one: the message is looked at first.
    pub(super) fn on_change(&mut self, id: Option<RequestId>, change: MessageChange) {
        self.figures.sends = self.figures.sends.saturating_add(1);
        let look = change_of(Arc::clone(&self.edge), self.identity.user, change);
        let look = look.map(Looked::Change).boxed();
        self.slow.0.push_back((id, look));
    }

    pub(super) fn on_mark(&mut self, id: Option<RequestId>, mark: Mark) {
        let receipt = receipt_of(self.identity.user, self.identity.device.clone(), mark);
        let edge = &self.edge;
        edge.check_lease();
        let write = |mark| edge.chat.append_mark(mark);
        if edge.hub.mark(receipt.clone(), edge.now_ms(), write) == Passed::Done {
            let channel = receipt.channel;
            return self.reply(id, &MarkReply { channel });
        }
        let look = mark_of(Arc::clone(edge), receipt);
        self.slow.0.push_back((id, look.map(Looked::Mark).boxed()));
    }

    pub(super) fn after_look(&mut self, looked: (Option<RequestId>, Looked)) -> Option<End> {
        match looked {
            (id, Looked::Change(Err(error))) if !is_rate(&error) => {
                let mut body = error.body();
                // Whatever it was: nothing was handed to the log.
                body.outcome.get_or_insert(Outcome::Rejected);
                self.fail(id, &body);
                None
            }
            (id, Looked::Change(posting)) => self.on_posting(id, posting),
            (id, Looked::Mark(Ok(reply))) => {
                self.reply(id, &reply);
                None
            }
            (id, Looked::Mark(Err(error))) => {
                self.fail(id, &error.body());
                None
            }
        }
    }

    /// The connection ends: what has not been looked at was not done.
    pub(super) fn refuse_slow(&mut self) {
        for (id, _) in std::mem::take(&mut self.slow.0) {
            let error = ErrorBody::new(ErrorCode::Draining, "this connection ends: come back");
            self.fail(id, &error.outcome(Outcome::Rejected));
        }
    }

    pub(super) fn on_typing(&mut self, id: Option<RequestId>, channel: ChannelId) {
        let user = self.identity.user;
        self.edge.check_lease();
        let typing = Typing { channel, user };
        let edge = &self.edge;
        match edge.hub.typing(typing, edge.now_ms(), &**edge) {
            Passed::Done | Passed::Above => self.reply(id, &OfChannel { channel }),
            Passed::NotVouched => self.ask_store(id, channel, Then::Typing(channel)),
        }
    }

    /// The store calls the user a member. Asked once only: while everything is held nobody here
    /// may keep its word, and that somebody types need not be shown.
    pub(super) fn on_typing_member(
        &mut self,
        id: Option<RequestId>,
        channel: ChannelId,
        evictions: u64,
    ) {
        let (edge, user) = (&self.edge, self.identity.user);
        if edge.hub.vouch(channel, user, evictions) {
            let typing = Typing { channel, user };
            edge.hub.typing(typing, edge.now_ms(), &**edge);
        }
        self.reply(id, &OfChannel { channel });
    }

    pub(super) fn on_presence(
        &mut self,
        id: Option<RequestId>,
        state: PresenceState,
    ) -> Option<End> {
        #[derive(Serialize)]
        struct Said {
            state: PresenceState,
        }
        if let Err(wait_ms) = self.people.take(LIMIT, self.edge.now_ms()) {
            return self.refuse_rate(id, wait_ms, "too many changes of presence");
        }
        let edge = &self.edge;
        let socket = self.socket.id;
        edge.hub.set_presence(socket, state, edge.now_ms(), &**edge);
        self.reply(id, &Said { state });
        None
    }

    pub(super) fn on_watch(&mut self, id: Option<RequestId>, users: Vec<UserId>) -> Option<End> {
        if let Err(wait_ms) = self.people.take(LIMIT, self.edge.now_ms()) {
            return self.refuse_rate(id, wait_ms, "too many watches");
        }
        let edge = &self.edge;
        let (socket, users) = (self.socket.id, users.into_iter().collect());
        let turn = edge.hub.watch(socket, id, users, edge.now_ms(), &**edge);
        edge.perform(turn);
        None
    }
}

fn is_rate(error: &ChatError) -> bool {
    matches!(error, ChatError::RateLimited { .. })
}

/// Looks at the message, then checks and appends under the hub's lock, so that an eviction falls
/// before or after both. Cancel-safe: nothing was appended before it is done.
async fn change_of(
    edge: Arc<Edge>,
    user: UserId,
    change: MessageChange,
) -> Result<Posting, ChatError> {
    let channel = change.channel();
    let permit = prove(&edge, channel, user).await?;
    let allowed = edge.chat.allow(permit, change).await?;
    for _ in 0..PROOFS {
        edge.check_lease();
        let by_cache = |()| {
            let permit = Permit::from_cache(channel, user);
            edge.chat.apply(permit, allowed.clone())
        };
        if let Ok(posting) = edge.hub.if_vouched(channel, user, (), by_cache) {
            return posting;
        }
        let evictions = edge.hub.evictions();
        let permit = edge.chat.permit(channel, user).await?;
        let by_store = |permit| edge.chat.apply(permit, allowed.clone());
        if let Ok(posting) = edge.hub.unless_evicted(evictions, permit, by_store) {
            return posting;
        }
    }
    Err(ChatError::Overloaded)
}

/// A permit: somebody here vouches for the membership, or the store does.
async fn prove(edge: &Edge, channel: ChannelId, user: UserId) -> Result<Permit, ChatError> {
    edge.check_lease();
    let by_cache = |()| Permit::from_cache(channel, user);
    if let Ok(permit) = edge.hub.if_vouched(channel, user, (), by_cache) {
        return Ok(permit);
    }
    let evictions = edge.hub.evictions();
    let permit = edge.chat.permit(channel, user).await?;
    edge.hub.vouch(channel, user, evictions);
    Ok(permit)
}

/// A mark whose membership nobody vouches for, or whose seq is not known here (yet).
async fn mark_of(edge: Arc<Edge>, mark: Receipt) -> Result<MarkReply, ChatError> {
    let (channel, user) = (mark.channel, mark.user);
    let write = |mark| edge.chat.append_mark(mark);
    let reply = MarkReply { channel };
    let mut stored = false;
    for _ in 0..PROOFS {
        prove(&edge, channel, user).await?;
        edge.check_lease();
        let now = edge.now_ms();
        let passed = if stored {
            edge.hub.mark_stored(mark.clone(), now, write)
        } else {
            edge.hub.mark(mark.clone(), now, write)
        };
        match passed {
            Passed::Done => return Ok(reply),
            // Everything is held, or somebody was evicted: the store alone can say, each time.
            Passed::NotVouched => {
                edge.chat.until_stored(channel, mark.delivered).await?;
                let evictions = edge.hub.evictions();
                let permit = edge.chat.permit(channel, user).await?;
                let by_store = |permit: Permit| {
                    permit
                        .check_fresh()
                        .map(|()| edge.chat.append_mark(mark.clone()))
                };
                if let Ok(written) = edge.hub.unless_evicted(evictions, permit, by_store) {
                    return written.map(|()| reply);
                }
            }
            Passed::Above => {
                sleep(ON_ITS_WAY).await;
                edge.check_lease();
                let now = edge.now_ms();
                if edge.hub.mark(mark.clone(), now, write) == Passed::Done {
                    return Ok(reply);
                }
                edge.chat.until_stored(channel, mark.delivered).await?;
                stored = true;
            }
        }
    }
    Err(ChatError::Overloaded)
}
