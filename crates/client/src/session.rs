use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    time::Duration,
};

use hubbub_protocol::{
    ChannelId, ClientFrame, ErrorBody, ErrorCode, Goodbye, Hello, JoinReply, Joined, MessageId,
    MessageReply, PresenceState, RequestId, Seq, ServerFrame, UserId, WatchReply,
};
use rand::{SeedableRng, rngs::SmallRng};
use tokio::time::Instant;

use crate::{
    Backoff, Change, Event, Limits, SendResult,
    listening::{Listening, Phase},
    marks::Marks,
    outbox::{Next, Outbox},
    pacer::Pacer,
    receipts::Receipts,
    standing::Standing,
};

/// Of one channel, `typing` is said at most so often: a server drops what comes sooner.
const TYPING: Duration = Duration::from_secs(3);
/// Channels whose `typing` waits to be written; more than a person types in at once.
const TYPING_CHANNELS: usize = 16;

/// What a session decided.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Output {
    /// For the application.
    Event(Event),
    /// The send of this number is over.
    Settled { order: u64, result: SendResult },
}

#[derive(Debug, PartialEq, Eq)]
enum Request {
    Join(ChannelId),
    Leave(ChannelId),
    Send(u64),
    Mark(ChannelId),
    Watch,
    Presence,
}

/// The protocol as a client speaks it, over any number of connections: what to write, what to
/// tell the application. A pure state machine: time is given, randomness is seeded.
#[derive(Debug)]
pub(crate) struct Session {
    limits: Limits,
    rng: SmallRng,
    /// The bound of this connection's frames; `None` while there is none.
    max_frame_bytes: Option<u64>,
    next_request: i64,
    requests: HashMap<i64, Request>,
    channels: BTreeMap<ChannelId, Listening>,
    /// To be written first: a channel that is in both is left and joined again.
    leaves: VecDeque<ChannelId>,
    /// To be written before sends.
    joins: VecDeque<ChannelId>,
    join_pacer: Pacer,
    outbox: Outbox,
    /// Whether `synced` marks a channel as delivered.
    marks_delivered: bool,
    marks: Marks,
    receipts: Receipts,
    watched: Standing<Vec<UserId>>,
    presence: Standing<PresenceState>,
    /// To be written, oldest first; forgotten with the connection.
    typing: VecDeque<ChannelId>,
    /// When it was last said, of the channels of a moment ago.
    typed: BTreeMap<ChannelId, Instant>,
    /// Decisions that nobody has taken yet; bounded, since nothing is read until they are.
    pub(crate) outputs: VecDeque<Output>,
    /// The server is about to close, and since when that is known: nothing more is written, so
    /// that what is on the wire is answered before the close.
    goodbye: Option<(Goodbye, Instant)>,
    /// What the last `rate_limited` asked for: close code 4009 refers to it.
    rate_delay: Option<Duration>,
    /// The last text frame, or the moment from which a reply was owed.
    progress: Option<Instant>,
}

impl Session {
    pub(crate) fn new(limits: Limits, marks_delivered: bool, seed: u64) -> Self {
        let backoff = Backoff::new(limits.backoff_first, limits.backoff_cap);
        Self {
            rng: SmallRng::seed_from_u64(seed),
            max_frame_bytes: None,
            next_request: 1,
            requests: HashMap::new(),
            channels: BTreeMap::new(),
            leaves: VecDeque::new(),
            joins: VecDeque::new(),
            join_pacer: Pacer::default(),
            outbox: Outbox::new(limits.in_flight, backoff),
            marks_delivered,
            marks: Marks::default(),
            receipts: Receipts::default(),
            watched: Standing::new(),
            presence: Standing::new(),
            typing: VecDeque::new(),
            typed: BTreeMap::new(),
            outputs: VecDeque::new(),
            goodbye: None,
            rate_delay: None,
            progress: None,
            limits,
        }
    }

    pub(crate) fn rng(&mut self) -> &mut SmallRng {
        &mut self.rng
    }

    // --- the application

    /// Listens to a channel from now on, over all reconnects. A second call replaces the first.
    pub(crate) fn join(&mut self, channel: ChannelId, since: Option<Seq>, ordered: bool) {
        let listening = self.listening(since, ordered);
        self.channels.insert(channel, listening);
        self.joins.retain(|c| *c != channel);
        if self.max_frame_bytes.is_some() {
            self.joins.push_back(channel);
        }
    }

    fn listening(&self, since: Option<Seq>, ordered: bool) -> Listening {
        Listening::new(
            since,
            ordered,
            self.limits.ids_per_channel,
            self.limits.seqs_per_channel,
            Backoff::new(self.limits.backoff_first, self.limits.backoff_cap),
        )
    }

    /// Listens no more; nothing of the channel is given from here on.
    pub(crate) fn leave(&mut self, channel: ChannelId) {
        self.channels.remove(&channel);
        self.joins.retain(|c| *c != channel);
        if self.max_frame_bytes.is_some() {
            self.leaves.push_back(channel);
        } else {
            self.event(Event::Left { channel });
        }
    }

    /// Sends a checked change until the answer is definite. The caller bounds how many.
    pub(crate) fn send(
        &mut self,
        channel: ChannelId,
        change: Change,
        message_id: MessageId,
        retry: bool,
    ) -> u64 {
        self.outbox.push(channel, change, message_id, retry)
    }

    /// This device came so far; told to the server now or on the next connection.
    pub(crate) fn mark(&mut self, channel: ChannelId, delivered: Seq, read: Seq) {
        self.marks.advance(channel, delivered, read);
    }

    /// Says that the user types, if that was not said a moment ago; lost without a connection.
    pub(crate) fn typing(&mut self, channel: ChannelId, now: Instant) {
        self.typed.retain(|_, at| now - *at < TYPING);
        let is_new = !self.typed.contains_key(&channel);
        if is_new && self.max_frame_bytes.is_some() && self.typing.len() < TYPING_CHANNELS {
            self.typed.insert(channel, now);
            self.typing.push_back(channel);
        }
    }

    /// Says whether the user is at this device, now and on every connection.
    pub(crate) fn set_presence(&mut self, state: PresenceState) {
        self.presence.set(state);
    }

    /// Watches these users and no others, now and on every connection.
    pub(crate) fn watch(&mut self, users: Vec<UserId>) {
        self.watched.set(users);
    }

    /// Sends without an answer: number, and whether a copy may be in the log.
    pub(crate) fn unsettled(&self) -> impl Iterator<Item = (u64, bool)> {
        self.outbox.unsettled()
    }

    // --- the connection

    /// A connection is up; its `hello` came.
    pub(crate) fn connected(&mut self, hello: Hello, now: Instant) {
        self.max_frame_bytes = Some(hello.max_frame_bytes);
        self.progress = Some(now);
        self.goodbye = None;
        self.rate_delay = None;
        self.joins = self.channels.keys().copied().collect();
        self.presence.connected();
        self.watched.connected();
        self.event(Event::Connected(hello));
    }

    /// The connection is gone. Unacknowledged sends and all joins are kept for the next one.
    pub(crate) fn disconnected(&mut self, now: Instant) {
        self.max_frame_bytes = None;
        self.progress = None;
        self.joins.clear();
        self.typing.clear();
        self.marks.disconnected(now);
        // A leave that was written has no answer to wait for: the server listens for nobody whose
        // connection is gone.
        let requests = std::mem::take(&mut self.requests).into_iter();
        let mut left: Vec<_> = requests
            .filter_map(|(id, request)| match request {
                Request::Leave(channel) => Some((id, channel)),
                _ => None,
            })
            .collect();
        left.sort_unstable();
        let unwritten = std::mem::take(&mut self.leaves);
        for channel in left
            .into_iter()
            .map(|(_, channel)| channel)
            .chain(unwritten)
        {
            self.event(Event::Left { channel });
        }
        for listening in self.channels.values_mut() {
            listening.disconnected();
        }
        self.outbox.disconnected();
    }

    /// The delay that the server asked for before the next connection, if it named one: of its
    /// own for this client (`goodbye`), so that no jitter is needed.
    pub(crate) fn take_goodbye_delay(&mut self) -> Option<Duration> {
        let (goodbye, _) = self.goodbye.take()?;
        Some(Duration::from_millis(goodbye.reconnect_after_ms))
    }

    pub(crate) fn rate_delay(&self) -> Option<Duration> {
        self.rate_delay
    }

    /// The next text frame to write, if there is one that may be written now.
    pub(crate) fn next_frame(&mut self, now: Instant) -> Option<String> {
        let max_frame_bytes = self.max_frame_bytes?;
        if self.goodbye.is_some() {
            return None;
        }
        let id = RequestId::Number(self.next_request);
        if let Some(channel) = self.leaves.pop_front() {
            let frame = ClientFrame::Leave { channel }.encode(Some(&id));
            return Some(self.request(frame, Request::Leave(channel), now));
        }
        while self.join_pacer.ready(now)
            && let Some(channel) = self.joins.pop_front()
        {
            if let Some(listening) = self.channels.get_mut(&channel)
                && listening.phase == Phase::Queued
            {
                listening.phase = Phase::Asked(self.next_request);
                self.join_pacer.sent(now);
                let frame = ClientFrame::Join {
                    channel,
                    since: listening.since(),
                    ordered: listening.ordered,
                };
                let frame = frame.encode(Some(&id));
                return Some(self.request(frame, Request::Join(channel), now));
            }
        }
        if let Some(frame) = self.next_standing(now, &id) {
            return Some(frame);
        }
        loop {
            match self.outbox.next(now, self.next_request, max_frame_bytes)? {
                Next::Frame { order, frame } => {
                    return Some(self.request(frame, Request::Send(order), now));
                }
                Next::Settled { order, result } => self.settled(order, result),
            }
        }
    }

    /// What the server is to know, apart from joins and the log. All of it is rare or paced, so
    /// that sends, which come after, do not wait for it.
    fn next_standing(&mut self, now: Instant, id: &RequestId) -> Option<String> {
        if let Some(state) = self.presence.next(now) {
            let frame = ClientFrame::Presence { state: *state }.encode(Some(id));
            return Some(self.request(frame, Request::Presence, now));
        }
        if let Some(users) = self.watched.next(now) {
            let users = users.clone();
            let frame = ClientFrame::Watch { users }.encode(Some(id));
            return Some(self.request(frame, Request::Watch, now));
        }
        if let Some(mark) = self.marks.next(now) {
            let frame = ClientFrame::Mark(mark).encode(Some(id));
            return Some(self.request(frame, Request::Mark(mark.channel), now));
        }
        // Without an id: there is no answer to it.
        let channel = self.typing.pop_front()?;
        Some(ClientFrame::Typing { channel }.encode(None))
    }

    fn request(&mut self, frame: String, request: Request, now: Instant) -> String {
        if self.requests.is_empty() {
            self.progress = Some(now);
        }
        self.requests.insert(self.next_request, request);
        self.next_request += 1;
        frame
    }

    /// Joins whose delay is over are queued again. To be called before [`Self::next_frame`].
    pub(crate) fn tick(&mut self, now: Instant) {
        if self.max_frame_bytes.is_none() {
            return;
        }
        for (channel, listening) in &mut self.channels {
            if matches!(listening.phase, Phase::Delayed(at) if at <= now) {
                listening.phase = Phase::Queued;
                self.joins.push_back(*channel);
            }
        }
    }

    /// The moment after `now` at which [`Self::tick`] or [`Self::next_frame`] has something to do
    /// without an event before. To be called after [`Self::tick`].
    pub(crate) fn next_due(&self, now: Instant) -> Option<Instant> {
        self.max_frame_bytes?;
        if self.goodbye.is_some() {
            return None;
        }
        let joins = self.channels.values().filter_map(|l| match l.phase {
            Phase::Delayed(at) => Some(at),
            _ => None,
        });
        let paced = self.join_pacer.next_at().filter(|_| !self.joins.is_empty());
        joins
            .chain(paced)
            .filter(|at| *at > now)
            .chain(self.marks.next_due(now))
            .chain(self.presence.next_due(now))
            .chain(self.watched.next_due(now))
            .chain(self.outbox.next_due(now))
            .min()
    }

    /// When the server, if no text frame comes, has owed a reply for too long, or the close after
    /// its goodbye.
    pub(crate) fn stalls_at(&self) -> Option<Instant> {
        if let Some((_, said)) = &self.goodbye {
            return Some(*said + self.limits.reply);
        }
        if self.requests.is_empty() {
            return None;
        }
        self.progress.map(|at| at + self.limits.reply)
    }

    /// Time in which nothing was read does not count against the server.
    pub(crate) fn excuse(&mut self, now: Instant) {
        self.progress = Some(now);
    }

    // --- the server's frames

    /// One frame of the server, other than the first `hello`.
    pub(crate) fn on_frame(&mut self, frame: ServerFrame, now: Instant) {
        self.progress = Some(now);
        match frame {
            ServerFrame::Record { seq, body } => {
                let event = self.live(body.channel()).and_then(|l| l.record(seq, body));
                if let Some(event) = event {
                    self.event(event);
                }
            }
            ServerFrame::Synced { channel, seq } => {
                if let Some(listening) = self.live(channel) {
                    listening.synced(seq);
                    if self.marks_delivered && seq > Seq::ZERO {
                        self.marks.advance(channel, seq, Seq::ZERO);
                    }
                    self.event(Event::Synced { channel, seq });
                }
            }
            ServerFrame::Replay { channel, since } => {
                if let Some(listening) = self.live(channel) {
                    listening.replay();
                    self.event(Event::Replay { channel, since });
                }
            }
            ServerFrame::Left { channel } => {
                // Removed, or possibly so: the answer to another join tells. One that is on its
                // way already was asked after this frame was written, or answers it as well.
                if let Some(listening) = self.live(channel) {
                    listening.disconnected();
                    self.joins.push_back(channel);
                }
            }
            ServerFrame::Reply { reply_to, result } => self.on_reply(reply_to, result, now),
            ServerFrame::Goodbye(goodbye) => {
                self.goodbye = Some((goodbye.clone(), now));
                self.event(Event::Goodbye(goodbye));
            }
            ServerFrame::Joined(joined) => self.on_joined(joined),
            ServerFrame::Added { channel } => self.event(Event::Added { channel }),
            ServerFrame::Receipt(receipt) => {
                let news = self.receipts.news(receipt);
                news.into_iter().for_each(|r| self.event(Event::Receipt(r)));
            }
            ServerFrame::Typing(typing) => {
                if self.live(typing.channel).is_some() {
                    self.event(Event::Typing(typing));
                }
            }
            ServerFrame::Presence(presence) => self.event(Event::Presence(presence)),
            // A second hello says nothing new; a type of a newer server is ignored.
            ServerFrame::Hello(_) | ServerFrame::Pong | ServerFrame::Unknown(_) => {}
        }
    }

    /// The server joined us to a direct channel. One that we listen to, or are about to, is joined
    /// by our own request, which knows the cursor.
    fn on_joined(&mut self, joined: Joined) {
        // One that a leave crosses is over before it is told of.
        let leaves = self.leaves.contains(&joined.channel)
            || self.requests.values().any(
                |request| matches!(request, Request::Leave(channel) if *channel == joined.channel),
            );
        if leaves || self.channels.contains_key(&joined.channel) {
            return;
        }
        let mut listening = self.listening(None, false);
        listening.placed(joined.head);
        self.channels.insert(joined.channel, listening);
        self.event(Event::Direct(joined));
    }

    /// The channel, if its join has been answered.
    fn live(&mut self, channel: ChannelId) -> Option<&mut Listening> {
        self.channels
            .get_mut(&channel)
            .filter(|l| l.phase == Phase::Live)
    }

    fn on_reply(
        &mut self,
        reply_to: Option<RequestId>,
        result: Result<Box<str>, ErrorBody>,
        now: Instant,
    ) {
        if let Err(error) = &result
            && error.code == ErrorCode::RateLimited
        {
            self.rate_delay = error.retry_after_ms.map(Duration::from_millis);
        }
        let request = match &reply_to {
            Some(RequestId::Number(id)) => self.requests.remove(id).map(|r| (*id, r)),
            _ => None,
        };
        match (request, result) {
            (Some((id, Request::Join(channel))), result) => {
                let asked = |l: &&mut Listening| l.phase == Phase::Asked(id);
                if self.channels.get_mut(&channel).filter(asked).is_some() {
                    self.on_join_reply(channel, read(result), now);
                }
            }
            (Some((_, Request::Leave(channel))), _) => self.event(Event::Left { channel }),
            (Some((_, Request::Send(order))), result) => {
                let reply = read::<MessageReply>(result);
                if let Some(result) = self.outbox.on_reply(order, reply, now, &mut self.rng) {
                    self.settled(order, result);
                }
            }
            (Some((_, Request::Mark(channel))), result) => {
                self.marks
                    .on_reply(channel, result.as_ref().map(|_| ()), now);
            }
            (Some((_, Request::Watch)), result) => match read::<WatchReply>(result) {
                Ok(reply) => {
                    for presence in reply.users {
                        self.event(Event::Presence(presence));
                    }
                }
                Err(error) => {
                    let delay = retry_after(&error);
                    self.refused(error, |session| session.watched.refused(now, delay));
                }
            },
            (Some((_, Request::Presence)), Err(error)) => {
                let delay = retry_after(&error);
                self.refused(error, |session| session.presence.refused(now, delay));
            }
            (Some((_, Request::Presence)), Ok(_)) => {}
            (None, Err(error)) if reply_to.is_none() => self.event(Event::ServerError(error)),
            (None, _) => tracing::debug!("reply to a request that is not ours"),
        }
    }

    /// Something standing was refused: for now, or for good, which the application ought to know.
    fn refused(&mut self, error: ErrorBody, again: impl FnOnce(&mut Self)) {
        if error.retryable {
            again(self);
        } else {
            self.event(Event::ServerError(error));
        }
    }

    fn on_join_reply(
        &mut self,
        channel: ChannelId,
        reply: Result<JoinReply, ErrorBody>,
        now: Instant,
    ) {
        let Some(listening) = self.channels.get_mut(&channel) else {
            return;
        };
        let event = match reply {
            Ok(reply) => listening.joined(reply),
            Err(error) if error.retryable => {
                let floor = error.retry_after_ms.map(Duration::from_millis);
                if error.code == ErrorCode::RateLimited {
                    self.join_pacer.refused(now, floor.unwrap_or_default());
                }
                let retry_in = listening.backoff.next(&mut self.rng, floor);
                listening.phase = Phase::Delayed(now + retry_in);
                Event::JoinDelayed {
                    channel,
                    error,
                    retry_in,
                }
            }
            Err(error) => {
                self.channels.remove(&channel);
                self.marks.forget(channel);
                Event::JoinFailed { channel, error }
            }
        };
        self.event(event);
    }

    fn event(&mut self, event: Event) {
        self.outputs.push_back(Output::Event(event));
    }

    fn settled(&mut self, order: u64, result: SendResult) {
        self.outputs.push_back(Output::Settled {
            order,
            result: result.clone(),
        });
        self.event(Event::SendResult(result));
    }

    #[cfg(test)]
    pub(crate) fn remembered(&self, channel: ChannelId) -> (usize, usize) {
        self.channels
            .get(&channel)
            .map_or((0, 0), Listening::remembered)
    }
}

fn retry_after(error: &ErrorBody) -> Option<Duration> {
    error.retry_after_ms.map(Duration::from_millis)
}

/// The fields of an `ok` reply. One that cannot be read is an error that says nothing about
/// what became of the request, hence retryable.
fn read<T: serde::de::DeserializeOwned>(
    result: Result<Box<str>, ErrorBody>,
) -> Result<T, ErrorBody> {
    serde_json::from_str(&result?).map_err(|error| {
        let text = format!("the server's reply cannot be read: {error}");
        ErrorBody::new(ErrorCode::Internal, text)
    })
}
