//! The records of the log.

mod new;

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::{
    Body, ChannelId, MessageId, ReactionError, Seq, TextError, UserId, body::JSON_BYTES,
    check_reaction, check_text,
};

/// The version that this build writes and the only one it reads.
const VERSION: u8 = 1;

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
    /// Its reaction breaks a rule.
    #[error(transparent)]
    Reaction(#[from] ReactionError),
    /// A seq that it names is above [`Seq::MAX`].
    #[error("seq {0} is out of range")]
    Seq(Seq),
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
    /// A message got another text.
    Edit,
    /// A message was deleted.
    Delete,
    /// A reaction was given or taken back.
    Reaction,
    /// A member's name, picture or status changed.
    Identity,
}

impl RecordKind {
    /// Every kind.
    pub const ALL: [Self; 6] = [
        Self::Message,
        Self::Membership,
        Self::Edit,
        Self::Delete,
        Self::Reaction,
        Self::Identity,
    ];

    /// The value of the column `kind`.
    pub fn to_db(self) -> i16 {
        match self {
            Self::Message => 1,
            Self::Membership => 2,
            Self::Edit => 3,
            Self::Delete => 4,
            Self::Reaction => 5,
            Self::Identity => 6,
        }
    }

    /// The kind of a row; `None` for a value that a newer build wrote.
    pub fn from_db(value: i16) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.to_db() == value)
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

/// What was done with a reaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReactionChange {
    /// It was given.
    Added,
    /// It was taken back.
    Removed,
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
        /// Seq of the thread's root, for a reply.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        thread: Option<Seq>,
        /// When it was said where it was imported from, milliseconds since 1970.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        posted_ms: Option<i64>,
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
    /// `user` gives a message another text.
    Edit {
        /// Version of the format.
        v: u8,
        /// Where.
        channel: ChannelId,
        /// Who.
        user: UserId,
        /// Identity of the edit.
        message_id: MessageId,
        /// Seq of the message.
        target: Seq,
        /// What it says from here on: checked by [`check_text`].
        text: String,
        /// Whether the user was found to be an admin of the channel, so that the message need
        /// not be theirs.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        as_admin: bool,
    },
    /// `user` deletes a message.
    Delete {
        /// Version of the format.
        v: u8,
        /// Where.
        channel: ChannelId,
        /// Who.
        user: UserId,
        /// Identity of the deletion.
        message_id: MessageId,
        /// Seq of the message.
        target: Seq,
        /// Whether the user was found to be an admin of the channel, so that the message need
        /// not be theirs.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        as_admin: bool,
    },
    /// `user` gives a message a reaction, or takes theirs back.
    Reaction {
        /// Version of the format.
        v: u8,
        /// Where.
        channel: ChannelId,
        /// Who.
        user: UserId,
        /// Identity of the change.
        message_id: MessageId,
        /// Seq of the message.
        target: Seq,
        /// Which: checked by [`check_reaction`].
        reaction: String,
        /// What was done with it.
        change: ReactionChange,
    },
    /// `user` has another name, picture or status.
    Identity {
        /// Version of the format.
        v: u8,
        /// Where it is told.
        channel: ChannelId,
        /// Whose.
        user: UserId,
        /// Identity of the record.
        message_id: MessageId,
        /// The identity's version after the change.
        version: i64,
    },
}

/// The fields of [`Record::Message`], which most records are: read by themselves, because a tagged
/// enum gathers every field in a tree of values first.
#[derive(Deserialize)]
struct Said {
    v: u8,
    channel: ChannelId,
    user: UserId,
    message_id: MessageId,
    text: String,
    #[serde(default)]
    thread: Option<Seq>,
    #[serde(default)]
    posted_ms: Option<i64>,
}

impl From<Said> for Record {
    fn from(said: Said) -> Self {
        Self::Message {
            v: said.v,
            channel: said.channel,
            user: said.user,
            message_id: said.message_id,
            text: said.text,
            thread: said.thread,
            posted_ms: said.posted_ms,
        }
    }
}

impl Record {
    /// Reads a payload of the log and checks it as the edge checked it before the append.
    pub fn decode(payload: &[u8]) -> Result<Self, RecordError> {
        let record = Self::read(payload)?;
        let (v, _, _, _) = record.common();
        if v != VERSION {
            return Err(RecordError::Version(v));
        }
        match &record {
            Self::Message { text, .. } | Self::Edit { text, .. } => check_text(text)?,
            Self::Reaction { reaction, .. } => check_reaction(reaction)?,
            Self::Membership { .. } | Self::Delete { .. } | Self::Identity { .. } => {}
        }
        match record.target().or(record.thread()) {
            Some(seq) if seq > Seq::MAX => Err(RecordError::Seq(seq)),
            _ => Ok(record),
        }
    }

    fn read(payload: &[u8]) -> serde_json::Result<Self> {
        #[derive(Deserialize)]
        struct Peek<'a> {
            #[serde(borrow)]
            kind: Cow<'a, str>,
        }
        let peek: Peek<'_> = serde_json::from_slice(payload)?;
        if peek.kind == "message" {
            serde_json::from_slice::<Said>(payload).map(Self::from)
        } else {
            serde_json::from_slice(payload)
        }
    }

    /// The payload for the log.
    pub fn encode(&self) -> Vec<u8> {
        let text = match self {
            Self::Message { text, .. } | Self::Edit { text, .. } => text.len(),
            _ => 0,
        };
        let mut json = Vec::with_capacity(JSON_BYTES + text);
        serde_json::to_writer(&mut json, self)
            .expect("a record has only string keys and no failing serializer");
        json
    }

    /// The fields that every record has: version, where, by whom, its identity.
    fn common(&self) -> (u8, ChannelId, UserId, MessageId) {
        match self {
            Self::Message {
                v,
                channel,
                user,
                message_id,
                ..
            }
            | Self::Membership {
                v,
                channel,
                user,
                message_id,
                ..
            }
            | Self::Edit {
                v,
                channel,
                user,
                message_id,
                ..
            }
            | Self::Delete {
                v,
                channel,
                user,
                message_id,
                ..
            }
            | Self::Reaction {
                v,
                channel,
                user,
                message_id,
                ..
            }
            | Self::Identity {
                v,
                channel,
                user,
                message_id,
                ..
            } => (*v, *channel, *user, *message_id),
        }
    }

    /// Where.
    pub fn channel(&self) -> ChannelId {
        self.common().1
    }

    /// Who sent it.
    pub fn user(&self) -> UserId {
        self.common().2
    }

    /// Its identity.
    pub fn message_id(&self) -> MessageId {
        self.common().3
    }

    /// What it is about.
    pub fn kind(&self) -> RecordKind {
        match self {
            Self::Message { .. } => RecordKind::Message,
            Self::Membership { .. } => RecordKind::Membership,
            Self::Edit { .. } => RecordKind::Edit,
            Self::Delete { .. } => RecordKind::Delete,
            Self::Reaction { .. } => RecordKind::Reaction,
            Self::Identity { .. } => RecordKind::Identity,
        }
    }

    /// The message that an edit, a deletion or a reaction is about.
    pub fn target(&self) -> Option<Seq> {
        match self {
            Self::Edit { target, .. }
            | Self::Delete { target, .. }
            | Self::Reaction { target, .. } => Some(*target),
            Self::Message { .. } | Self::Membership { .. } | Self::Identity { .. } => None,
        }
    }

    /// Seq of the thread's root, for a reply.
    pub fn thread(&self) -> Option<Seq> {
        match self {
            Self::Message { thread, .. } => *thread,
            _ => None,
        }
    }

    /// Whether an edit or a deletion was found to come from an admin of the channel.
    pub fn as_admin(&self) -> bool {
        matches!(
            self,
            Self::Edit { as_admin: true, .. } | Self::Delete { as_admin: true, .. }
        )
    }

    /// The server frame of this record without its seq, which is also the column `body`.
    /// `ts_ms` is the broker's append time.
    pub fn body(self, ts_ms: i64) -> Body {
        let (_, channel, user, message_id) = self.common();
        match self {
            Self::Message {
                text,
                thread,
                posted_ms,
                ..
            } => Body::Message {
                channel,
                message_id,
                user,
                text,
                ts_ms,
                thread,
                posted_ms,
                edited: None,
                deleted: false,
                reactions: Vec::new(),
                replies: None,
            },
            Self::Membership { change, member, .. } => match change {
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
            Self::Edit { target, text, .. } => Body::MessageChanged {
                channel,
                message_id,
                user,
                target,
                text,
                ts_ms,
            },
            Self::Delete { target, .. } => Body::MessageDeleted {
                channel,
                message_id,
                user,
                target,
                ts_ms,
            },
            Self::Reaction {
                target,
                reaction,
                change,
                ..
            } => match change {
                ReactionChange::Added => Body::ReactionAdded {
                    channel,
                    message_id,
                    user,
                    target,
                    reaction,
                    ts_ms,
                },
                ReactionChange::Removed => Body::ReactionRemoved {
                    channel,
                    message_id,
                    user,
                    target,
                    reaction,
                    ts_ms,
                },
            },
            Self::Identity { version, .. } => Body::IdentityChange {
                channel,
                message_id,
                user,
                version,
                ts_ms,
            },
        }
    }
}

#[cfg(test)]
mod tests;
