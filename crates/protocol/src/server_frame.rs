//! What a server sends.

use serde::{Deserialize, Serialize};

use crate::{
    Body, ChannelId, DeviceId, ErrorBody, MessageId, PodId, Receipt, RequestId, Seq, UserId,
    UserPresence,
};

/// The first frame of a server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Names this socket in logs.
    pub connection_id: String,
    /// The edge that holds it.
    pub pod: PodId,
    /// The region of the edge.
    pub region: String,
    /// Whose token it was.
    pub user: UserId,
    /// The device: the token's, the query's or a random one.
    pub device: DeviceId,
    /// The server sends a WebSocket ping this often; silence for longer than this plus 10 s
    /// means that the connection is dead.
    pub heartbeat_ms: u64,
    /// The largest message that the server takes from this client.
    pub max_frame_bytes: u64,
}

/// The reply to a `join`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinReply {
    /// The channel.
    pub channel: ChannelId,
    /// Where the client stands: its cursor where it gave no `since` or `recovered` is false.
    /// `None` while the store is away and no head is known.
    pub head: Option<Seq>,
    /// Whether everything after `since` follows (or none was given).
    pub recovered: bool,
    /// Why not, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// The reply to a send.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageReply {
    /// The channel.
    pub channel: ChannelId,
    /// The message's identity.
    pub message_id: MessageId,
    /// Where it is in the channel; `None` for a resend, whose `message` event tells it.
    pub seq: Option<Seq>,
    /// When the log took it, milliseconds.
    pub ts_ms: i64,
    /// For a resend: the seq of its copy; `at_least=fence` shows the message in history.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fence: Option<Seq>,
}

/// The reply to a `mark`: it is on its way; what came of it is in `GET /channels/{id}/receipts`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MarkReply {
    /// The channel.
    pub channel: ChannelId,
}

/// The reply to a `watch`: the state of each user as far as it is known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WatchReply {
    /// The users asked about.
    pub users: Vec<UserPresence>,
}

/// `joined`: the edge joined this socket to a direct channel by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Joined {
    /// The channel.
    pub channel: ChannelId,
    /// Where the client stands, as a `join` without `since` would say.
    pub head: Option<Seq>,
    /// The other user of the direct channel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub with: Option<UserId>,
}

/// Somebody is typing. Never stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Typing {
    /// Where.
    pub channel: ChannelId,
    /// Who.
    pub user: UserId,
}

impl Typing {
    /// The text frame, which is also the payload for `channel-<id>`.
    pub fn frame(&self) -> String {
        ServerFrame::encode_tagged("typing", self)
    }
}

/// The last frame before a planned restart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Goodbye {
    /// Why.
    pub reason: String,
    /// When to come back, milliseconds from now: each client its own, so that they are spread.
    pub reconnect_after_ms: u64,
}

/// More than the reply to a message, whose request id is short.
const REPLY_BYTES: usize = 192;

/// `{"reply_to":id,"ok":true,…}` with the fields of `body`, a struct.
pub fn reply_ok<T: Serialize>(id: &RequestId, body: &T) -> String {
    #[derive(Serialize)]
    struct Ok<'a, T> {
        reply_to: &'a RequestId,
        ok: bool,
        #[serde(flatten)]
        body: &'a T,
    }
    let reply = Ok {
        reply_to: id,
        ok: true,
        body,
    };
    // The reply to a send, of which there are most, has room at once.
    let mut json = Vec::with_capacity(REPLY_BYTES);
    serde_json::to_writer(&mut json, &reply).expect("a reply has only string keys");
    String::from_utf8(json).expect("JSON is UTF-8")
}

/// `{"reply_to":id,"ok":false,"error":{…}}`; `reply_to` is null for a frame whose id could not
/// be read.
pub fn reply_error(id: Option<&RequestId>, error: &ErrorBody) -> String {
    #[derive(Serialize)]
    struct Failed<'a> {
        reply_to: Option<&'a RequestId>,
        ok: bool,
        error: &'a ErrorBody,
    }
    serde_json::to_string(&Failed {
        reply_to: id,
        ok: false,
        error,
    })
    .expect("a reply has only string keys")
}

/// `replay`: what follows starts above `since` and may repeat.
pub fn replay_frame(channel: ChannelId, since: Seq) -> String {
    format!(r#"{{"type":"replay","channel":"{channel}","since":{since}}}"#)
}

/// `synced`: everything through `seq` has been sent on this socket before this frame.
pub fn synced_frame(channel: ChannelId, seq: Seq) -> String {
    format!(r#"{{"type":"synced","channel":"{channel}","seq":{seq}}}"#)
}

/// `left`: this socket does not listen to the channel any more, without having asked for it.
pub fn left_frame(channel: ChannelId) -> String {
    format!(r#"{{"type":"left","channel":"{channel}"}}"#)
}

/// `added`: the user was added to a channel, and this socket does not listen to it yet.
pub fn added_frame(channel: ChannelId) -> String {
    format!(r#"{{"type":"added","channel":"{channel}"}}"#)
}

/// A frame of the server, as a client reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServerFrame {
    /// First.
    Hello(Hello),
    /// To a request; the fields are read by who asked.
    Reply {
        /// Which request; `None` if the server could not read its id.
        reply_to: Option<RequestId>,
        /// The whole reply as JSON text, or the error.
        result: Result<Box<str>, ErrorBody>,
    },
    /// A record of a channel.
    Record {
        /// Where it is in the channel.
        seq: Seq,
        /// What it says.
        body: Body,
    },
    /// What follows starts above `since` and may repeat.
    Replay {
        /// The channel.
        channel: ChannelId,
        /// Above this.
        since: Seq,
    },
    /// Everything through `seq` has been sent on this socket before this frame.
    Synced {
        /// The channel.
        channel: ChannelId,
        /// Through this.
        seq: Seq,
    },
    /// This socket does not listen to the channel any more: the user was removed, or the server
    /// is not sure that they were not. A join with the cursor tells which.
    Left {
        /// The channel.
        channel: ChannelId,
    },
    /// The user was added to a channel that is no direct one; a device may want to join it.
    Added {
        /// The channel.
        channel: ChannelId,
    },
    /// A device of the channel came further.
    Receipt(Receipt),
    /// Somebody is typing.
    Typing(Typing),
    /// A watched user's state.
    Presence(UserPresence),
    /// This socket listens to a direct channel now, without having asked for it.
    Joined(Joined),
    /// To a `ping` without an id.
    Pong,
    /// The server restarts.
    Goodbye(Goodbye),
    /// A type that this build does not know.
    Unknown(String),
}

impl ServerFrame {
    /// Reads one text frame of a server.
    pub fn decode(text: &str) -> Result<Self, serde_json::Error> {
        #[derive(Deserialize)]
        struct Peek {
            r#type: Option<String>,
            ok: Option<bool>,
            reply_to: Option<RequestId>,
            error: Option<ErrorBody>,
            seq: Option<Seq>,
            since: Option<Seq>,
            channel: Option<ChannelId>,
        }
        let peek: Peek = serde_json::from_str(text)?;
        if let Some(ok) = peek.ok {
            let result = match peek.error {
                Some(error) if !ok => Err(error),
                _ => Ok(text.into()),
            };
            return Ok(Self::Reply {
                reply_to: peek.reply_to,
                result,
            });
        }
        Ok(
            match (peek.r#type.as_deref(), peek.channel, peek.seq, peek.since) {
                (Some("hello"), ..) => Self::Hello(serde_json::from_str(text)?),
                (Some("goodbye"), ..) => Self::Goodbye(serde_json::from_str(text)?),
                (Some("pong"), ..) => Self::Pong,
                (Some("replay"), Some(channel), _, Some(since)) => Self::Replay { channel, since },
                (Some("synced"), Some(channel), Some(seq), _) => Self::Synced { channel, seq },
                (Some("left"), Some(channel), ..) => Self::Left { channel },
                (Some("added"), Some(channel), ..) => Self::Added { channel },
                (Some("receipt"), ..) => Self::Receipt(serde_json::from_str(text)?),
                (Some("typing"), ..) => Self::Typing(serde_json::from_str(text)?),
                (Some("presence"), ..) => Self::Presence(serde_json::from_str(text)?),
                (Some("joined"), ..) => Self::Joined(serde_json::from_str(text)?),
                (
                    Some(
                        "message" | "member_joined" | "member_left" | "message_changed"
                        | "message_deleted" | "reaction_added" | "reaction_removed"
                        | "identity_change",
                    ),
                    _,
                    Some(seq),
                    _,
                ) => Self::Record {
                    seq,
                    body: serde_json::from_str(text)?,
                },
                (kind, ..) => Self::Unknown(kind.unwrap_or_default().to_owned()),
            },
        )
    }

    /// The text frame of a `hello`, `pong`, `goodbye`, `receipt`, `typing`, `presence` or `joined`
    /// from its fields; the others have functions of their own.
    pub fn encode_tagged<T: Serialize>(kind: &'static str, fields: &T) -> String {
        #[derive(Serialize)]
        struct Tagged<'a, T> {
            r#type: &'static str,
            #[serde(flatten)]
            fields: &'a T,
        }
        serde_json::to_string(&Tagged {
            r#type: kind,
            fields,
        })
        .expect("a frame has only string keys")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PresenceState;

    #[test]
    fn frames_about_people_survive_the_wire() {
        let channel: ChannelId = "D000000005".parse().expect("an id");
        let user = UserId::new(1).expect("from 1");
        let receipt = Receipt {
            channel,
            user,
            device: "phone".parse().expect("a device"),
            delivered: Seq(9),
            read: Seq(4),
        };
        let typing = Typing { channel, user };
        let presence = UserPresence {
            user,
            state: PresenceState::Away,
        };
        let joined = Joined {
            channel,
            head: Some(Seq(7)),
            with: Some(user),
        };
        for (text, frame) in [
            (receipt.frame(), ServerFrame::Receipt(receipt)),
            (typing.frame(), ServerFrame::Typing(typing)),
            (
                ServerFrame::encode_tagged("presence", &presence),
                ServerFrame::Presence(presence),
            ),
            (
                ServerFrame::encode_tagged("joined", &joined),
                ServerFrame::Joined(joined),
            ),
            (added_frame(channel), ServerFrame::Added { channel }),
        ] {
            assert_eq!(
                ServerFrame::decode(&text).expect("a frame"),
                frame,
                "{text}"
            );
        }
    }
}
