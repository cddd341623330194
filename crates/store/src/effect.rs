//! What a record does to others.

use hubbub_protocol::{ReactionChange, Record, Seq};

/// What a record does to an earlier row of its channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Nothing: it stands for itself.
    None,
    /// It is a reply in the thread below a message.
    Reply {
        /// The thread's root.
        root: Seq,
    },
    /// It gives a message another text.
    Edit {
        /// The message.
        target: Seq,
        /// The text.
        text: String,
        /// Whether the editor was found to be an admin of the channel.
        as_admin: bool,
    },
    /// It deletes a message.
    Delete {
        /// The message.
        target: Seq,
        /// Whether who deletes was found to be an admin of the channel.
        as_admin: bool,
    },
    /// It gives a reaction or takes one back.
    React {
        /// The message.
        target: Seq,
        /// Which reaction.
        reaction: String,
        /// What is done with it.
        change: ReactionChange,
    },
}

impl Effect {
    /// That of a record of the log.
    pub(crate) fn of(record: &Record) -> Self {
        match record {
            Record::Message {
                thread: Some(root), ..
            } => Self::Reply { root: *root },
            Record::Message { thread: None, .. }
            | Record::Membership { .. }
            | Record::Identity { .. } => Self::None,
            Record::Edit {
                target,
                text,
                as_admin,
                ..
            } => Self::Edit {
                target: *target,
                text: text.clone(),
                as_admin: *as_admin,
            },
            Record::Delete {
                target, as_admin, ..
            } => Self::Delete {
                target: *target,
                as_admin: *as_admin,
            },
            Record::Reaction {
                target,
                reaction,
                change,
                ..
            } => Self::React {
                target: *target,
                reaction: reaction.clone(),
                change: *change,
            },
        }
    }

    /// The row that it may change.
    pub(crate) fn on(&self) -> Option<Seq> {
        match self {
            Self::None => None,
            Self::Reply { root } => Some(*root),
            Self::Edit { target, .. }
            | Self::Delete { target, .. }
            | Self::React { target, .. } => Some(*target),
        }
    }

    /// The column `target_seq`.
    pub(crate) fn target(&self) -> Option<Seq> {
        match self {
            Self::None | Self::Reply { .. } => None,
            _ => self.on(),
        }
    }

    /// The column `thread_seq`.
    pub(crate) fn thread(&self) -> Option<Seq> {
        match self {
            Self::Reply { root } => Some(*root),
            _ => None,
        }
    }
}
