use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    Body, ChannelId, DeviceId, MessageId, PodId, Receipt, Seq, Snapshot, Typing, Unwatch, UserId,
    UserPresence, Watch,
};

/// Identity of a record within its channel: a retry has the same one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct MessageKey {
    /// Who sent it.
    pub user: UserId,
    /// The id that the sender chose.
    pub message_id: MessageId,
}

/// The consumer's announcement that a channel is persisted through a seq.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stored {
    /// Which channel.
    pub channel: ChannelId,
    /// The head before the batch.
    pub from: Seq,
    /// The head after it.
    pub through: Seq,
    /// The rows stored in `(from, through]`, ascending; `None` above the announcement's bound.
    pub seqs: Option<Vec<Seq>>,
}

impl Stored {
    /// The payload for `channel-<id>`.
    pub fn encode(&self) -> Vec<u8> {
        #[derive(Serialize)]
        struct Tagged<'a> {
            r#type: &'static str,
            #[serde(flatten)]
            stored: &'a Stored,
        }
        serde_json::to_vec(&Tagged {
            r#type: "stored",
            stored: self,
        })
        .expect("an announcement has only string keys")
    }
}

/// What arrives on `channel-<id>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChannelEvent {
    /// A record that the log acknowledged. The payload itself is the server frame.
    Record {
        /// Where it is in the channel.
        seq: Seq,
        /// What it is, to drop doubles by.
        key: MessageKey,
        /// For a `member_left`, who left.
        left: Option<UserId>,
    },
    /// The consumer stored something.
    Stored(Stored),
    /// Somebody is typing. Live only; the payload itself is the server frame.
    Typing(Typing),
    /// A device came further (direct channels). Live only; the payload itself is the server
    /// frame.
    Receipt(Receipt),
    /// A type that this build does not know; a newer pod sent it.
    Unknown,
}

impl ChannelEvent {
    /// Reads a payload from the channel's Redis channel. `Err` names what is wrong with it: it
    /// is to be counted and dropped. A record or announcement of another channel is an error.
    pub fn decode(channel: ChannelId, payload: &[u8]) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Peek<'a> {
            #[serde(borrow)]
            r#type: std::borrow::Cow<'a, str>,
            channel: ChannelId,
            seq: Option<Seq>,
            user: Option<UserId>,
            message_id: Option<MessageId>,
            member: Option<UserId>,
            from: Option<Seq>,
            through: Option<Seq>,
            seqs: Option<Vec<Seq>>,
            device: Option<DeviceId>,
            delivered: Option<Seq>,
            read: Option<Seq>,
        }
        let peek: Peek<'_> = serde_json::from_slice(payload).map_err(|e| e.to_string())?;
        if peek.channel != channel {
            return Err(format!(
                "event of {} on the channel of {channel}",
                peek.channel
            ));
        }
        let stored = peek.r#type == "stored";
        let left = peek.r#type == "member_left";
        match &*peek.r#type {
            "typing" => {
                let user = peek.user.ok_or("typing without user")?;
                return Ok(Self::Typing(Typing { channel, user }));
            }
            "receipt" => {
                let (Some(user), Some(device)) = (peek.user, peek.device) else {
                    return Err("receipt without user or device".to_owned());
                };
                return Ok(Self::Receipt(Receipt {
                    channel,
                    user,
                    device,
                    delivered: peek.delivered.unwrap_or_default(),
                    read: peek.read.unwrap_or_default(),
                }));
            }
            _ => {}
        }
        match peek {
            Peek {
                from: Some(from),
                through: Some(through),
                seqs,
                ..
            } if stored => Ok(Self::Stored(Stored {
                channel,
                from,
                through,
                seqs,
            })),
            _ if stored => Err("stored without from or through".to_owned()),
            Peek {
                seq: Some(seq),
                user: Some(user),
                message_id: Some(message_id),
                member,
                ..
            } => {
                let key = MessageKey { user, message_id };
                Ok(Self::Record {
                    seq,
                    key,
                    left: member.filter(|_| left),
                })
            }
            _ => Ok(Self::Unknown),
        }
    }

    /// The payload of a record: its server frame.
    pub fn encode_record(seq: Seq, body: &Body) -> Vec<u8> {
        use std::io::Write as _;
        let mut frame = Vec::with_capacity(body.json_bytes());
        write!(frame, "{{\"seq\":{seq}").expect("a Vec takes every write");
        let at = frame.len();
        serde_json::to_writer(&mut frame, body).expect("a body has only string keys");
        // The body goes on where the seq ends, as with `with_seq`.
        frame[at] = b',';
        frame
    }
}

/// What arrives on `user-<id>`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum UserEvent {
    /// Every token of the user issued until now is revoked.
    Revoked {},
    /// The user was added to this channel (a device may want to join it).
    ChannelAdded {
        /// The channel.
        channel: ChannelId,
    },
    /// A device of the user came further in a channel: news for the user's other devices.
    Receipt {
        /// Where.
        channel: ChannelId,
        /// Which device.
        device: DeviceId,
        /// Everything through this seq reached the device.
        delivered: Seq,
        /// Everything through this seq was read.
        read: Seq,
    },
}

impl UserEvent {
    /// Reads a payload from `user-<id>`. `Err` names what is wrong with it: it is to be counted
    /// and dropped. `None`: a type that this build does not know; a newer pod sent it.
    pub fn decode(payload: &[u8]) -> Result<Option<Self>, String> {
        #[derive(Deserialize)]
        struct Peek<'a> {
            #[serde(borrow)]
            r#type: std::borrow::Cow<'a, str>,
        }
        let peek: Peek<'_> = serde_json::from_slice(payload).map_err(|e| e.to_string())?;
        match &*peek.r#type {
            "revoked" | "channel_added" | "receipt" => serde_json::from_slice(payload)
                .map(Some)
                .map_err(|e| e.to_string()),
            _ => Ok(None),
        }
    }

    /// The payload for `user-<id>`.
    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("an event has only string keys")
    }
}

/// What arrives on `pods` and `pod-<id>`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum PodMessage {
    /// Somebody asks; the reply goes to `pod-<reply_to>`.
    Ask {
        /// Tells the replies to different questions apart. Asked again with the same id until
        /// it is answered, so the pod's work on it is idempotent.
        request: Uuid,
        /// Who asks.
        reply_to: PodId,
        /// What is asked.
        question: Question,
    },
    /// A pod answers.
    Reply {
        /// The question's id.
        request: Uuid,
        /// Who answers.
        pod: PodId,
        /// What it says.
        answer: Answer,
    },
    /// An order without an answer.
    Command(Command),
    /// An API server watches the dashboard.
    Watch(Watch),
    /// It does so no more.
    Unwatch(Unwatch),
    /// A part of a pod's snapshot for it.
    Snapshot(Snapshot),
    /// The process's own sign of life to itself: a connection that is healthy and deaf does not
    /// bring it back.
    Probe {
        /// Counts up.
        number: u64,
    },
}

/// A question to every pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case")]
pub enum Question {
    /// "This user is no member of this channel any more: stop relaying it to them and forget
    /// that they were one." Answered once that holds (contract P8).
    Evict {
        /// The channel.
        channel: ChannelId,
        /// The user that was removed.
        user: UserId,
    },
    /// "Which of your sockets listen to this channel?"
    Who {
        /// The channel.
        channel: ChannelId,
    },
    /// "What is the state of these users on your sockets?"
    Presence {
        /// At most [`crate::limits::WATCHED_USERS`] of one socket, but a pod may ask for more.
        users: Vec<UserId>,
    },
}

/// A socket that listens to a channel, as its pod tells it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListeningSocket {
    /// The socket's connection id.
    pub socket: String,
    /// Whose it is.
    pub user: UserId,
    /// On which device.
    pub device: DeviceId,
}

/// A pod's answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum Answer {
    /// The pod relays the channel to that user no more.
    Evicted {
        /// Sockets of the user that were listening.
        sockets: u64,
    },
    /// The pod's sockets that listen to the channel.
    Who {
        /// At most [`crate::limits::WHO_SOCKETS`].
        sockets: Vec<ListeningSocket>,
        /// Whether there are more.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        truncated: bool,
    },
    /// The users' states on the pod; who is not named is offline there.
    Presence {
        /// Those of the users asked about who are connected to the pod.
        states: Vec<UserPresence>,
    },
}

/// An order to a pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case")]
pub enum Command {
    /// Start the drain, as SIGTERM would.
    Drain {},
}

impl PodMessage {
    /// The payload for `pods` or `pod-<id>`.
    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a pod message has only string keys")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHANNEL: &str = "C000000005";

    #[test]
    fn announcement_survives_the_bus() {
        let stored = Stored {
            channel: CHANNEL.parse().expect("an id"),
            from: Seq(3),
            through: Seq(9),
            seqs: Some(vec![Seq(4), Seq(9)]),
        };
        let event = ChannelEvent::decode(stored.channel, &stored.encode());
        assert_eq!(event, Ok(ChannelEvent::Stored(stored)));
    }

    #[test]
    fn events_about_people_survive_the_bus() {
        let channel = CHANNEL.parse().expect("an id");
        let user = UserId::new(1).expect("from 1");
        let device: DeviceId = "phone".parse().expect("a device");
        let typing = Typing { channel, user };
        let event = ChannelEvent::decode(channel, typing.frame().as_bytes());
        assert_eq!(event, Ok(ChannelEvent::Typing(typing)));
        let receipt = Receipt {
            channel,
            user,
            device: device.clone(),
            delivered: Seq(9),
            read: Seq(4),
        };
        let event = ChannelEvent::decode(channel, receipt.frame().as_bytes());
        assert_eq!(event, Ok(ChannelEvent::Receipt(receipt)));
        for event in [
            UserEvent::Revoked {},
            UserEvent::ChannelAdded { channel },
            UserEvent::Receipt {
                channel,
                device,
                delivered: Seq(9),
                read: Seq(4),
            },
        ] {
            assert_eq!(UserEvent::decode(&event.encode()), Ok(Some(event)));
        }
        assert_eq!(UserEvent::decode(br#"{"type":"confetti"}"#), Ok(None));
        assert!(UserEvent::decode(br#"{"type":"receipt"}"#).is_err());
    }

    #[test]
    fn malformed_event_is_an_error_and_a_new_type_is_not() {
        let channel = CHANNEL.parse().expect("an id");
        for bad in [
            "",
            "[]",
            "{}",
            r#"{"type":"stored","channel":"C000000005"}"#,
            r#"{"type":"typing","channel":"C000000005"}"#,
            r#"{"type":"receipt","channel":"C000000005","user":"U000000001"}"#,
        ] {
            assert!(
                ChannelEvent::decode(channel, bad.as_bytes()).is_err(),
                "{bad}"
            );
        }
        let foreign = br#"{"type":"stored","channel":"C000000006","from":1,"through":2}"#;
        assert!(ChannelEvent::decode(channel, foreign).is_err());
        let new = br#"{"type":"confetti","channel":"C000000005"}"#;
        assert_eq!(
            ChannelEvent::decode(channel, new),
            Ok(ChannelEvent::Unknown)
        );
    }
}
