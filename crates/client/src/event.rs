use std::time::Duration;

use hubbub_protocol::{
    Body, ChannelId, ErrorBody, Goodbye, Hello, JoinReply, MessageId, MessageKey, Receipt, Seq,
    Typing, UserPresence,
};

/// What the client tells its application, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A connection is up; joins and unacknowledged sends follow by themselves.
    Connected(Hello),
    /// The connection is down, or could not be made.
    Disconnected {
        /// Why.
        why: Down,
        /// When the next attempt starts; `None`: never, this is the last event.
        retry_in: Option<Duration>,
    },
    /// The server is about to restart; `Disconnected` follows.
    Goodbye(Goodbye),
    /// A channel is joined: for the first time, or again after a reconnect.
    Joined(Joined),
    /// A join failed for now and is tried again by itself.
    JoinDelayed {
        /// The channel.
        channel: ChannelId,
        /// Why.
        error: ErrorBody,
        /// When it is tried again.
        retry_in: Duration,
    },
    /// A join failed for good; the channel is no longer wanted.
    JoinFailed {
        /// The channel.
        channel: ChannelId,
        /// Why.
        error: ErrorBody,
    },
    /// The server listens no more on our behalf.
    Left {
        /// The channel.
        channel: ChannelId,
    },
    /// A record, each (user, message id) of a channel once: a message, a change of the membership,
    /// an edit, a deletion, a reaction, an `identity_change` (ask for that user again). What is
    /// about a message names it by `target`; a message that comes as a catch-up may show already
    /// what a later record did, so apply them by target and idempotently.
    Record {
        /// Where it is in the channel.
        seq: Seq,
        /// What it says.
        body: Body,
        /// How it came.
        via: Via,
    },
    /// A record that was given with the seq of a shadow copy has this lower seq in the store: a
    /// view sorted by seq moves it. Nothing else about it changes.
    Reseq {
        /// The channel.
        channel: ChannelId,
        /// Which record.
        key: MessageKey,
        /// The seq that was given.
        from: Seq,
        /// The seq that counts, lower than `from`.
        to: Seq,
    },
    /// What follows starts above `since`; what is had already is dropped by this client.
    Replay {
        /// The channel.
        channel: ChannelId,
        /// Above this.
        since: Seq,
    },
    /// Everything through `seq` has been given.
    Synced {
        /// The channel.
        channel: ChannelId,
        /// Through this.
        seq: Seq,
    },
    /// A send is over, as its handle says too.
    SendResult(SendResult),
    /// The server joined this device to a direct channel by itself, from `head` on. From here on
    /// it is a channel like any that was joined: kept over reconnects until it is left.
    Direct(hubbub_protocol::Joined),
    /// Somebody added the user to a channel (or another device of the user did): join it if it is
    /// wanted. Live only: what is missed is in `GET /channels`.
    Added {
        /// The channel.
        channel: ChannelId,
    },
    /// A device came further in a direct channel, or another device of this user in any channel.
    /// Its cursors never go back here, whatever comes late. Live only: what is missed is in
    /// `GET /channels/{id}/receipts`.
    Receipt(Receipt),
    /// Somebody is typing. Live only; good for a few seconds.
    Typing(Typing),
    /// The state of a watched user: once for each when the watch begins, then as it changes.
    Presence(UserPresence),
    /// An error reply to a frame whose id the server could not read, or the definite refusal of
    /// a watch or of this device's presence.
    ServerError(ErrorBody),
}

/// A join that the server accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Joined {
    /// What it answered.
    pub reply: JoinReply,
    /// The seq that this client asked to go on from. With `reply.recovered == false` records
    /// after it may be missing here: history has them.
    pub since: Option<Seq>,
}

/// How a record came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Via {
    /// Live, or as a repair that followed shortly after.
    Live,
    /// As part of a catch-up: it is older than the join, or follows a `replay`.
    CatchUp,
}

/// A message that is durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sent {
    /// Its identity.
    pub message_id: MessageId,
    /// Its place; `None` for one that was sent again (its `Record` tells the seq).
    pub seq: Option<Seq>,
    /// For one that was sent again: `at_least=fence` shows it in history.
    pub fence: Option<Seq>,
    /// When the log took it, milliseconds.
    pub ts_ms: i64,
}

/// How a send ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SendResult {
    /// Where to.
    pub channel: ChannelId,
    /// The message's identity.
    pub message_id: MessageId,
    /// The place it has, or why it never reached the log.
    pub result: Result<Sent, ErrorBody>,
}

/// Why a connection is down.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Down {
    /// No TCP connection, or none in time.
    #[error("cannot connect to {address}: {error}")]
    Connect {
        /// Host and port.
        address: String,
        /// What the system said.
        error: String,
    },
    /// The server answered the handshake with another status than 101.
    #[error("the server refused the connection: HTTP {status}{}", .error.as_ref().map(|e| format!(" ({})", e.message)).unwrap_or_default())]
    Refused {
        /// The HTTP status.
        status: u16,
        /// The error object, if there was one.
        error: Option<ErrorBody>,
        /// `Retry-After`.
        retry_after: Option<Duration>,
    },
    /// The handshake was answered by something that speaks another protocol.
    #[error("not a Hubbub server: {0}")]
    Handshake(String),
    /// The URL, or the token's characters, cannot be used.
    #[error("{0}")]
    Config(String),
    /// No token could be had.
    #[error("no token: {0}")]
    Token(String),
    /// The server closed with this code.
    #[error("the server closed the connection: {code} {reason}")]
    Closed {
        /// RFC 6455 close code, or one of ours.
        code: u16,
        /// Its words.
        reason: String,
    },
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Lost(String),
    /// Nothing came for `heartbeat_ms` and 10 s.
    #[error("the server was silent for {} s", .0.as_secs())]
    Silent(Duration),
    /// A reply was owed for too long, or the socket took no byte.
    #[error("the server does not answer: {0}")]
    Stalled(&'static str),
    /// The application closed the client.
    #[error("closed by this client")]
    Stopped,
}

impl Down {
    /// Whether another attempt makes sense.
    pub fn reconnects(&self) -> bool {
        match self {
            Self::Closed { code, .. } => hubbub_protocol::CloseCode::reconnects(*code),
            // 408 and 429 pass; the other 4xx say that this request will never be taken.
            Self::Refused { status, .. } => {
                !(400..500).contains(status) || matches!(status, 408 | 429)
            }
            Self::Config(_) | Self::Stopped => false,
            Self::Token(_)
            | Self::Connect { .. }
            | Self::Handshake(_)
            | Self::Lost(_)
            | Self::Silent(_)
            | Self::Stalled(_) => true,
        }
    }
}
