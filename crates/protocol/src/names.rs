use std::fmt;

use crate::{ChannelId, PodId, UserId};

/// Kafka topic of the records.
pub const TOPIC_MESSAGES: &str = "messages";
/// Kafka topic of the marks: as many partitions, the same key.
pub const TOPIC_MARKS: &str = "marks";

/// The topic of the marks that belongs to a topic of records: the two are configured together.
pub fn marks_topic(topic: &str) -> String {
    match topic {
        TOPIC_MESSAGES => TOPIC_MARKS.to_owned(),
        other => format!("{other}-{TOPIC_MARKS}"),
    }
}

/// The people of the examples, who are seeded in this order and may sign in by their place in it
/// (from 1) where development sign-in is on. The subject of their tokens is the name.
pub const EXAMPLE_USERS: [&str; 10] = [
    "John",
    "Mary",
    "Mike",
    "Frank",
    "Stephanie",
    "Richard",
    "Sonia",
    "Charlie",
    "Rowan",
    "Victoria",
];

/// Kafka consumer group of the consumers.
pub const GROUP_DEFAULT: &str = "hubbub-consumer";

/// A Redis pub/sub channel. `Display` gives the name on the wire.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum BusChannel {
    /// `channel-<id>`: the events of a chat channel.
    Channel(ChannelId),
    /// `user-<id>`: to every device of a user.
    User(UserId),
    /// `presence-<id>`: presence changes of a user, for who watches.
    Presence(UserId),
    /// `pod-<id>`: commands and answers to one process.
    Pod(PodId),
    /// `pods`: to all pods.
    Pods,
    /// `dashboard`: connection events, while someone watches.
    Dashboard,
}

impl fmt::Display for BusChannel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Channel(id) => write!(f, "channel-{id}"),
            Self::User(id) => write!(f, "user-{id}"),
            Self::Presence(id) => write!(f, "presence-{id}"),
            Self::Pod(id) => write!(f, "pod-{id}"),
            Self::Pods => f.write_str("pods"),
            Self::Dashboard => f.write_str("dashboard"),
        }
    }
}

impl BusChannel {
    /// The channel with this name on the wire; `None` if it is not one of ours.
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "pods" => return Some(Self::Pods),
            "dashboard" => return Some(Self::Dashboard),
            _ => {}
        }
        let (kind, id) = name.split_once('-')?;
        match kind {
            "channel" => id.parse().ok().map(Self::Channel),
            "user" => id.parse().ok().map(Self::User),
            "presence" => id.parse().ok().map(Self::Presence),
            "pod" => id.parse().ok().map(Self::Pod),
            _ => None,
        }
    }
}

/// Redis key of a pod's lease (`pod:<id>`, expires 5 s after the last renewal).
pub fn lease_key(pod: &PodId) -> String {
    format!("pod:{pod}")
}

/// The pod whose lease has this key; `None` if the key is no lease.
pub fn pod_of_lease_key(key: &str) -> Option<PodId> {
    key.strip_prefix("pod:")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_survive_their_text() {
        for name in [
            "channel-C000000005",
            "user-U000000001",
            "pod-edge-1",
            "pods",
            "dashboard",
        ] {
            assert_eq!(
                BusChannel::parse(name).map(|c| c.to_string()).as_deref(),
                Some(name)
            );
        }
        assert_eq!(BusChannel::parse("channel-x"), None);
        assert_eq!(BusChannel::parse("other"), None);
    }

    #[test]
    fn each_topic_of_records_has_marks_of_its_own() {
        assert_eq!(marks_topic("messages"), "marks");
        assert_eq!(marks_topic("messages-2"), "messages-2-marks");
    }
}
