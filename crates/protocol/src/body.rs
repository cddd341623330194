//! The server frames of records.

use serde::{Deserialize, Serialize};

use crate::{ChannelId, MessageId, MessageKey, Seq, UserId};

/// The edit that a stored message shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Edited {
    /// Seq of the `message_changed` whose text it is.
    pub seq: Seq,
    /// When the log took it, milliseconds.
    pub ts_ms: i64,
    /// Who edited: the author, or an admin.
    pub user: UserId,
    /// Which edit of the message it is, from 1, at most [`crate::limits::EDITS_PER_MESSAGE`]; 0 in
    /// what was stored before edits were counted.
    #[serde(default)]
    pub count: u32,
}

/// Who gave one reaction to a stored message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reaction {
    /// Which reaction.
    pub reaction: String,
    /// Who gave it, first to last; never empty, at most [`crate::limits::USERS_PER_REACTION`].
    pub users: Vec<UserId>,
}

/// The thread below a stored message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replies {
    /// Replies that are not deleted; from 1 (without any the field is absent).
    pub count: u64,
    /// Seq of the last reply stored, even if it has been deleted since.
    pub last_seq: Seq,
    /// The first to take part since the thread was last empty, at most
    /// [`crate::limits::REPLY_USERS`].
    pub users: Vec<UserId>,
}

/// What the JSON of a record takes beside its text, as a rule. With the room for it made at once it
/// does not grow step by step, an allocation each.
pub(crate) const JSON_BYTES: usize = 224;

/// The server frame of a record, without its seq: what is stored, and what a client decodes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Body {
    /// Something was said. From the store it is the latest version: `edited`, `deleted`,
    /// `reactions` and `replies` are of stored rows only, and what a later record did may be in
    /// it already.
    Message {
        /// Where.
        channel: ChannelId,
        /// Identity, together with channel and user.
        message_id: MessageId,
        /// Who.
        user: UserId,
        /// What; empty if it was deleted.
        text: String,
        /// When the log took it (broker's clock, milliseconds); never used for order.
        ts_ms: i64,
        /// Seq of the thread's root, for a reply.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        thread: Option<Seq>,
        /// When it was said where it was imported from, milliseconds since 1970.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        posted_ms: Option<i64>,
        /// The latest edit.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        edited: Option<Edited>,
        /// Whether it was deleted.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        deleted: bool,
        /// The reactions, by the time of their first.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        reactions: Vec<Reaction>,
        /// The thread below it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        replies: Option<Box<Replies>>,
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
    /// The message `target` says something else now.
    MessageChanged {
        /// Where.
        channel: ChannelId,
        /// Identity of the edit.
        message_id: MessageId,
        /// Who edited: the author, or an admin.
        user: UserId,
        /// Seq of the message.
        target: Seq,
        /// What it says now. Empty in a stored row whose edit is not to be applied: the message
        /// was deleted, or the edit had no effect.
        text: String,
        /// When the log took it, milliseconds.
        ts_ms: i64,
    },
    /// The message `target` is gone.
    MessageDeleted {
        /// Where.
        channel: ChannelId,
        /// Identity of the deletion.
        message_id: MessageId,
        /// Who deleted: the author, or an admin.
        user: UserId,
        /// Seq of the message.
        target: Seq,
        /// When the log took it, milliseconds.
        ts_ms: i64,
    },
    /// `user` gives `target` a reaction.
    ReactionAdded {
        /// Where.
        channel: ChannelId,
        /// Identity of the change.
        message_id: MessageId,
        /// Who.
        user: UserId,
        /// Seq of the message.
        target: Seq,
        /// Which reaction; checked by [`crate::check_reaction`].
        reaction: String,
        /// When the log took it, milliseconds.
        ts_ms: i64,
    },
    /// `user` takes a reaction to `target` back.
    ReactionRemoved {
        /// Where.
        channel: ChannelId,
        /// Identity of the change.
        message_id: MessageId,
        /// Who.
        user: UserId,
        /// Seq of the message.
        target: Seq,
        /// Which reaction.
        reaction: String,
        /// When the log took it, milliseconds.
        ts_ms: i64,
    },
    /// `user` has another name, picture or status: read it again.
    IdentityChange {
        /// Where it is told: every channel of the user.
        channel: ChannelId,
        /// Identity of the record.
        message_id: MessageId,
        /// Whose identity.
        user: UserId,
        /// The version that the identity has at least now.
        version: i64,
        /// When the log took it, milliseconds.
        ts_ms: i64,
    },
}

impl Body {
    /// A message as it was sent: no reply, not imported, never changed.
    pub fn message(
        channel: ChannelId,
        message_id: MessageId,
        user: UserId,
        text: String,
        ts_ms: i64,
    ) -> Self {
        Self::Message {
            channel,
            message_id,
            user,
            text,
            ts_ms,
            thread: None,
            posted_ms: None,
            edited: None,
            deleted: false,
            reactions: Vec::new(),
            replies: None,
        }
    }

    /// The JSON object, to be stored and spliced by [`with_seq`].
    pub fn encode(&self) -> String {
        serde_json::to_string(self).expect("a body has only string keys")
    }

    /// About how long [`Self::encode`] is.
    pub(crate) fn json_bytes(&self) -> usize {
        match self {
            Self::Message { text, .. } | Self::MessageChanged { text, .. } => {
                JSON_BYTES + text.len()
            }
            _ => JSON_BYTES,
        }
    }

    /// The fields that every record has: where, by whom, its identity, when.
    fn common(&self) -> (ChannelId, UserId, MessageId, i64) {
        match self {
            Self::Message {
                channel,
                user,
                message_id,
                ts_ms,
                ..
            }
            | Self::MemberJoined {
                channel,
                user,
                message_id,
                ts_ms,
                ..
            }
            | Self::MemberLeft {
                channel,
                user,
                message_id,
                ts_ms,
                ..
            }
            | Self::MessageChanged {
                channel,
                user,
                message_id,
                ts_ms,
                ..
            }
            | Self::MessageDeleted {
                channel,
                user,
                message_id,
                ts_ms,
                ..
            }
            | Self::ReactionAdded {
                channel,
                user,
                message_id,
                ts_ms,
                ..
            }
            | Self::ReactionRemoved {
                channel,
                user,
                message_id,
                ts_ms,
                ..
            }
            | Self::IdentityChange {
                channel,
                user,
                message_id,
                ts_ms,
                ..
            } => (*channel, *user, *message_id, *ts_ms),
        }
    }

    /// Where.
    pub fn channel(&self) -> ChannelId {
        self.common().0
    }

    /// When the log took it, milliseconds.
    pub fn ts_ms(&self) -> i64 {
        self.common().3
    }

    /// Sender and identity: what clients and feeds drop doubles by.
    pub fn key(&self) -> MessageKey {
        let (_, user, message_id, _) = self.common();
        MessageKey { user, message_id }
    }

    /// The message that an edit, a deletion or a reaction is about.
    pub fn target(&self) -> Option<Seq> {
        match self {
            Self::MessageChanged { target, .. }
            | Self::MessageDeleted { target, .. }
            | Self::ReactionAdded { target, .. }
            | Self::ReactionRemoved { target, .. } => Some(*target),
            Self::Message { .. }
            | Self::MemberJoined { .. }
            | Self::MemberLeft { .. }
            | Self::IdentityChange { .. } => None,
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

    #[test]
    fn plain_message_carries_nothing_of_what_may_become_of_it() {
        let body = Body::message(
            "C000000005".parse().expect("an id"),
            MessageId(Uuid::from_u128(7)),
            UserId::new(1).expect("from 1"),
            "hi".to_owned(),
            99,
        );
        let expected = r#"{"type":"message","channel":"C000000005","message_id":"00000000-0000-0000-0000-000000000007","user":"U000000001","text":"hi","ts_ms":99}"#;
        assert_eq!(body.encode(), expected);
        assert_eq!(serde_json::from_str::<Body>(expected).expect("reads"), body);
    }

    #[test]
    fn latest_version_survives_the_store() {
        let user = UserId::new(1).expect("from 1");
        let body = Body::Message {
            channel: "D000000005".parse().expect("an id"),
            message_id: MessageId(Uuid::from_u128(7)),
            user,
            text: String::new(),
            ts_ms: 99,
            thread: Some(Seq(3)),
            posted_ms: Some(-5),
            edited: Some(Edited {
                seq: Seq(9),
                ts_ms: 100,
                user,
                count: 2,
            }),
            deleted: true,
            reactions: vec![Reaction {
                reaction: "+1".to_owned(),
                users: vec![user],
            }],
            replies: Some(Box::new(Replies {
                count: 2,
                last_seq: Seq(12),
                users: vec![user],
            })),
        };
        let back: Body = serde_json::from_str(&body.encode()).expect("reads");
        assert_eq!(back, body);
    }
}
