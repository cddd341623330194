//! What a client sends.

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::value::RawValue;

use crate::{ChannelId, ErrorBody, ErrorCode, MessageId, Seq, TextError, check_text, limits};

/// The id that a client gives a request: an integer, or a string up to 64 bytes. Without one
/// there is no reply.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(untagged)]
pub enum RequestId {
    /// An integer of JSON's safe range.
    Number(i64),
    /// A string of up to [`limits::REQUEST_ID_BYTES`] bytes.
    Text(Box<str>),
}

/// A frame that is no valid request, with the id to reply to, if it could be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FrameError {
    /// The request's id.
    pub id: Option<RequestId>,
    /// What is wrong with it.
    pub error: ErrorBody,
}

/// The fields of a send, over WebSocket and HTTP alike. The text has been checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SendMessage {
    /// Where to.
    pub channel: ChannelId,
    /// 1 to [`limits::TEXT_BYTES`] bytes.
    pub text: String,
    /// The id that the client chose, if it chose one.
    pub client_msg_id: Option<MessageId>,
    /// Whether this is a resend: appended again, but not published.
    pub retry: bool,
}

/// A request of a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientFrame {
    /// Listen to a channel, from `since` on if given.
    Join {
        /// The channel.
        channel: ChannelId,
        /// The last seq that the client was `synced` to.
        since: Option<Seq>,
        /// Whether records come strictly by seq.
        ordered: bool,
    },
    /// Listen no more.
    Leave {
        /// The channel.
        channel: ChannelId,
    },
    /// Say something.
    Message(SendMessage),
    /// A sign of life.
    Ping,
}

#[derive(Deserialize)]
struct Raw<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    r#type: Option<&'a RawValue>,
    #[serde(borrow)]
    channel: Option<&'a RawValue>,
    #[serde(borrow)]
    text: Option<&'a RawValue>,
    #[serde(borrow)]
    client_msg_id: Option<&'a RawValue>,
    #[serde(borrow)]
    retry: Option<&'a RawValue>,
    #[serde(borrow)]
    since: Option<&'a RawValue>,
    #[serde(borrow)]
    ordered: Option<&'a RawValue>,
}

fn optional<T: DeserializeOwned>(
    raw: Option<&RawValue>,
    field: &'static str,
    expected: &'static str,
) -> Result<Option<T>, ErrorBody> {
    match raw {
        None => Ok(None),
        Some(raw) if raw.get() == "null" => Ok(None),
        Some(raw) => serde_json::from_str(raw.get()).map(Some).map_err(|_| {
            ErrorBody::new(
                ErrorCode::InvalidField,
                format!("{field} must be {expected}"),
            )
            .field(field)
        }),
    }
}

fn required<T: DeserializeOwned>(
    raw: Option<&RawValue>,
    field: &'static str,
    expected: &'static str,
) -> Result<T, ErrorBody> {
    optional(raw, field, expected)?.ok_or_else(|| {
        ErrorBody::new(
            ErrorCode::MissingField,
            format!("{field} is missing: {expected}"),
        )
        .field(field)
    })
}

const A_CHANNEL: &str = "a channel id such as \"C000000005\"";

impl SendMessage {
    /// Reads `{text, client_msg_id?, retry?}` (the body of `POST /channels/{id}/messages`).
    pub fn decode(channel: ChannelId, body: &[u8]) -> Result<Self, ErrorBody> {
        let raw: Raw<'_> = read(body)?;
        Self::from_raw(channel, &raw)
    }

    fn from_raw(channel: ChannelId, raw: &Raw<'_>) -> Result<Self, ErrorBody> {
        let text: String = required(raw.text, "text", "a string")?;
        check_text(&text).map_err(|error| {
            let code = match error {
                TextError::TooLong => ErrorCode::TextTooLong,
                TextError::Empty | TextError::Nul => ErrorCode::InvalidField,
            };
            let body = ErrorBody::new(code, error.to_string()).field("text");
            match error {
                TextError::TooLong => body.limit(limits::TEXT_BYTES as u64),
                TextError::Empty | TextError::Nul => body,
            }
        })?;
        Ok(Self {
            channel,
            text,
            client_msg_id: optional(raw.client_msg_id, "client_msg_id", "a UUID as a string")?,
            retry: optional(raw.retry, "retry", "true or false")?.unwrap_or(false),
        })
    }
}

/// Reads a JSON object of bounded depth.
fn read(json: &[u8]) -> Result<Raw<'_>, ErrorBody> {
    check_json_depth(json)?;
    serde_json::from_slice(json).map_err(|error| {
        ErrorBody::new(
            ErrorCode::InvalidJson,
            format!("not a JSON object: {error}"),
        )
    })
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

impl ClientFrame {
    /// Reads one text frame: the request's id, if it has one, and the request. Unknown fields
    /// are ignored; an unknown `type` is an error that names it.
    pub fn decode(text: &str) -> Result<(Option<RequestId>, Self), FrameError> {
        let bare = |error| FrameError { id: None, error };
        let raw: Raw<'_> = read(text.as_bytes()).map_err(bare)?;
        const AN_ID: &str = "an integer or a string of at most 64 bytes";
        let id: Option<RequestId> = optional(raw.id, "id", AN_ID).map_err(bare)?;
        if let Some(RequestId::Text(text)) = &id
            && text.len() > limits::REQUEST_ID_BYTES
        {
            return Err(bare(
                ErrorBody::new(ErrorCode::InvalidField, format!("id must be {AN_ID}"))
                    .field("id")
                    .limit(limits::REQUEST_ID_BYTES as u64),
            ));
        }
        match Self::from_raw(&raw) {
            Ok(frame) => Ok((id, frame)),
            Err(error) => Err(FrameError { id, error }),
        }
    }

    fn from_raw(raw: &Raw<'_>) -> Result<Self, ErrorBody> {
        let kind: String = required(raw.r#type, "type", "a string such as \"message\"")?;
        match kind.as_str() {
            "join" => {
                let since: Option<u64> =
                    optional(raw.since, "since", "an integer from 0 to 9007199254740991")?;
                if since.is_some_and(|s| s > Seq::MAX.0) {
                    return Err(ErrorBody::new(
                        ErrorCode::InvalidField,
                        "since must be an integer from 0 to 9007199254740991",
                    )
                    .field("since")
                    .limit(Seq::MAX.0));
                }
                Ok(Self::Join {
                    channel: required(raw.channel, "channel", A_CHANNEL)?,
                    since: since.map(Seq),
                    ordered: optional(raw.ordered, "ordered", "true or false")?.unwrap_or(false),
                })
            }
            "leave" => Ok(Self::Leave {
                channel: required(raw.channel, "channel", A_CHANNEL)?,
            }),
            "message" => {
                let channel = required(raw.channel, "channel", A_CHANNEL)?;
                SendMessage::from_raw(channel, raw).map(Self::Message)
            }
            "ping" => Ok(Self::Ping),
            _ => {
                let shown: String = kind.chars().take(32).collect();
                Err(ErrorBody::new(
                    ErrorCode::UnknownType,
                    format!("type {shown:?} is none of join, leave, message, ping"),
                )
                .field("type"))
            }
        }
    }

    /// The text frame of this request, with its id.
    pub fn encode(&self, id: Option<&RequestId>) -> String {
        #[derive(Serialize)]
        struct Out<'a> {
            #[serde(skip_serializing_if = "Option::is_none")]
            id: Option<&'a RequestId>,
            r#type: &'static str,
            #[serde(skip_serializing_if = "Option::is_none")]
            channel: Option<ChannelId>,
            #[serde(skip_serializing_if = "Option::is_none")]
            text: Option<&'a str>,
            #[serde(skip_serializing_if = "Option::is_none")]
            client_msg_id: Option<MessageId>,
            #[serde(skip_serializing_if = "Option::is_none")]
            since: Option<Seq>,
            #[serde(skip_serializing_if = "std::ops::Not::not")]
            ordered: bool,
            #[serde(skip_serializing_if = "std::ops::Not::not")]
            retry: bool,
        }
        let mut out = Out {
            id,
            r#type: "ping",
            channel: None,
            text: None,
            client_msg_id: None,
            since: None,
            ordered: false,
            retry: false,
        };
        match self {
            Self::Join {
                channel,
                since,
                ordered,
            } => {
                out.r#type = "join";
                out.channel = Some(*channel);
                out.since = *since;
                out.ordered = *ordered;
            }
            Self::Leave { channel } => {
                out.r#type = "leave";
                out.channel = Some(*channel);
            }
            Self::Message(send) => {
                out.r#type = "message";
                out.channel = Some(send.channel);
                out.text = Some(&send.text);
                out.client_msg_id = send.client_msg_id;
                out.retry = send.retry;
            }
            Self::Ping => {}
        }
        serde_json::to_string(&out).expect("a request has only string keys")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn error_of(text: &str) -> FrameError {
        ClientFrame::decode(text).expect_err(text)
    }

    #[test]
    fn error_names_field_limit_and_id() {
        let error = error_of(r#"{"id":7,"type":"join","channel":"X"}"#);
        assert_eq!(error.id, Some(RequestId::Number(7)));
        assert_eq!(error.error.field.as_deref(), Some("channel"));

        let error = error_of(r#"{"id":"a","type":"join"}"#);
        assert_eq!(error.error.code, ErrorCode::MissingField);

        let long = "x".repeat(limits::TEXT_BYTES + 1);
        let text = format!(r#"{{"type":"message","channel":"C000000005","text":"{long}"}}"#);
        let error = error_of(&text);
        assert_eq!(error.error.code, ErrorCode::TextTooLong);
        assert_eq!(error.error.limit, Some(limits::TEXT_BYTES as u64));

        assert_eq!(
            error_of(r#"{"type":"dance"}"#).error.code,
            ErrorCode::UnknownType
        );
        assert_eq!(error_of("[]").error.code, ErrorCode::InvalidJson);
        assert_eq!(
            error_of(&"[".repeat(100_000)).error.code,
            ErrorCode::InvalidJson
        );
        let since = r#"{"type":"join","channel":"C000000005","since":9007199254740992}"#;
        assert_eq!(error_of(since).error.field.as_deref(), Some("since"));
        let negative = r#"{"type":"join","channel":"C000000005","since":-1}"#;
        assert_eq!(error_of(negative).error.field.as_deref(), Some("since"));
    }

    #[test]
    fn unknown_fields_are_ignored() {
        let text = r#"{"type":"leave","channel":"C000000005","mood":{"a":[1]}}"#;
        let (id, frame) = ClientFrame::decode(text).expect("valid");
        assert_eq!(id, None);
        assert_eq!(
            frame,
            ClientFrame::Leave {
                channel: "C000000005".parse().expect("an id")
            }
        );
    }

    #[test]
    fn text_limit_counts_bytes() {
        let channel = "C000000005".parse().expect("an id");
        let body = format!(r#"{{"text":"{}"}}"#, "x".repeat(limits::TEXT_BYTES));
        assert!(SendMessage::decode(channel, body.as_bytes()).is_ok());
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_a_panic(text: String) {
            drop(ClientFrame::decode(&text));
            drop(crate::ServerFrame::decode(&text));
        }

        #[test]
        fn requests_survive_the_wire(text in "[^\0]{1,64}", retry: bool, n: i64) {
            let frame = ClientFrame::Message(SendMessage {
                channel: "C000000005".parse().expect("an id"),
                text,
                client_msg_id: Some(MessageId(uuid::Uuid::from_u128(9))),
                retry,
            });
            let id = RequestId::Number(n);
            let back = ClientFrame::decode(&frame.encode(Some(&id)));
            prop_assert_eq!(back, Ok((Some(id), frame)));
        }
    }
}
