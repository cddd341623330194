use std::sync::Arc;

use hubbub_protocol::{ErrorBody, ErrorCode, Outcome, PodId};

/// What a full queue asks the sender to wait, in milliseconds: the log's queue of 10,000 records
/// drains in less once its brokers answer.
const OVERLOADED_RETRY_MS: u64 = 1_000;

/// What somebody is asked to wait whose message is not stored yet, in milliseconds: it is stored in
/// less while the consumer runs, and a request has waited for it before it failed.
const NOT_STORED_RETRY_MS: u64 = 1_000;

/// Why something was not done. Translated once, at the border, by [`Error::body`].
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is absent, or the caller is no member: the two are never told apart.
    #[error("channel not found")]
    ChannelNotFound,
    /// No such user.
    #[error("user not found")]
    UserNotFound,
    /// No message that can be edited, deleted or answered has the seq; nothing was appended.
    #[error("message not found")]
    MessageNotFound,
    /// The store has not come as far as the seq; nothing was appended.
    #[error("not stored yet")]
    NotStoredYet,
    /// The caller sees the channel and may not do this to it; the text is for the caller.
    #[error("forbidden: {0}")]
    Forbidden(&'static str),
    /// Another channel has the name.
    #[error("name taken")]
    NameTaken,
    /// A field breaks a rule; the message is for the caller.
    #[error("{message}")]
    Invalid {
        /// The field at fault.
        field: &'static str,
        /// What is wrong with it.
        message: String,
        /// The limit that was broken, in the unit of the field.
        limit: Option<u64>,
    },
    /// More sends than the user's rate allows; nothing was appended.
    #[error("rate limited")]
    RateLimited {
        /// When the next one will be taken.
        retry_after_ms: u64,
    },
    /// The log's queue is full; nothing was appended.
    #[error("the log's queue is full")]
    Overloaded,
    /// The record never reached the log.
    #[error("send rejected: {0}")]
    Rejected(String),
    /// It may be in the log.
    #[error("outcome unknown: {0}")]
    Unknown(String),
    /// A removal stands, but these pods have not confirmed that they relay no more to the user.
    #[error("pods did not confirm: {0:?}")]
    Unconfirmed(Vec<PodId>),
    /// A database did not answer.
    #[error(transparent)]
    Store(#[from] hubbub_store::Error),
    /// The same for a question that several asked together.
    #[error(transparent)]
    Members(Arc<hubbub_store::Error>),
    /// Redis did not answer.
    #[error(transparent)]
    Bus(#[from] hubbub_bus::Error),
}

impl Error {
    /// The error as the client sees it: never an inner message.
    pub fn body(&self) -> ErrorBody {
        match self {
            Self::ChannelNotFound => {
                ErrorBody::new(ErrorCode::ChannelNotFound, "no such channel, or not yours")
            }
            Self::UserNotFound => ErrorBody::new(ErrorCode::UserNotFound, "no such user"),
            Self::MessageNotFound => ErrorBody::new(
                ErrorCode::MessageNotFound,
                "no message of the channel has this seq, or it was deleted",
            )
            .outcome(Outcome::Rejected),
            Self::NotStoredYet => ErrorBody::new(
                ErrorCode::NotStoredYet,
                "the channel is not stored as far as this seq yet; nothing was done",
            )
            .retry_after_ms(NOT_STORED_RETRY_MS)
            .outcome(Outcome::Rejected),
            Self::Forbidden(why) => ErrorBody::new(ErrorCode::Forbidden, *why),
            Self::NameTaken => {
                ErrorBody::new(ErrorCode::NameTaken, "a channel of that name exists").field("name")
            }
            Self::Invalid {
                field,
                message,
                limit,
            } => {
                let body = ErrorBody::new(ErrorCode::InvalidField, message.as_str()).field(*field);
                match limit {
                    Some(limit) => body.limit(*limit),
                    None => body,
                }
            }
            Self::RateLimited { retry_after_ms } => ErrorBody::new(
                ErrorCode::RateLimited,
                "more than the rate of this user allows",
            )
            .retry_after_ms(*retry_after_ms)
            .outcome(Outcome::Rejected),
            Self::Overloaded => ErrorBody::new(
                ErrorCode::Overloaded,
                "the log cannot take more now; nothing was sent",
            )
            .retry_after_ms(OVERLOADED_RETRY_MS)
            .outcome(Outcome::Rejected),
            Self::Rejected(_) => ErrorBody::new(
                ErrorCode::LogUnavailable,
                "the log did not take the message; nothing was sent",
            )
            .outcome(Outcome::Rejected),
            Self::Unknown(_) => ErrorBody::new(
                ErrorCode::LogUnavailable,
                "the log did not acknowledge in time: the message may have been sent; \
                 send it again with the same client_msg_id and retry:true",
            )
            .outcome(Outcome::Unknown),
            Self::Unconfirmed(_) => ErrorBody::new(
                ErrorCode::BusUnavailable,
                "the member was removed, but not every server has confirmed it; \
                 send the request again",
            ),
            Self::Store(error) => store_body(error),
            Self::Members(error) => store_body(error),
            Self::Bus(_) => ErrorBody::new(
                ErrorCode::BusUnavailable,
                "the servers cannot reach each other now",
            ),
        }
    }
}

fn store_body(error: &hubbub_store::Error) -> ErrorBody {
    use hubbub_store::Error as Store;
    match error {
        Store::Core(_) => ErrorBody::new(
            error.code(),
            "users, channels and memberships cannot be read now",
        ),
        Store::Shard { .. } => ErrorBody::new(
            error.code(),
            "the history of this channel cannot be read now",
        ),
        Store::NameTaken => Error::NameTaken.body(),
        Store::NoUser => Error::UserNotFound.body(),
        Store::Refused(_) => ErrorBody::new(error.code(), "an error of the server"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rejected_and_unknown_are_told_apart() {
        let rejected = Error::Rejected("broker 3 refused".to_owned()).body();
        assert_eq!(rejected.outcome, Some(Outcome::Rejected));
        assert_eq!(rejected.status(), 503);
        let unknown = Error::Unknown("timed out".to_owned()).body();
        assert_eq!(unknown.outcome, Some(Outcome::Unknown));
        assert_eq!(unknown.status(), 504);
        for body in [rejected, unknown] {
            assert!(body.retryable, "{body:?}");
        }
    }

    #[test]
    fn message_that_cannot_be_changed_is_rejected_and_a_new_one_may_be_tried_again() {
        let gone = Error::MessageNotFound.body();
        assert_eq!((gone.status(), gone.retryable), (404, false));
        let early = Error::NotStoredYet.body();
        assert!(early.retryable && early.retry_after_ms.is_some());
        for body in [gone, early] {
            assert_eq!(body.outcome, Some(Outcome::Rejected));
        }
    }

    #[test]
    fn inner_text_is_never_shown() {
        let secret = "10.0.0.7:9092";
        let errors = [
            Error::Rejected(secret.to_owned()),
            Error::Unknown(secret.to_owned()),
            Error::Unconfirmed(vec![secret.replace(':', "-").parse().expect("a pod id")]),
            Error::Store(hubbub_store::Error::Refused(secret.to_owned())),
        ];
        for error in errors {
            assert!(error.to_string().contains("10.0.0.7"), "{error}");
            let body = serde_json::to_string(&error.body()).expect("serialises");
            assert!(!body.contains("10.0.0.7"), "{body}");
        }
    }

    #[test]
    fn limits_and_delays_reach_the_client() {
        let body = Error::RateLimited {
            retry_after_ms: 120,
        }
        .body();
        assert_eq!((body.status(), body.retry_after_ms), (429, Some(120)));
        let body = Error::Invalid {
            field: "name",
            message: "too long".to_owned(),
            limit: Some(80),
        }
        .body();
        assert_eq!(body.field.as_deref(), Some("name"));
        assert_eq!((body.limit, body.status()), (Some(80), 400));
        assert_eq!(Error::Unconfirmed(vec![]).body().status(), 503);
        assert!(Error::Unconfirmed(vec![]).body().retryable);
        assert_eq!(Error::NameTaken.body().status(), 409);
    }
}
