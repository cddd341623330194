//! The fields of a client's requests, checked, over WebSocket and HTTP alike.

use std::borrow::Cow;

use serde::{Deserialize, de::DeserializeOwned};
use serde_json::value::RawValue;

use crate::{
    ChannelId, ErrorBody, ErrorCode, MessageId, PresenceState, Seq, TextError, UserId,
    check_reaction, check_text, limits,
};

/// The fields of a send. The text has been checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SendMessage {
    /// Where to.
    pub channel: ChannelId,
    /// 1 to [`limits::TEXT_BYTES`] bytes.
    pub text: String,
    /// Seq of the thread's root, for a reply.
    pub thread: Option<Seq>,
    /// The id that the client chose, if it chose one.
    pub client_msg_id: Option<MessageId>,
    /// Whether this is a resend: appended again, but not published.
    pub retry: bool,
}

/// The fields of an edit. The text has been checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EditMessage {
    /// Where.
    pub channel: ChannelId,
    /// Seq of the message.
    pub target: Seq,
    /// 1 to [`limits::TEXT_BYTES`] bytes.
    pub text: String,
    /// The id that the client chose for the edit, if it chose one.
    pub client_msg_id: Option<MessageId>,
    /// Whether this is a resend: appended again, but not published.
    pub retry: bool,
}

/// The fields of a deletion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeleteMessage {
    /// Where.
    pub channel: ChannelId,
    /// Seq of the message.
    pub target: Seq,
    /// The id that the client chose for the deletion, if it chose one.
    pub client_msg_id: Option<MessageId>,
    /// Whether this is a resend: appended again, but not published.
    pub retry: bool,
}

/// The fields of a reaction, given or taken back. The reaction has been checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct React {
    /// Where.
    pub channel: ChannelId,
    /// Seq of the message.
    pub target: Seq,
    /// Which: 1 to [`limits::REACTION_BYTES`] bytes.
    pub reaction: String,
    /// Whether it is taken back.
    pub remove: bool,
    /// The id that the client chose for the change, if it chose one.
    pub client_msg_id: Option<MessageId>,
    /// Whether this is a resend: appended again, but not published.
    pub retry: bool,
}

/// How far the device came in a channel. At least one of the two is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// Where.
    pub channel: ChannelId,
    /// Everything through this seq reached the device.
    pub delivered: Option<Seq>,
    /// Everything through this seq was shown to the user.
    pub read: Option<Seq>,
}

/// The fields that name a change beside its address: the body of `DELETE` and of `PUT` requests,
/// which may be empty.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ChangeOptions {
    /// The id that the client chose for the change, if it chose one.
    pub client_msg_id: Option<MessageId>,
    /// Whether this is a resend.
    pub retry: bool,
}

/// A JSON object before its fields are looked at.
#[derive(Deserialize)]
pub(crate) struct Raw<'a> {
    #[serde(borrow)]
    pub(crate) id: Option<&'a RawValue>,
    #[serde(borrow)]
    r#type: Option<&'a RawValue>,
    #[serde(borrow)]
    channel: Option<&'a RawValue>,
    #[serde(borrow)]
    text: Option<&'a RawValue>,
    #[serde(borrow)]
    thread: Option<&'a RawValue>,
    #[serde(borrow)]
    client_msg_id: Option<&'a RawValue>,
    #[serde(borrow)]
    retry: Option<&'a RawValue>,
    #[serde(borrow)]
    since: Option<&'a RawValue>,
    #[serde(borrow)]
    ordered: Option<&'a RawValue>,
    #[serde(borrow)]
    target: Option<&'a RawValue>,
    #[serde(borrow)]
    reaction: Option<&'a RawValue>,
    #[serde(borrow)]
    remove: Option<&'a RawValue>,
    #[serde(borrow)]
    delivered: Option<&'a RawValue>,
    #[serde(borrow)]
    read: Option<&'a RawValue>,
    #[serde(borrow)]
    state: Option<&'a RawValue>,
    #[serde(borrow)]
    users: Option<&'a RawValue>,
}

fn invalid(field: &'static str, expected: &str) -> ErrorBody {
    ErrorBody::new(
        ErrorCode::InvalidField,
        format!("{field} must be {expected}"),
    )
    .field(field)
}

pub(crate) fn optional<T: DeserializeOwned>(
    raw: Option<&RawValue>,
    field: &'static str,
    expected: &'static str,
) -> Result<Option<T>, ErrorBody> {
    match raw {
        None => Ok(None),
        Some(raw) if raw.get() == "null" => Ok(None),
        Some(raw) => serde_json::from_str(raw.get())
            .map(Some)
            .map_err(|_| invalid(field, expected)),
    }
}

fn missing(field: &'static str, expected: &str) -> ErrorBody {
    ErrorBody::new(
        ErrorCode::MissingField,
        format!("{field} is missing: {expected}"),
    )
    .field(field)
}

pub(crate) fn required<T: DeserializeOwned>(
    raw: Option<&RawValue>,
    field: &'static str,
    expected: &'static str,
) -> Result<T, ErrorBody> {
    optional(raw, field, expected)?.ok_or_else(|| missing(field, expected))
}

/// A seq from `least` (0 or 1) to [`Seq::MAX`].
fn seq(raw: Option<&RawValue>, field: &'static str, least: u64) -> Result<Option<Seq>, ErrorBody> {
    let expected = match least {
        0 => "an integer from 0 to 9007199254740991",
        _ => "an integer from 1 to 9007199254740991",
    };
    match optional::<u64>(raw, field, expected)? {
        Some(seq) if seq > Seq::MAX.0 => Err(invalid(field, expected).limit(Seq::MAX.0)),
        Some(seq) if seq < least => Err(invalid(field, expected)),
        seq => Ok(seq.map(Seq)),
    }
}

/// Checks a reaction as requests have it, for one that came in an address. `.` and `..` are refused:
/// in an address they mean another place (RFC 3986, 5.2.4), so that taking `..` back would ask for
/// the deletion of the message.
pub fn checked_reaction(reaction: String) -> Result<String, ErrorBody> {
    if matches!(reaction.as_str(), "." | "..") {
        let error = ErrorBody::new(
            ErrorCode::InvalidField,
            "reaction is a path, not a reaction",
        );
        return Err(error.field("reaction"));
    }
    match check_reaction(&reaction) {
        Ok(()) => Ok(reaction),
        Err(error) => Err(ErrorBody::new(ErrorCode::InvalidField, error.to_string())
            .field("reaction")
            .limit(limits::REACTION_BYTES as u64)),
    }
}

fn no_object(error: serde_json::Error) -> ErrorBody {
    let message = format!("not a JSON object: {error}");
    ErrorBody::new(ErrorCode::InvalidJson, message)
}

impl<'a> Raw<'a> {
    /// Reads a JSON object of bounded depth.
    pub(crate) fn read(json: &'a str) -> Result<Self, ErrorBody> {
        check_json_depth(json.as_bytes())?;
        serde_json::from_str(json).map_err(no_object)
    }

    /// The same of bytes that may be no text.
    fn of_body(json: &'a [u8]) -> Result<Self, ErrorBody> {
        check_json_depth(json)?;
        serde_json::from_slice(json).map_err(no_object)
    }

    /// The `type`, which is seldom written with escapes.
    pub(crate) fn kind(&self) -> Result<Cow<'a, str>, ErrorBody> {
        if let Some(raw) = self.r#type
            && let Ok(kind) = serde_json::from_str(raw.get())
        {
            return Ok(Cow::Borrowed(kind));
        }
        required(self.r#type, "type", "a string such as \"message\"").map(Cow::Owned)
    }

    pub(crate) fn channel(&self) -> Result<ChannelId, ErrorBody> {
        required(
            self.channel,
            "channel",
            "a channel id such as \"C000000005\"",
        )
    }

    pub(crate) fn since(&self) -> Result<Option<Seq>, ErrorBody> {
        seq(self.since, "since", 0)
    }

    pub(crate) fn ordered(&self) -> Result<bool, ErrorBody> {
        Ok(optional(self.ordered, "ordered", "true or false")?.unwrap_or(false))
    }

    fn target(&self) -> Result<Seq, ErrorBody> {
        seq(self.target, "target", 1)?.ok_or_else(|| missing("target", "the seq of a message"))
    }

    fn text(&self) -> Result<String, ErrorBody> {
        let text: String = required(self.text, "text", "a string")?;
        match check_text(&text) {
            Ok(()) => Ok(text),
            Err(error @ TextError::TooLong) => {
                Err(ErrorBody::new(ErrorCode::TextTooLong, error.to_string())
                    .field("text")
                    .limit(limits::TEXT_BYTES as u64))
            }
            Err(error @ (TextError::Empty | TextError::Nul)) => {
                Err(ErrorBody::new(ErrorCode::InvalidField, error.to_string()).field("text"))
            }
        }
    }

    fn options(&self) -> Result<ChangeOptions, ErrorBody> {
        Ok(ChangeOptions {
            client_msg_id: optional(self.client_msg_id, "client_msg_id", "a UUID as a string")?,
            retry: optional(self.retry, "retry", "true or false")?.unwrap_or(false),
        })
    }

    pub(crate) fn send(&self, channel: ChannelId) -> Result<SendMessage, ErrorBody> {
        let text = self.text()?;
        let thread = seq(self.thread, "thread", 1)?;
        let ChangeOptions {
            client_msg_id,
            retry,
        } = self.options()?;
        Ok(SendMessage {
            channel,
            text,
            thread,
            client_msg_id,
            retry,
        })
    }

    pub(crate) fn edit(&self, channel: ChannelId, target: Seq) -> Result<EditMessage, ErrorBody> {
        let text = self.text()?;
        let ChangeOptions {
            client_msg_id,
            retry,
        } = self.options()?;
        Ok(EditMessage {
            channel,
            target,
            text,
            client_msg_id,
            retry,
        })
    }

    pub(crate) fn edit_of_target(&self, channel: ChannelId) -> Result<EditMessage, ErrorBody> {
        self.edit(channel, self.target()?)
    }

    pub(crate) fn delete(&self, channel: ChannelId) -> Result<DeleteMessage, ErrorBody> {
        let target = self.target()?;
        let ChangeOptions {
            client_msg_id,
            retry,
        } = self.options()?;
        Ok(DeleteMessage {
            channel,
            target,
            client_msg_id,
            retry,
        })
    }

    pub(crate) fn react(&self, channel: ChannelId) -> Result<React, ErrorBody> {
        let target = self.target()?;
        let reaction = checked_reaction(required(self.reaction, "reaction", "a string")?)?;
        let ChangeOptions {
            client_msg_id,
            retry,
        } = self.options()?;
        Ok(React {
            channel,
            target,
            reaction,
            remove: optional(self.remove, "remove", "true or false")?.unwrap_or(false),
            client_msg_id,
            retry,
        })
    }

    pub(crate) fn mark(&self, channel: ChannelId) -> Result<Mark, ErrorBody> {
        let mark = Mark {
            channel,
            delivered: seq(self.delivered, "delivered", 0)?,
            read: seq(self.read, "read", 0)?,
        };
        match mark {
            Mark {
                delivered: None,
                read: None,
                ..
            } => Err(missing(
                "read",
                "a mark has delivered, read or both, as seqs",
            )),
            mark => Ok(mark),
        }
    }

    /// What a device says of itself: offline is not among it.
    pub(crate) fn state(&self) -> Result<PresenceState, ErrorBody> {
        const STATES: &str = "\"active\" or \"away\"";
        match required(self.state, "state", STATES)? {
            PresenceState::Offline => Err(invalid("state", STATES)),
            state => Ok(state),
        }
    }

    pub(crate) fn users(&self) -> Result<Vec<UserId>, ErrorBody> {
        let users: Vec<UserId> = required(
            self.users,
            "users",
            "an array of user ids such as [\"U000000001\"]",
        )?;
        if users.len() > limits::WATCHED_USERS {
            let limit = limits::WATCHED_USERS;
            return Err(invalid("users", &format!("at most {limit} users")).limit(limit as u64));
        }
        Ok(users)
    }
}

impl SendMessage {
    /// Reads `{text, thread?, client_msg_id?, retry?}` (the body of
    /// `POST /channels/{id}/messages`).
    pub fn decode(channel: ChannelId, body: &[u8]) -> Result<Self, ErrorBody> {
        Raw::of_body(body)?.send(channel)
    }
}

impl EditMessage {
    /// Reads `{text, client_msg_id?, retry?}` (the body of
    /// `PATCH /channels/{id}/messages/{seq}`).
    pub fn decode(channel: ChannelId, target: Seq, body: &[u8]) -> Result<Self, ErrorBody> {
        Raw::of_body(body)?.edit(channel, target)
    }
}

impl Mark {
    /// Reads `{delivered?, read?}` (the body of `PUT /channels/{id}/marks`).
    pub fn decode(channel: ChannelId, body: &[u8]) -> Result<Self, ErrorBody> {
        Raw::of_body(body)?.mark(channel)
    }
}

impl ChangeOptions {
    /// Reads `{client_msg_id?, retry?}`; nothing at all is an empty object.
    pub fn decode(body: &[u8]) -> Result<Self, ErrorBody> {
        match body {
            [] => Ok(Self::default()),
            body => Raw::of_body(body)?.options(),
        }
    }
}

/// Refuses JSON that nests deeper than [`limits::JSON_DEPTH`], for bodies that another decoder
/// than this crate's reads. It says nothing of whether they are JSON at all.
pub fn check_json_depth(json: &[u8]) -> Result<(), ErrorBody> {
    if too_deep(json) {
        let error = ErrorBody::new(ErrorCode::InvalidJson, "the JSON nests too deep");
        return Err(error.limit(limits::JSON_DEPTH as u64));
    }
    Ok(())
}

/// Whether brackets nest deeper than [`limits::JSON_DEPTH`]; text in quotes does not count.
fn too_deep(json: &[u8]) -> bool {
    // Few have so many brackets at all, and those are quickly counted.
    let mut opens = memchr::memchr2_iter(b'{', b'[', json);
    if opens.nth(limits::JSON_DEPTH).is_none() {
        return false;
    }
    let (mut depth, mut quoted, mut escaped) = (0_usize, false, false);
    for &byte in json {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'{' | b'[' if !quoted => {
                depth += 1;
                if depth > limits::JSON_DEPTH {
                    return true;
                }
            }
            b'}' | b']' if !quoted => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    false
}
