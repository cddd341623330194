//! What a client sends.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, de};

use crate::{
    ChannelId, DeleteMessage, EditMessage, ErrorBody, ErrorCode, Mark, MessageId, PresenceState,
    React, SendMessage, Seq, UserId, limits,
    request::{Raw, optional},
};

/// The id that a client gives a request: an integer, or a string up to 64 bytes. Without one
/// there is no reply.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(untagged)]
pub enum RequestId {
    /// An integer of JSON's safe range.
    Number(i64),
    /// A string of up to [`limits::REQUEST_ID_BYTES`] bytes.
    Text(Box<str>),
}

impl<'de> Deserialize<'de> for RequestId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = RequestId;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an integer or a string")
            }
            fn visit_i64<E: de::Error>(self, number: i64) -> Result<RequestId, E> {
                Ok(RequestId::Number(number))
            }
            fn visit_u64<E: de::Error>(self, number: u64) -> Result<RequestId, E> {
                match i64::try_from(number) {
                    Ok(number) => Ok(RequestId::Number(number)),
                    Err(_) => Err(E::custom("the integer is too large")),
                }
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<RequestId, E> {
                Ok(RequestId::Text(text.into()))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

/// A frame that is no valid request, with the id to reply to, if it could be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FrameError {
    /// The request's id.
    pub id: Option<RequestId>,
    /// What is wrong with it.
    pub error: ErrorBody,
}

/// A request of a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientFrame {
    /// Listen to a channel, from `since` on if given.
    Join {
        /// The channel.
        channel: ChannelId,
        /// The last seq that the client was `synced` to.
        since: Option<Seq>,
        /// Whether records come strictly by seq.
        ordered: bool,
    },
    /// Listen no more.
    Leave {
        /// The channel.
        channel: ChannelId,
    },
    /// Say something.
    Message(SendMessage),
    /// Give a message another text.
    Edit(EditMessage),
    /// Delete a message.
    Delete(DeleteMessage),
    /// Give a reaction, or take it back.
    Reaction(React),
    /// Say how far this device came.
    Mark(Mark),
    /// Say that the user is typing.
    Typing {
        /// The channel.
        channel: ChannelId,
    },
    /// Say whether the user is at this device.
    Presence {
        /// Active or away.
        state: PresenceState,
    },
    /// Watch these users' presence, and no others.
    Watch {
        /// At most [`limits::WATCHED_USERS`].
        users: Vec<UserId>,
    },
    /// A sign of life.
    Ping,
}

impl ClientFrame {
    /// Reads one text frame: the request's id, if it has one, and the request. Unknown fields
    /// are ignored; an unknown `type` is an error that names it.
    pub fn decode(text: &str) -> Result<(Option<RequestId>, Self), FrameError> {
        let bare = |error| FrameError { id: None, error };
        let raw = Raw::read(text).map_err(bare)?;
        const AN_ID: &str = "an integer or a string of at most 64 bytes";
        let id: Option<RequestId> = optional(raw.id, "id", AN_ID).map_err(bare)?;
        if let Some(RequestId::Text(text)) = &id
            && text.len() > limits::REQUEST_ID_BYTES
        {
            return Err(bare(
                ErrorBody::new(ErrorCode::InvalidField, format!("id must be {AN_ID}"))
                    .field("id")
                    .limit(limits::REQUEST_ID_BYTES as u64),
            ));
        }
        match Self::from_raw(&raw) {
            Ok(frame) => Ok((id, frame)),
            Err(error) => Err(FrameError { id, error }),
        }
    }

    fn from_raw(raw: &Raw<'_>) -> Result<Self, ErrorBody> {
        let kind = raw.kind()?;
        match &*kind {
            "join" => Ok(Self::Join {
                since: raw.since()?,
                channel: raw.channel()?,
                ordered: raw.ordered()?,
            }),
            "leave" => Ok(Self::Leave {
                channel: raw.channel()?,
            }),
            "message" => raw.send(raw.channel()?).map(Self::Message),
            "edit" => raw.edit_of_target(raw.channel()?).map(Self::Edit),
            "delete" => raw.delete(raw.channel()?).map(Self::Delete),
            "reaction" => raw.react(raw.channel()?).map(Self::Reaction),
            "mark" => raw.mark(raw.channel()?).map(Self::Mark),
            "typing" => Ok(Self::Typing {
                channel: raw.channel()?,
            }),
            "presence" => Ok(Self::Presence {
                state: raw.state()?,
            }),
            "watch" => Ok(Self::Watch {
                users: raw.users()?,
            }),
            "ping" => Ok(Self::Ping),
            _ => {
                let shown: String = kind.chars().take(32).collect();
                Err(ErrorBody::new(
                    ErrorCode::UnknownType,
                    format!(
                        "type {shown:?} is none of join, leave, message, edit, delete, reaction, \
                         mark, typing, presence, watch, ping"
                    ),
                )
                .field("type"))
            }
        }
    }

    /// The text frame of this request, with its id.
    pub fn encode(&self, id: Option<&RequestId>) -> String {
        let out = match self {
            Self::Join {
                channel,
                since,
                ordered,
            } => Out {
                since: *since,
                ordered: *ordered,
                ..Out::new(id, "join", Some(*channel))
            },
            Self::Leave { channel } => Out::new(id, "leave", Some(*channel)),
            Self::Message(send) => Out {
                text: Some(&send.text),
                thread: send.thread,
                client_msg_id: send.client_msg_id,
                retry: send.retry,
                ..Out::new(id, "message", Some(send.channel))
            },
            Self::Edit(edit) => Out {
                target: Some(edit.target),
                text: Some(&edit.text),
                client_msg_id: edit.client_msg_id,
                retry: edit.retry,
                ..Out::new(id, "edit", Some(edit.channel))
            },
            Self::Delete(delete) => Out {
                target: Some(delete.target),
                client_msg_id: delete.client_msg_id,
                retry: delete.retry,
                ..Out::new(id, "delete", Some(delete.channel))
            },
            Self::Reaction(react) => Out {
                target: Some(react.target),
                reaction: Some(&react.reaction),
                remove: react.remove,
                client_msg_id: react.client_msg_id,
                retry: react.retry,
                ..Out::new(id, "reaction", Some(react.channel))
            },
            Self::Mark(mark) => Out {
                delivered: mark.delivered,
                read: mark.read,
                ..Out::new(id, "mark", Some(mark.channel))
            },
            Self::Typing { channel } => Out::new(id, "typing", Some(*channel)),
            Self::Presence { state } => Out {
                state: Some(*state),
                ..Out::new(id, "presence", None)
            },
            Self::Watch { users } => Out {
                users: Some(users),
                ..Out::new(id, "watch", None)
            },
            Self::Ping => Out::new(id, "ping", None),
        };
        serde_json::to_string(&out).expect("a request has only string keys")
    }
}

/// Every field that some request has.
#[derive(Serialize)]
struct Out<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a RequestId>,
    r#type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    channel: Option<ChannelId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<Seq>,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    thread: Option<Seq>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reaction: Option<&'a str>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    remove: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_msg_id: Option<MessageId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<Seq>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    ordered: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    retry: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    delivered: Option<Seq>,
    #[serde(skip_serializing_if = "Option::is_none")]
    read: Option<Seq>,
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<PresenceState>,
    #[serde(skip_serializing_if = "Option::is_none")]
    users: Option<&'a [UserId]>,
}

impl<'a> Out<'a> {
    fn new(id: Option<&'a RequestId>, kind: &'static str, channel: Option<ChannelId>) -> Self {
        Self {
            id,
            r#type: kind,
            channel,
            target: None,
            text: None,
            thread: None,
            reaction: None,
            remove: false,
            client_msg_id: None,
            since: None,
            ordered: false,
            retry: false,
            delivered: None,
            read: None,
            state: None,
            users: None,
        }
    }
}

#[cfg(test)]
mod tests;
