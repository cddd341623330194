use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use hubbub_protocol::{
    ChannelId, ErrorBody, ErrorCode, MessageId, MessageReply, Outcome, RequestId, Seq,
};
use rand::Rng;
use tokio::time::Instant;

use crate::{Backoff, Change, SendResult, Sent, pacer::Pacer};

/// Messages and changes on their way, in the order in which the application sent them: each is sent again,
/// under the same id, until the server's answer is definite. No I/O.
#[derive(Debug)]
pub(crate) struct Outbox {
    window: usize,
    backoff: Backoff,
    next_order: u64,
    entries: BTreeMap<u64, Entry>,
    /// What is to be written, per channel; only those with something in them.
    queues: BTreeMap<ChannelId, Queue>,
    pacer: Pacer,
    in_flight: usize,
}

#[derive(Debug, Default)]
struct Queue {
    /// To be sent again, not before then (`None`: at once). The first one holds back the rest of
    /// the channel, so that an error does not turn the order round more than it must.
    again: BTreeMap<u64, Option<Instant>>,
    /// Never written to any connection.
    fresh: VecDeque<u64>,
}

impl Queue {
    /// What is to be written first, and when.
    fn head(&self) -> Option<(u64, Option<Instant>)> {
        match self.again.first_key_value() {
            Some((order, at)) => Some((*order, *at)),
            None => self.fresh.front().map(|order| (*order, None)),
        }
    }

    fn pop(&mut self) {
        if self.again.pop_first().is_none() {
            self.fresh.pop_front();
        }
    }
}

#[derive(Debug)]
struct Entry {
    channel: ChannelId,
    message_id: MessageId,
    /// A copy may be in the log.
    retry: bool,
    change: Change,
    in_flight: bool,
    backoff: Backoff,
}

impl Entry {
    fn encode(&mut self, request: i64) -> String {
        // Lent to the frame, so that a text is not copied for each attempt.
        let lent = std::mem::replace(&mut self.change, Change::Delete { target: Seq::ZERO });
        let frame = lent.into_frame(self.channel, self.message_id, self.retry);
        let json = frame.encode(Some(&RequestId::Number(request)));
        self.change = Change::of(frame).expect("it was made of a change");
        json
    }
}

/// What is to be written next.
#[derive(Debug)]
pub(crate) enum Next {
    /// This frame of this entry.
    Frame { order: u64, frame: String },
    /// The entry cannot be written at all.
    Settled { order: u64, result: SendResult },
}

impl Outbox {
    /// At most `window` messages on the wire; `backoff` paces what is refused without a delay.
    pub(crate) fn new(window: usize, backoff: Backoff) -> Self {
        Self {
            window: window.max(1),
            backoff,
            next_order: 0,
            entries: BTreeMap::new(),
            queues: BTreeMap::new(),
            pacer: Pacer::default(),
            in_flight: 0,
        }
    }

    /// Takes a change that has been checked; the caller bounds how many. Returns the number by
    /// which its settlement is named.
    pub(crate) fn push(
        &mut self,
        channel: ChannelId,
        change: Change,
        message_id: MessageId,
        retry: bool,
    ) -> u64 {
        let order = self.next_order;
        self.next_order += 1;
        self.entries.insert(
            order,
            Entry {
                channel,
                message_id,
                retry,
                change,
                in_flight: false,
                backoff: self.backoff.clone(),
            },
        );
        self.queues
            .entry(channel)
            .or_default()
            .fresh
            .push_back(order);
        order
    }

    /// The next frame to write, if the window and the delays allow one. `request` is the id of
    /// the request, `max_frame_bytes` what the server takes.
    pub(crate) fn next(
        &mut self,
        now: Instant,
        request: i64,
        max_frame_bytes: u64,
    ) -> Option<Next> {
        if !self.may_write() || !self.pacer.ready(now) {
            return None;
        }
        let order = self.pick(now)?;
        let entry = self
            .entries
            .get_mut(&order)
            .expect("pick names entries only");
        let frame = entry.encode(request);
        if frame.len() as u64 > max_frame_bytes {
            // JSON escapes can make a legal text longer than a frame. Sending it would end the
            // connection (1009), and coming back with it would end the next one.
            let error = ErrorBody::new(
                ErrorCode::TextTooLong,
                format!("as JSON the message has {} bytes", frame.len()),
            )
            .field("text")
            .limit(max_frame_bytes)
            .outcome(Outcome::Rejected);
            return Some(self.settle(order, Err(error)));
        }
        entry.in_flight = true;
        self.in_flight += 1;
        self.pacer.sent(now);
        Some(Next::Frame { order, frame })
    }

    fn may_write(&self) -> bool {
        let window = if self.pacer.is_active() {
            1
        } else {
            self.window
        };
        self.in_flight < window
    }

    fn pick(&mut self, now: Instant) -> Option<u64> {
        let due = |(channel, queue): (&ChannelId, &Queue)| match queue.head() {
            Some((order, at)) if at.is_none_or(|at| at <= now) => Some((order, *channel)),
            _ => None,
        };
        let (order, channel) = self.queues.iter().filter_map(due).min()?;
        let queue = self.queues.get_mut(&channel)?;
        queue.pop();
        if queue.head().is_none() {
            self.queues.remove(&channel);
        }
        Some(order)
    }

    /// The moment after `now` at which [`Self::next`] may have something that it has not now;
    /// `None`: after an event only.
    pub(crate) fn next_due(&self, now: Instant) -> Option<Instant> {
        if !self.may_write() {
            return None;
        }
        let heads = self.queues.values().filter_map(Queue::head);
        let first = heads.map(|(_, at)| at.unwrap_or(now)).min()?;
        let due = self.pacer.next_at().map_or(first, |at| at.max(first));
        (due > now).then_some(due)
    }

    /// The server answered the request of this entry. `None`: it is not over.
    pub(crate) fn on_reply(
        &mut self,
        order: u64,
        reply: Result<MessageReply, ErrorBody>,
        now: Instant,
        rng: &mut impl Rng,
    ) -> Option<SendResult> {
        let entry = self.entries.get_mut(&order)?;
        if !entry.in_flight {
            return None;
        }
        let unknown = |e: &ErrorBody| e.outcome == Some(Outcome::Unknown);
        match reply {
            Err(error) if error.retryable || unknown(&error) => {
                entry.in_flight = false;
                self.in_flight -= 1;
                // Only `rejected` says that no copy is in the log; a marked copy is shown by
                // the consumer's announcement alone, hence later.
                entry.retry |= error.outcome != Some(Outcome::Rejected);
                let floor = error.retry_after_ms.map(Duration::from_millis);
                let at = if error.code == ErrorCode::RateLimited {
                    // All wait then, and go one by one.
                    self.pacer.refused(now, floor.unwrap_or_default());
                    None
                } else {
                    Some(now + entry.backoff.next(rng, floor))
                };
                let queue = self.queues.entry(entry.channel).or_default();
                queue.again.insert(order, at);
                None
            }
            mut reply => {
                if let Err(error) = &mut reply
                    && entry.retry
                {
                    // The refusal is of this copy; an earlier one may be in the log.
                    error.outcome = Some(Outcome::Unknown);
                }
                let reply = reply.map(|r| Sent {
                    message_id: r.message_id,
                    seq: r.seq,
                    fence: r.fence,
                    ts_ms: r.ts_ms,
                });
                match self.settle(order, reply) {
                    Next::Settled { result, .. } => Some(result),
                    Next::Frame { .. } => None,
                }
            }
        }
    }

    fn settle(&mut self, order: u64, result: Result<Sent, ErrorBody>) -> Next {
        let entry = self.entries.remove(&order).expect("settled once");
        if entry.in_flight {
            self.in_flight -= 1;
        }
        Next::Settled {
            order,
            result: SendResult {
                channel: entry.channel,
                message_id: entry.message_id,
                result,
            },
        }
    }

    /// The connection is gone: what was on it may or may not be in the log.
    pub(crate) fn disconnected(&mut self) {
        for (order, entry) in &mut self.entries {
            if std::mem::take(&mut entry.in_flight) {
                entry.retry = true;
                let queue = self.queues.entry(entry.channel).or_default();
                queue.again.insert(*order, None);
            }
        }
        self.in_flight = 0;
    }

    /// What has no answer: the number of each, and whether a copy may be in the log.
    pub(crate) fn unsettled(&self) -> impl Iterator<Item = (u64, bool)> {
        self.entries
            .iter()
            .map(|(order, e)| (*order, e.in_flight || e.retry))
    }
}
