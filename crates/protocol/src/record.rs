use serde::{Deserialize, Serialize};

use crate::{ChannelId, MessageId, Seq, UserId, limits};

/// The version that this build writes and the only one it reads.
const VERSION: u8 = 1;

/// Text that no message may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TextError {
    /// Nothing is in it.
    #[error("text is empty")]
    Empty,
    /// It is above [`limits::TEXT_BYTES`].
    #[error("text is longer than {} bytes", limits::TEXT_BYTES)]
    TooLong,
    /// U+0000, which Postgres cannot hold.
    #[error("text has a U+0000")]
    Nul,
}

/// Checks the text of a message: 1 to [`limits::TEXT_BYTES`] bytes, no U+0000.
pub fn check_text(text: &str) -> Result<(), TextError> {
    if text.is_empty() {
        Err(TextError::Empty)
    } else if text.len() > limits::TEXT_BYTES {
        Err(TextError::TooLong)
    } else if text.contains('\0') {
        Err(TextError::Nul)
    } else {
        Ok(())
    }
}

/// A payload of the log that can never be stored.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// It is not the JSON of a record.
    #[error("not a record: {0}")]
    Json(#[from] serde_json::Error),
    /// Another version wrote it.
    #[error("record version {0} is not known")]
    Version(u8),
    /// Its text breaks a rule.
    #[error(transparent)]
    Text(#[from] TextError),
    /// Its channel hashes to another partition than the one it was read from.
    #[error("channel {0} does not belong to this partition")]
    Partition(ChannelId),
}

/// What a record is about, as the column `kind` has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RecordKind {
    /// Something was said; only these have an ordinal.
    Message,
    /// A member was added or removed.
    Membership,
}

impl RecordKind {
    /// The value of the column `kind`.
    pub fn to_db(self) -> i16 {
        match self {
            Self::Message => 1,
            Self::Membership => 2,
        }
    }
}

/// A change of a channel's membership.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// `member` belongs to the channel from here on.
    Joined,
    /// `member` has left or was removed.
    Left,
}

/// One record of the log, as its payload has it (JSON; the key is the channel's public id).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Record {
    /// Something that `user` said.
    Message {
        /// Version of the format.
        v: u8,
        /// Where.
        channel: ChannelId,
        /// Who.
        user: UserId,
        /// Identity of the message, together with channel and user.
        message_id: MessageId,
        /// What: checked by [`check_text`].
        text: String,
    },
    /// `user` changed who belongs to the channel.
    Membership {
        /// Version of the format.
        v: u8,
        /// Where.
        channel: ChannelId,
        /// Who did it.
        user: UserId,
        /// Identity of the change.
        message_id: MessageId,
        /// What was done.
        change: Change,
        /// To whom.
        member: UserId,
    },
}

impl Record {
    /// A message; `text` has passed [`check_text`].
    pub fn message(channel: ChannelId, user: UserId, message_id: MessageId, text: String) -> Self {
        Self::Message {
            v: VERSION,
            channel,
            user,
            message_id,
            text,
        }
    }

    /// A change of membership that `user` made to `member`.
    pub fn membership(
        channel: ChannelId,
        user: UserId,
        message_id: MessageId,
        change: Change,
        member: UserId,
    ) -> Self {
        Self::Membership {
            v: VERSION,
            channel,
            user,
            message_id,
            change,
            member,
        }
    }

    /// Reads a payload of the log and checks it as the edge checked it before the append.
    pub fn decode(payload: &[u8]) -> Result<Self, RecordError> {
        let record: Self = serde_json::from_slice(payload)?;
        let version = match &record {
            Self::Message { v, .. } | Self::Membership { v, .. } => *v,
        };
        if version != VERSION {
            return Err(RecordError::Version(version));
        }
        if let Self::Message { text, .. } = &record {
            check_text(text)?;
        }
        Ok(record)
    }

    /// The payload for the log.
    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a record has only string keys and no failing serializer")
    }

    /// Where.
    pub fn channel(&self) -> ChannelId {
        match self {
            Self::Message { channel, .. } | Self::Membership { channel, .. } => *channel,
        }
    }

    /// Who sent it.
    pub fn user(&self) -> UserId {
        match self {
            Self::Message { user, .. } | Self::Membership { user, .. } => *user,
        }
    }

    /// Its identity.
    pub fn message_id(&self) -> MessageId {
        match self {
            Self::Message { message_id, .. } | Self::Membership { message_id, .. } => *message_id,
        }
    }

    /// What it is about.
    pub fn kind(&self) -> RecordKind {
        match self {
            Self::Message { .. } => RecordKind::Message,
            Self::Membership { .. } => RecordKind::Membership,
        }
    }

    /// The server frame of this record without its seq, which is also the column `body`.
    /// `ts_ms` is the broker's append time.
    pub fn body(self, ts_ms: i64) -> Body {
        match self {
            Self::Message {
                channel,
                user,
                message_id,
                text,
                ..
            } => Body::Message {
                channel,
                message_id,
                user,
                text,
                ts_ms,
            },
            Self::Membership {
                channel,
                user,
                message_id,
                change,
                member,
                ..
            } => match change {
                Change::Joined => Body::MemberJoined {
                    channel,
                    message_id,
                    user,
                    member,
                    ts_ms,
                },
                Change::Left => Body::MemberLeft {
                    channel,
                    message_id,
                    user,
                    member,
                    ts_ms,
                },
            },
        }
    }
}

/// The server frame of a record, without its seq: what is stored, and what a client decodes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Body {
    /// Something was said.
    Message {
        /// Where.
        channel: ChannelId,
        /// Identity, together with channel and user.
        message_id: MessageId,
        /// Who.
        user: UserId,
        /// What.
        text: String,
        /// When the log took it (broker's clock, milliseconds); never used for order.
        ts_ms: i64,
    },
    /// `member` belongs to the channel from here on.
    MemberJoined {
        /// Where.
        channel: ChannelId,
        /// Identity of the change.
        message_id: MessageId,
        /// Who did it.
        user: UserId,
        /// Who belongs to the channel now.
        member: UserId,
        /// When the log took it, milliseconds.
        ts_ms: i64,
    },
    /// `member` belongs to the channel no more.
    MemberLeft {
        /// Where.
        channel: ChannelId,
        /// Identity of the change.
        message_id: MessageId,
        /// Who did it.
        user: UserId,
        /// Who left or was removed.
        member: UserId,
        /// When the log took it, milliseconds.
        ts_ms: i64,
    },
}

impl Body {
    /// The JSON object, to be stored and spliced by [`with_seq`].
    pub fn encode(&self) -> String {
        serde_json::to_string(self).expect("a body has only string keys")
    }

    /// Where.
    pub fn channel(&self) -> ChannelId {
        match self {
            Self::Message { channel, .. }
            | Self::MemberJoined { channel, .. }
            | Self::MemberLeft { channel, .. } => *channel,
        }
    }

    /// Sender and identity: what clients and feeds drop doubles by.
    pub fn key(&self) -> crate::MessageKey {
        match self {
            Self::Message {
                user, message_id, ..
            }
            | Self::MemberJoined {
                user, message_id, ..
            }
            | Self::MemberLeft {
                user, message_id, ..
            } => crate::MessageKey {
                user: *user,
                message_id: *message_id,
            },
        }
    }
}

/// The server frame of a stored body: `{"seq":N,` and the body from its first field on. The body
/// is a JSON object with at least one field, as [`Body::encode`] gives it.
pub fn with_seq(seq: Seq, body: &str) -> String {
    use std::fmt::Write as _;
    let mut frame = String::with_capacity(body.len() + 28);
    frame.push_str("{\"seq\":");
    write!(frame, "{seq},").expect("a String takes every write");
    frame.push_str(body.get(1..).unwrap_or("}"));
    frame
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn sample() -> Record {
        Record::message(
            "C000000005".parse().expect("an id"),
            "U000000001".parse().expect("an id"),
            MessageId(Uuid::from_u128(7)),
            "hi \"there\" \u{1F600}".to_owned(),
        )
    }

    #[test]
    fn record_survives_the_log_and_becomes_a_frame() {
        let record = Record::decode(&sample().encode()).expect("decodes");
        assert_eq!(record, sample());
        let body = record.body(99).encode();
        let frame = with_seq(Seq(12), &body);
        assert!(frame.starts_with("{\"seq\":12,\"type\":\"message\",\"channel\":\"C000000005\""));
        let back: Body = serde_json::from_str(&frame).expect("a frame is a body with a seq");
        assert_eq!(back.encode(), body);
    }

    #[test]
    fn what_can_never_be_stored_is_named() {
        let bad = [
            "",
            "{}",
            "null",
            "{\"kind\":\"message\"}",
            r#"{"kind":"message","v":2,"channel":"C000000005","user":"U000000001","message_id":"00000000-0000-0000-0000-000000000007","text":"x"}"#,
            r#"{"kind":"message","v":1,"channel":"C000000005","user":"U000000001","message_id":"00000000-0000-0000-0000-000000000007","text":"\u0000"}"#,
            r#"{"kind":"message","v":1,"channel":"C000000005","user":"U000000001","message_id":"00000000-0000-0000-0000-000000000007","text":"\ud800"}"#,
            r#"{"kind":"message","v":1,"channel":"C9999999999999999999","user":"U000000001","message_id":"00000000-0000-0000-0000-000000000007","text":"x"}"#,
        ];
        for payload in bad {
            assert!(Record::decode(payload.as_bytes()).is_err(), "{payload}");
        }
        let deep = "[".repeat(10_000);
        assert!(Record::decode(deep.as_bytes()).is_err());
    }
}
