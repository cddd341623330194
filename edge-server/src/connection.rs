//! One socket from its registration to its end: requests in, replies and frames out.
//!
//! A task and a guard. The task reads requests and answers them; deliveries are written by the
//! fan-out itself (`socket.rs`), so this task sleeps while its client only listens.

mod checks;
mod closing;
mod people;
mod sends;

use std::{collections::VecDeque, net::SocketAddr, sync::Arc, time::Duration};

use futures_util::{FutureExt, StreamExt};
use hubbub_chat::{Error as ChatError, MessageChange, Permit};
use hubbub_protocol::{
    ChannelId, ClientFrame, CloseCode, ErrorBody, ErrorCode, Hello, MessageReply, Outcome,
    RequestId, SendMessage, ServerFrame, UserId, limits, reply_error, reply_ok,
};
use serde::Serialize;
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        self, Message,
        protocol::{Role, WebSocketConfig},
    },
};

pub(crate) use self::closing::LONGEST_CLOSE;
use self::{
    checks::{CheckFuture, Then},
    closing::{End, end_of},
    people::Slow,
    sends::Sends,
};
use crate::{
    Edge, drain,
    handshake::{Accepted, Identity},
    hub::{Registration, connection_id},
    rate::{Bucket, Strikes},
    socket::{Flushed, Socket, WireStream},
};

/// Sends of one socket that wait for the log: more than a user may send at once, so that such a
/// burst goes in one piece. At the bound its requests are no longer read: TCP carries the pressure
/// back to the client.
const SENDS_IN_FLIGHT: usize = 64;
/// Messages of the client that are taken up before what they were answered is written.
const MESSAGES_A_TURN: usize = 64;

#[derive(Debug, Default)]
struct Figures {
    frames_in: u32,
    sends: u32,
}

struct Connection {
    edge: Arc<Edge>,
    socket: Arc<Socket>,
    identity: Identity,
    sends: Sends,
    check: Option<CheckFuture>,
    slow: Slow,
    frames: Bucket,
    /// Of requests that reach all pods: presence and watches.
    people: Bucket,
    strikes: Strikes,
    figures: Figures,
    started_ms: u64,
    peer: SocketAddr,
}

/// Serves an upgraded connection until it ends. The socket is in the hub exactly as long.
///
/// No `async fn`, whose arguments, and what was made of them, would be held as long as that.
pub(crate) fn run(edge: Arc<Edge>, accepted: Box<Accepted>) -> impl Future<Output = ()> + Send {
    let begun = Box::pin(begin(edge, accepted));
    async move {
        let (mut connection, mut ws, registration) = begun.await;
        let end = connection.serve(&mut ws).await;
        if end.tell {
            // Boxed, too: what a close needs is not held for a socket's long life.
            Box::pin(connection.close(&mut ws, &end, registration)).await;
        } else if connection.edge.flush(&connection.socket) == Flushed::Blocked {
            // The answer to the client's own close frame does not fit: it is not waited for.
            tracing::debug!(connection.id = connection.id(), "closed with bytes unsent");
        }
        connection.note(&end);
    }
}

/// Greets the client and registers its socket.
async fn begin(
    edge: Arc<Edge>,
    accepted: Box<Accepted>,
) -> (Connection, WebSocketStream<WireStream>, Registration) {
    let Accepted {
        identity,
        tcp,
        early,
        peer,
    } = *accepted;
    let now = edge.now_ms();
    let socket = Socket::new(edge.hub.next_socket_id(), tcp, now);
    // The defaults are made for clients: a read buffer of 128 KiB a socket, zeroed at each read,
    // messages of 64 MiB, and a write buffer without a bound. The read buffer is there as long as
    // the socket; how much is read at once is the stream's affair.
    let config = WebSocketConfig::default()
        .read_buffer_size(256)
        .write_buffer_size(0)
        .max_write_buffer_size(256 * 1024)
        .max_message_size(Some(limits::FRAME_BYTES))
        .max_frame_size(Some(limits::FRAME_BYTES));
    let stream = WireStream::new(Arc::clone(&socket));
    let ws = WebSocketStream::from_partially_read(stream, early, Role::Server, Some(config)).await;

    greet(&edge, &socket, &identity);
    let registration = Registration::new(Arc::clone(&edge), &socket, &identity);
    if edge.is_draining() {
        // The drain may have looked for sockets before this one was there.
        drain::turn_back(&socket);
    }
    let connection = Connection {
        frames: Bucket::new(edge.config.frame_limit(), now),
        people: Bucket::new(people::LIMIT, now),
        strikes: Strikes::default(),
        figures: Figures::default(),
        sends: Sends::default(),
        check: None,
        slow: Slow::default(),
        started_ms: now,
        edge,
        socket,
        identity,
        peer,
    };
    (connection, ws, registration)
}

fn greet(edge: &Edge, socket: &Socket, identity: &Identity) {
    let hello = Hello {
        connection_id: connection_id(&edge.pod, socket.id),
        pod: edge.pod.clone(),
        region: edge.config.region.clone(),
        user: identity.user,
        device: identity.device.clone(),
        heartbeat_ms: edge.config.heartbeat_ms,
        max_frame_bytes: limits::FRAME_BYTES as u64,
    };
    socket.push_text(&ServerFrame::encode_tagged("hello", &hello));
}

impl Connection {
    /// Its name, as the client and the log have it.
    fn id(&self) -> String {
        connection_id(&self.edge.pod, self.socket.id)
    }

    /// Counts its end and writes it into the log.
    fn note(&self, end: &End) {
        self.edge.metrics.closed(end.code);
        tracing::info!(
            connection.id = self.id(),
            user.id = %self.identity.user,
            device.id = %self.identity.device,
            peer = %self.peer,
            duration_ms = self.edge.now_ms().saturating_sub(self.started_ms),
            frames_in = self.figures.frames_in,
            sends = self.figures.sends,
            bytes_out = self.socket.sent_bytes(),
            close.code = end.code.code(),
            close.reason = end.reason,
            "connection ended"
        );
    }

    async fn serve(&mut self, ws: &mut WebSocketStream<WireStream>) -> End {
        loop {
            match self.edge.flush(&self.socket) {
                Flushed::Gone => return End::gone("connection lost"),
                Flushed::Empty | Flushed::Blocked => {}
            }
            if let Some((code, reason)) = self.socket.close_requested() {
                return End::tell(code, reason);
            }
            let (reads, mut has_read) = (self.may_read(), false);
            // Waits for: somebody else's word (the kernel was full, or the socket must close);
            // room in the kernel, if it was full; the log's answer to a send; the store's answer
            // for the request at hand; what was found of the message that a change is about; and
            // the next request, unless one of the four bounds holds. All are cancel-safe: futures
            // stay in their sets, and a WebSocket message that is half read stays in the stream's
            // buffer.
            tokio::select! {
                () = self.socket.wake.notified() => {}
                // Boxed, as it is seldom asked for, and would be held by every socket.
                ready = async { Box::pin(self.socket.writable()).await }, if self.socket.is_blocked() => {
                    if ready.is_err() {
                        return End::gone("connection lost");
                    }
                }
                (id, result) = self.sends.next(), if !self.sends.is_at_rest() => {
                    self.answer_send(id, result);
                    // One write for all the answers of a batch.
                    while let Some((id, result)) = self.sends.next().now_or_never() {
                        self.answer_send(id, result);
                    }
                }
                checked = async {
                    match &mut self.check {
                        Some(check) => check.await,
                        None => std::future::pending().await,
                    }
                }, if self.check.is_some() => {
                    self.check = None;
                    self.after_check(checked);
                }
                looked = self.slow.next(), if !self.slow.is_empty() => {
                    if let Some(end) = self.after_look(looked) {
                        return end;
                    }
                }
                message = ws.next(), if reads => {
                    self.socket.heard(self.edge.now_ms());
                    if let Some(end) = self.on_message(message) {
                        return end;
                    }
                    has_read = true;
                }
            }
            // Not in the branch above, which would hold the message meanwhile, and room for it always.
            if has_read && let Some(end) = self.take_up_more(ws).await {
                return end;
            }
        }
    }

    /// Takes up the messages that came with the one before, so that their answers leave in one
    /// write; no more than [`MESSAGES_A_TURN`], so that the answers do not wait for a client that
    /// never pauses.
    async fn take_up_more(&mut self, ws: &mut WebSocketStream<WireStream>) -> Option<End> {
        for _ in 1..MESSAGES_A_TURN {
            // Hundreds of requests come with one read, and only reads count as a turn.
            tokio::task::coop::consume_budget().await;
            if !self.may_read() || self.socket.close_requested().is_some() {
                break;
            }
            let message = ws.next().now_or_never()?;
            if let Some(end) = self.on_message(message) {
                return Some(end);
            }
        }
        None
    }

    /// Whether another request may be taken up.
    fn may_read(&self) -> bool {
        self.check.is_none()
            && self.sends.len() < SENDS_IN_FLIGHT
            && self.slow.len() < SENDS_IN_FLIGHT
            && !self.socket.with_outbox(|outbox| outbox.control_full())
    }

    fn on_message(&mut self, message: Option<Result<Message, tungstenite::Error>>) -> Option<End> {
        match message {
            Some(Ok(Message::Text(text))) => {
                self.figures.frames_in = self.figures.frames_in.saturating_add(1);
                self.edge.metrics.frames_in.inc();
                self.on_text(text.as_str())
            }
            // tungstenite answers pings and close frames itself, through the outbox.
            Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {
                self.limit_frames().err()
            }
            Some(Ok(Message::Close(_))) => None,
            Some(Ok(Message::Binary(_))) => {
                Some(End::tell(CloseCode::Unsupported, "frames are JSON text"))
            }
            Some(Err(error)) => Some(end_of(&error)),
            None => Some(End::gone("closed by the client")),
        }
    }

    /// One token for a frame; without one the request is refused, and after three refusals in a
    /// row the socket is closed.
    fn limit_frames(&mut self) -> Result<(), End> {
        let now = self.edge.now_ms();
        match self.frames.take(self.edge.config.frame_limit(), now) {
            Ok(()) => Ok(()),
            Err(_) if !self.strikes.refused(now) => Ok(()),
            Err(_) => Err(End::tell(CloseCode::Rate, "too many frames")),
        }
    }

    fn on_text(&mut self, text: &str) -> Option<End> {
        let now = self.edge.now_ms();
        let was_idle = self.socket.asked(now);
        let end = self.on_frame(text, now);
        // Afterwards: it may have said that it is away.
        if was_idle {
            let edge = &self.edge;
            edge.hub.asked_again(self.socket.id, now, &**edge);
        }
        end
    }

    fn on_frame(&mut self, text: &str, now: u64) -> Option<End> {
        let decoded = ClientFrame::decode(text);
        if let Err(wait_ms) = self.frames.take(self.edge.config.frame_limit(), now) {
            let id = match decoded {
                Ok((id, _)) => id,
                Err(error) => error.id,
            };
            return self.refuse_rate(id, wait_ms, "too many frames on this socket");
        }
        match decoded {
            Ok((id, frame)) => self.on_request(id, frame),
            Err(error) => {
                self.edge.metrics.refused(error.error.code);
                self.socket
                    .push_text(&reply_error(error.id.as_ref(), &error.error));
                None
            }
        }
    }

    fn refuse_rate(&mut self, id: Option<RequestId>, wait_ms: u64, what: &str) -> Option<End> {
        let error = ErrorBody::new(ErrorCode::RateLimited, what)
            .retry_after_ms(wait_ms)
            .outcome(Outcome::Rejected);
        self.fail(id, &error);
        let strike = self.strikes.refused(self.edge.now_ms());
        strike.then(|| End::tell(CloseCode::Rate, "the rate limit was broken again and again"))
    }

    fn on_request(&mut self, id: Option<RequestId>, frame: ClientFrame) -> Option<End> {
        match frame {
            ClientFrame::Ping => match id {
                Some(id) => self.socket.push_text(&reply_ok(&id, &Empty {})),
                None => self.socket.push_text(r#"{"type":"pong"}"#),
            },
            ClientFrame::Leave { channel } => {
                self.edge.leave(self.socket.id, channel);
                self.reply(id, &OfChannel { channel });
            }
            ClientFrame::Join {
                channel,
                since,
                ordered,
            } => {
                if self.edge.hub.joins_of(self.socket.id) >= limits::JOINS_PER_SOCKET
                    && !self.edge.hub.is_joined(self.socket.id, channel)
                {
                    let error = ErrorBody::new(
                        ErrorCode::TooManyJoins,
                        "this socket listens to as many channels as it may: leave one first",
                    )
                    .limit(limits::JOINS_PER_SOCKET as u64);
                    self.fail(id, &error);
                } else {
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
            }
            ClientFrame::Message(send) if send.thread.is_some() => {
                self.on_change(id, MessageChange::Reply(send));
            }
            ClientFrame::Message(send) => return self.on_send(id, send),
            ClientFrame::Edit(edit) => self.on_change(id, MessageChange::Edit(edit)),
            ClientFrame::Delete(delete) => self.on_change(id, MessageChange::Delete(delete)),
            ClientFrame::Reaction(react) => self.on_change(id, MessageChange::React(react)),
            ClientFrame::Mark(mark) => self.on_mark(id, mark),
            ClientFrame::Typing { channel } => self.on_typing(id, channel),
            ClientFrame::Presence { state } => return self.on_presence(id, state),
            ClientFrame::Watch { users } => return self.on_watch(id, users),
        }
        None
    }

    fn on_send(&mut self, id: Option<RequestId>, send: SendMessage) -> Option<End> {
        self.figures.sends = self.figures.sends.saturating_add(1);
        let user: UserId = self.identity.user;
        self.edge.check_lease();
        // Check and append happen under the hub's lock, so that an eviction falls before or
        // after both, never between.
        let (chat, channel) = (&self.edge.chat, send.channel);
        let cached = self.edge.hub.if_vouched(channel, user, send, |send| {
            chat.post(Permit::from_cache(channel, user), send)
        });
        match cached {
            Ok(posting) => self.on_posting(id, posting),
            Err(send) => {
                self.ask_store(id, channel, Then::Send(send));
                None
            }
        }
    }

    fn on_posting(
        &mut self,
        id: Option<RequestId>,
        posting: Result<hubbub_chat::Posting, ChatError>,
    ) -> Option<End> {
        match posting {
            Ok(posting) => {
                self.sends.push(id, posting);
                None
            }
            Err(ChatError::RateLimited { retry_after_ms }) => {
                self.refuse_rate(id, retry_after_ms, "too many messages")
            }
            Err(error) => {
                self.answer_send(id, Err(error));
                None
            }
        }
    }

    fn answer_send(&self, id: Option<RequestId>, result: Result<MessageReply, ChatError>) {
        match result {
            Ok(reply) => {
                // A resend has no seq: its first copy was counted, perhaps on another pod.
                if reply.seq.is_some() {
                    self.edge.dashboard.accepted(reply.channel);
                }
                self.reply(id, &reply);
            }
            Err(error) => {
                tracing::debug!(
                    connection.id = self.socket.id.0, user.id = %self.identity.user,
                    error = %error, "send failed"
                );
                self.fail(id, &error.body());
            }
        }
    }

    fn reply<T: Serialize>(&self, id: Option<RequestId>, body: &T) {
        if let Some(id) = id {
            self.socket.push_text(&reply_ok(&id, body));
        }
    }

    fn fail(&self, id: Option<RequestId>, error: &ErrorBody) {
        self.edge.metrics.refused(error.code);
        if let Some(id) = id {
            self.socket.push_text(&reply_error(Some(&id), error));
        }
    }
}

#[derive(Serialize)]
struct Empty {}

#[derive(Serialize)]
struct OfChannel {
    channel: ChannelId,
}
