use std::fmt::Write as _;

use bytes::Bytes;
use hubbub_protocol::{ErrorBody, ErrorCode, ErrorReply, with_seq};
use hubbub_store::Page;
use serde::Serialize;
use warp::{
    http::{
        HeaderValue, StatusCode,
        header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE},
    },
    reply::Response,
};

const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// Why a request fails: what the client sees, and what only the log does.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) body: ErrorBody,
    pub(crate) cause: Option<Box<hubbub_chat::Error>>,
}

impl From<ErrorBody> for Failure {
    fn from(body: ErrorBody) -> Self {
        Self { body, cause: None }
    }
}

impl From<hubbub_chat::Error> for Failure {
    fn from(error: hubbub_chat::Error) -> Self {
        Self {
            body: error.body(),
            cause: Some(Box::new(error)),
        }
    }
}

impl From<hubbub_store::Error> for Failure {
    fn from(error: hubbub_store::Error) -> Self {
        hubbub_chat::Error::from(error).into()
    }
}

fn with_body(status: StatusCode, body: impl Into<Bytes>) -> Response {
    let body: Bytes = body.into();
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, JSON);
    response
}

/// 200 with a JSON body that is ready.
pub(crate) fn raw(body: impl Into<Bytes>) -> Response {
    with_body(StatusCode::OK, body)
}

/// `status` with `value` as JSON.
pub(crate) fn json<T: Serialize>(status: StatusCode, value: &T) -> Result<Response, Failure> {
    match serde_json::to_vec(value) {
        Ok(body) => Ok(with_body(status, body)),
        Err(error) => {
            tracing::error!(%error, "cannot serialise a reply");
            Err(ErrorBody::new(ErrorCode::Internal, "an error of the server").into())
        }
    }
}

/// A page of history, joined from the stored frames: they are neither parsed nor written again,
/// which is what such an answer would cost otherwise.
pub(crate) fn page(page: &Page) -> Response {
    let stored: usize = page.rows.iter().map(|row| row.body.len() + 28).sum();
    let mut body = String::with_capacity(stored + 64);
    body.push_str("{\"messages\":[");
    for (i, row) in page.rows.iter().enumerate() {
        if i > 0 {
            body.push(',');
        }
        body.push_str(&with_seq(row.seq, &row.body));
    }
    write!(
        body,
        "],\"has_more\":{},\"head\":{}}}",
        page.has_more, page.head
    )
    .expect("a String takes every write");
    raw(body)
}

/// The answer to a request that failed.
pub(crate) fn error(error: ErrorBody) -> Response {
    let status = StatusCode::from_u16(error.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let (code, retry_after_ms) = (error.code, error.retry_after_ms);
    let body = serde_json::to_vec(&ErrorReply { error }).unwrap_or_default();
    let mut response = with_body(status, body);
    let headers = response.headers_mut();
    if let Some(delay) = retry_after_ms {
        // The header counts whole seconds (RFC 9110, 10.2.3): never less than the delay.
        headers.insert(RETRY_AFTER, HeaderValue::from(delay.div_ceil(1_000)));
    }
    if code == ErrorCode::Unauthorized {
        headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response
}

#[cfg(test)]
mod tests {
    use std::{
        pin::Pin,
        task::{Context, Poll, Waker},
    };

    use hubbub_protocol::{
        Body, MessageId, Record, Seq,
        http::{Entry, MessagePage},
    };
    use hubbub_store::Row;
    use warp::hyper::body::Body as _;

    use super::*;

    fn bytes(response: Response) -> Vec<u8> {
        let mut body = response.into_body();
        let mut cx = Context::from_waker(Waker::noop());
        let mut all = Vec::new();
        while let Poll::Ready(Some(frame)) = Pin::new(&mut body).poll_frame(&mut cx) {
            let frame = frame.expect("the body is in memory");
            all.extend_from_slice(frame.data_ref().expect("no trailers"));
        }
        all
    }

    #[test]
    fn spliced_page_is_the_page_serialised() {
        let body = |n: u128| -> Body {
            Record::message(
                "C000000005".parse().expect("an id"),
                "U000000001".parse().expect("an id"),
                MessageId(uuid::Uuid::from_u128(n)),
                format!("hi \"{n}\" \u{1F600}\n"),
            )
            .body(99)
        };
        for rows in [0, 1, 3] {
            let entries: Vec<_> = (1..=rows)
                .map(|n| Entry {
                    seq: Seq(n),
                    body: body(n.into()),
                    versions: Vec::new(),
                })
                .collect();
            let spliced = page(&Page {
                rows: entries
                    .iter()
                    .map(|entry| Row {
                        seq: entry.seq,
                        key: entry.body.key(),
                        body: entry.body.encode(),
                    })
                    .collect(),
                has_more: rows > 1,
                head: Seq(rows + 1),
            });
            let back: MessagePage = serde_json::from_slice(&bytes(spliced)).expect("a page");
            let expected = MessagePage {
                messages: entries,
                has_more: rows > 1,
                head: Seq(rows + 1),
            };
            assert_eq!(back, expected);
        }
    }

    #[test]
    fn errors_have_status_and_delay() {
        let limited = ErrorBody::new(ErrorCode::RateLimited, "slower").retry_after_ms(1_001);
        let response = error(limited.clone());
        assert_eq!(response.status(), 429);
        assert_eq!(response.headers()[RETRY_AFTER], "2");
        let back: ErrorReply = serde_json::from_slice(&bytes(response)).expect("an error");
        assert_eq!(back.error, limited);
        let response = error(ErrorBody::new(ErrorCode::Unauthorized, "no token"));
        assert_eq!(response.headers()[WWW_AUTHENTICATE], "Bearer");
    }
}
