//! The sends of a socket that wait for the log: a list and one timer for all of them. A future
//! with a timer of its own for each would cost six allocations a message.

use std::{
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll, ready},
};

use hubbub_chat::{Error as ChatError, Posting};
use hubbub_protocol::{MessageReply, RequestId};
use tokio::time::{Instant, Sleep, sleep_until};

/// A send's answer.
pub(super) type Sent = (Option<RequestId>, Result<MessageReply, ChatError>);

/// Bounded by who fills it: at the bound no request is read. Empty it holds nothing, once the
/// deadline of the last send has passed: until then a busy socket keeps the room.
#[derive(Default)]
pub(super) struct Sends {
    /// The oldest first.
    waiting: Vec<(Option<RequestId>, Posting)>,
    /// Goes off at the deadline of the oldest, or earlier: of one that has been answered since.
    timer: Option<Pin<Box<Sleep>>>,
}

impl Sends {
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Whether it holds nothing at all: [`Self::next`] has nothing to do.
    pub(super) fn is_at_rest(&self) -> bool {
        self.is_empty() && self.timer.is_none()
    }

    pub(super) fn push(&mut self, id: Option<RequestId>, posting: Posting) {
        self.waiting.push((id, posting));
    }

    /// The next answer; never, if nothing waits. Cancel-safe.
    pub(super) async fn next(&mut self) -> Sent {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Sent> {
        for at in 0..self.waiting.len() {
            if let Poll::Ready(sent) = self.poll_at(at, false, cx) {
                return Poll::Ready(sent);
            }
        }
        ready!(self.poll_deadline(cx));
        self.poll_at(0, true, cx)
    }

    fn poll_at(&mut self, at: usize, late: bool, cx: &mut Context<'_>) -> Poll<Sent> {
        let result = ready!(self.waiting[at].1.poll_wait(late, cx));
        let (id, _) = self.waiting.remove(at);
        Poll::Ready((id, result))
    }

    /// Ready once the deadline of the oldest has passed.
    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let deadline = self.waiting.first().map(|(_, posting)| posting.deadline());
            match (&mut self.timer, deadline) {
                (None, None) => return Poll::Pending,
                (None, Some(deadline)) => self.timer = Some(Box::pin(sleep_until(deadline))),
                (Some(timer), deadline) => {
                    ready!(timer.as_mut().poll(cx));
                    match deadline {
                        None => *self = Self::default(),
                        Some(deadline) if deadline <= Instant::now() => return Poll::Ready(()),
                        Some(deadline) => timer.as_mut().reset(deadline),
                    }
                }
            }
        }
    }
}
