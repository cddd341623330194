use serde::{Deserialize, Serialize};

/// Why a request failed, as clients see it: the same set over WebSocket and HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// The frame or body is not JSON, or nests too deep.
    InvalidJson,
    /// `type` names no request.
    UnknownType,
    /// A field is absent that must be there.
    MissingField,
    /// A field has the wrong type or a value outside its bounds.
    InvalidField,
    /// `text` is longer than its limit.
    TextTooLong,
    /// No token, or one that is not valid.
    Unauthorized,
    /// The caller may see this but not do it.
    Forbidden,
    /// The channel is absent, or the caller is no member: the two are never told apart.
    ChannelNotFound,
    /// The user is absent.
    UserNotFound,
    /// No message that can be edited, deleted or answered has this seq: absent, deleted, or a
    /// record of another kind.
    MessageNotFound,
    /// The message is so new that it is not stored yet: nothing was done.
    NotStoredYet,
    /// No such address.
    NotFound,
    /// The address does not take this method.
    MethodNotAllowed,
    /// The body has another content type or encoding than JSON.
    UnsupportedMediaType,
    /// The body is above its limit.
    BodyTooLarge,
    /// A channel of that name exists.
    NameTaken,
    /// More requests than the caller's rate allows; see `retry_after_ms`.
    RateLimited,
    /// More channels joined than a socket may have.
    TooManyJoins,
    /// A queue is full; nothing was done; see `retry_after_ms`.
    Overloaded,
    /// The log did not acknowledge: the message may or may not be in it. Send it again with the
    /// same id and `retry:true`.
    LogUnavailable,
    /// The shard that holds this channel's history cannot be read now.
    ShardUnavailable,
    /// The core database (users, channels, memberships) cannot be read now.
    CoreUnavailable,
    /// The bus cannot be reached, and this request needs it.
    BusUnavailable,
    /// The request was not answered in time by the part that does it.
    Timeout,
    /// The server is about to restart.
    Draining,
    /// An error of the server; its log has the details.
    Internal,
}

impl ErrorCode {
    /// The code on the wire, which is also the metric's label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InvalidJson => "invalid_json",
            Self::UnknownType => "unknown_type",
            Self::MissingField => "missing_field",
            Self::InvalidField => "invalid_field",
            Self::TextTooLong => "text_too_long",
            Self::Unauthorized => "unauthorized",
            Self::Forbidden => "forbidden",
            Self::ChannelNotFound => "channel_not_found",
            Self::UserNotFound => "user_not_found",
            Self::MessageNotFound => "message_not_found",
            Self::NotStoredYet => "not_stored_yet",
            Self::NotFound => "not_found",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::UnsupportedMediaType => "unsupported_media_type",
            Self::BodyTooLarge => "body_too_large",
            Self::NameTaken => "name_taken",
            Self::RateLimited => "rate_limited",
            Self::TooManyJoins => "too_many_joins",
            Self::Overloaded => "overloaded",
            Self::LogUnavailable => "log_unavailable",
            Self::ShardUnavailable => "shard_unavailable",
            Self::CoreUnavailable => "core_unavailable",
            Self::BusUnavailable => "bus_unavailable",
            Self::Timeout => "timeout",
            Self::Draining => "draining",
            Self::Internal => "internal",
        }
    }

    /// Whether the same request may succeed later.
    pub fn retryable(self) -> bool {
        matches!(
            self,
            Self::RateLimited
                | Self::NotStoredYet
                | Self::Overloaded
                | Self::LogUnavailable
                | Self::ShardUnavailable
                | Self::CoreUnavailable
                | Self::BusUnavailable
                | Self::Timeout
                | Self::Draining
                | Self::Internal
        )
    }

    /// The HTTP status (RFC 9110, 15). A send whose outcome is unknown is 504 instead.
    pub fn status(self) -> u16 {
        match self {
            Self::InvalidJson
            | Self::UnknownType
            | Self::MissingField
            | Self::InvalidField
            | Self::TextTooLong
            | Self::TooManyJoins => 400,
            Self::Unauthorized => 401,
            Self::Forbidden => 403,
            Self::ChannelNotFound | Self::UserNotFound | Self::MessageNotFound | Self::NotFound => {
                404
            }
            Self::MethodNotAllowed => 405,
            Self::NameTaken => 409,
            Self::BodyTooLarge => 413,
            Self::UnsupportedMediaType => 415,
            Self::RateLimited => 429,
            Self::Internal => 500,
            Self::Overloaded
            | Self::NotStoredYet
            | Self::LogUnavailable
            | Self::ShardUnavailable
            | Self::CoreUnavailable
            | Self::BusUnavailable
            | Self::Draining => 503,
            Self::Timeout => 504,
        }
    }
}

/// What became of a message whose send failed (contract P2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It never reached the log.
    Rejected,
    /// It may be in the log: send it again with the same id and `retry:true`.
    Unknown,
}

/// The error object of replies and HTTP bodies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// What went wrong, for programs.
    pub code: ErrorCode,
    /// What went wrong and what to do, for people.
    pub message: String,
    /// The field at fault.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// The limit that was broken, in the unit of the field.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
    /// Whether the same request may succeed later.
    pub retryable: bool,
    /// The least time to wait before that, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
    /// For sends: whether the message may be in the log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
}

impl ErrorBody {
    /// An error without field, limit, delay and outcome.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            field: None,
            limit: None,
            retryable: code.retryable(),
            retry_after_ms: None,
            outcome: None,
        }
    }

    /// Names the field at fault.
    #[must_use]
    pub fn field(mut self, field: impl Into<String>) -> Self {
        self.field = Some(field.into());
        self
    }

    /// Names the limit that was broken.
    #[must_use]
    pub fn limit(mut self, limit: u64) -> Self {
        self.limit = Some(limit);
        self
    }

    /// Names the least time to wait before a retry, in milliseconds.
    #[must_use]
    pub fn retry_after_ms(mut self, delay: u64) -> Self {
        self.retry_after_ms = Some(delay);
        self
    }

    /// Says what became of a message whose send failed.
    #[must_use]
    pub fn outcome(mut self, outcome: Outcome) -> Self {
        self.outcome = Some(outcome);
        self
    }

    /// The HTTP status of this error: 504 for a send whose outcome is unknown.
    pub fn status(&self) -> u16 {
        match self.outcome {
            Some(Outcome::Unknown) => 504,
            _ => self.code.status(),
        }
    }
}

/// The body of an HTTP error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorReply {
    /// What went wrong.
    pub error: ErrorBody,
}
