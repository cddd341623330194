//! What the seed's clients and edges say to each other.

use std::collections::HashMap;

use hubbub_protocol::{ChannelId, MessageId, UserId};
use serde::{Deserialize, Serialize};

/// Who belongs to which channel.
pub(crate) type Members = HashMap<ChannelId, Vec<UserId>>;

/// A message, the same for clients, on Redis and in Kafka.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Said {
    /// Where.
    pub(crate) channel: ChannelId,
    /// Who.
    pub(crate) user: UserId,
    /// The id that its client chose.
    pub(crate) id: MessageId,
    /// What.
    pub(crate) text: String,
}

/// What a client says.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum Asked {
    /// `userA joins channelX`
    Join { channel: ChannelId },
    /// `sendMessage(destChannelId, message)`
    Message(Said),
    /// Shows that it is there.
    Ping,
}

/// What an edge says.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum Told {
    /// The edge is subscribed.
    Joined { channel: ChannelId },
    /// It is not: ask again.
    NotJoined { channel: ChannelId },
    /// It was published.
    Ok { id: MessageId },
    /// It could not be published: send it again.
    Failed { id: MessageId },
    /// Somebody said something.
    Message(Said),
    /// An answer to a ping.
    Pong,
}

/// As a text frame, or what is published.
pub(crate) fn encode<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("these types have only keys that are strings")
}
