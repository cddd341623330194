//! Records as their authors make them.

use super::{Change, ReactionChange, Record, VERSION};
use crate::{ChannelId, MessageId, Seq, UserId};

impl Record {
    /// A message that is no reply; `text` has passed [`check_text`].
    pub fn message(channel: ChannelId, user: UserId, message_id: MessageId, text: String) -> Self {
        Self::reply(channel, user, message_id, text, None)
    }

    /// A message, in the thread below the message `thread` if one is given; `text` has passed
    /// [`check_text`].
    pub fn reply(
        channel: ChannelId,
        user: UserId,
        message_id: MessageId,
        text: String,
        thread: Option<Seq>,
    ) -> Self {
        Self::Message {
            v: VERSION,
            channel,
            user,
            message_id,
            text,
            thread,
            posted_ms: None,
        }
    }

    /// A message that was said elsewhere at `posted_ms`; `text` has passed [`check_text`].
    pub fn imported(
        channel: ChannelId,
        user: UserId,
        message_id: MessageId,
        text: String,
        thread: Option<Seq>,
        posted_ms: i64,
    ) -> Self {
        Self::Message {
            v: VERSION,
            channel,
            user,
            message_id,
            text,
            thread,
            posted_ms: Some(posted_ms),
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

    /// Another text for the message `target`; `text` has passed [`check_text`].
    pub fn edit(
        channel: ChannelId,
        user: UserId,
        message_id: MessageId,
        target: Seq,
        text: String,
        as_admin: bool,
    ) -> Self {
        Self::Edit {
            v: VERSION,
            channel,
            user,
            message_id,
            target,
            text,
            as_admin,
        }
    }

    /// The deletion of the message `target`.
    pub fn delete(
        channel: ChannelId,
        user: UserId,
        message_id: MessageId,
        target: Seq,
        as_admin: bool,
    ) -> Self {
        Self::Delete {
            v: VERSION,
            channel,
            user,
            message_id,
            target,
            as_admin,
        }
    }

    /// A reaction to the message `target`, which has passed [`check_reaction`].
    pub fn reaction(
        channel: ChannelId,
        user: UserId,
        message_id: MessageId,
        target: Seq,
        reaction: String,
        change: ReactionChange,
    ) -> Self {
        Self::Reaction {
            v: VERSION,
            channel,
            user,
            message_id,
            target,
            reaction,
            change,
        }
    }

    /// The user's identity has this version now.
    pub fn identity(channel: ChannelId, user: UserId, message_id: MessageId, version: i64) -> Self {
        Self::Identity {
            v: VERSION,
            channel,
            user,
            message_id,
            version,
        }
    }
}
