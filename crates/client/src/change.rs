use hubbub_protocol::{
    ChannelId, ClientFrame, DeleteMessage, EditMessage, MessageId, React, SendMessage, Seq,
    check_reaction, check_text,
};

use crate::Refused;

/// What a client brings into a channel's log: a message, or something about one. All of them have
/// an identity, are sent again until the answer is definite, and are once in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Something is said.
    Message {
        /// 1 to 16384 bytes of UTF-8, no U+0000.
        text: String,
        /// Seq of the thread's root, for a reply.
        thread: Option<Seq>,
    },
    /// The message `target` says something else now (its author, or an admin).
    Edit {
        /// Seq of the message.
        target: Seq,
        /// As that of a message.
        text: String,
    },
    /// The message `target` is gone (its author, or an admin).
    Delete {
        /// Seq of the message.
        target: Seq,
    },
    /// A reaction to the message `target` is given, or taken back.
    React {
        /// Seq of the message.
        target: Seq,
        /// An emoji or its name: 1 to 64 bytes without white space and control characters.
        reaction: String,
        /// Whether it is taken back.
        remove: bool,
    },
}

impl Change {
    /// A message that is no reply.
    pub fn message(text: impl Into<String>) -> Self {
        Self::Message {
            text: text.into(),
            thread: None,
        }
    }

    /// What the server would refuse for its contents alone.
    pub(crate) fn check(&self) -> Result<(), Refused> {
        match self {
            Self::Message { text, .. } | Self::Edit { text, .. } => check_text(text)?,
            Self::React { reaction, .. } => check_reaction(reaction)?,
            Self::Delete { .. } => {}
        }
        Ok(())
    }

    /// The request; [`Self::of`] gives the change back, so that a text is not copied for each
    /// attempt.
    pub(crate) fn into_frame(
        self,
        channel: ChannelId,
        message_id: MessageId,
        retry: bool,
    ) -> ClientFrame {
        let client_msg_id = Some(message_id);
        match self {
            Self::Message { text, thread } => ClientFrame::Message(SendMessage {
                channel,
                text,
                thread,
                client_msg_id,
                retry,
            }),
            Self::Edit { target, text } => ClientFrame::Edit(EditMessage {
                channel,
                target,
                text,
                client_msg_id,
                retry,
            }),
            Self::Delete { target } => ClientFrame::Delete(DeleteMessage {
                channel,
                target,
                client_msg_id,
                retry,
            }),
            Self::React {
                target,
                reaction,
                remove,
            } => ClientFrame::Reaction(React {
                channel,
                target,
                reaction,
                remove,
                client_msg_id,
                retry,
            }),
        }
    }

    /// The change of a request that [`Self::into_frame`] made; `None` for any other.
    pub(crate) fn of(frame: ClientFrame) -> Option<Self> {
        match frame {
            ClientFrame::Message(SendMessage { text, thread, .. }) => {
                Some(Self::Message { text, thread })
            }
            ClientFrame::Edit(EditMessage { target, text, .. }) => {
                Some(Self::Edit { target, text })
            }
            ClientFrame::Delete(DeleteMessage { target, .. }) => Some(Self::Delete { target }),
            ClientFrame::Reaction(React {
                target,
                reaction,
                remove,
                ..
            }) => Some(Self::React {
                target,
                reaction,
                remove,
            }),
            _ => None,
        }
    }
}
