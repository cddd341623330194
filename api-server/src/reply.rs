use std::{collections::HashMap, fmt::Write as _};

use bytes::Bytes;
use hubbub_protocol::{ErrorBody, ErrorCode, ErrorReply, Seq, http::Version, with_seq};
use hubbub_store::{Page, Row};
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
/// which is what such an answer would cost otherwise. `versions` are by seq of the message.
pub(crate) fn page(page: &Page, versions: Vec<(Seq, Version)>) -> Response {
    let mut by_target: HashMap<Seq, Vec<Version>> = HashMap::new();
    for (target, version) in versions {
        by_target.entry(target).or_default().push(version);
    }
    let mut body = String::with_capacity(size(&page.rows) + 64);
    body.push('{');
    rows(&mut body, &page.rows, &by_target);
    end(&mut body, page);
    raw(body)
}

/// A page of a thread: its root apart.
pub(crate) fn thread(root: &Row, page: &Page) -> Response {
    let mut body = String::with_capacity(size(&page.rows) + root.body.len() + 96);
    body.push_str("{\"root\":");
    body.push_str(&with_seq(root.seq, &root.body));
    body.push(',');
    rows(&mut body, &page.rows, &HashMap::new());
    end(&mut body, page);
    raw(body)
}

fn size(rows: &[Row]) -> usize {
    rows.iter().map(|row| row.body.len() + 28).sum()
}

fn rows(body: &mut String, rows: &[Row], versions: &HashMap<Seq, Vec<Version>>) {
    body.push_str("\"messages\":[");
    for (i, row) in rows.iter().enumerate() {
        if i > 0 {
            body.push(',');
        }
        let frame = with_seq(row.seq, &row.body);
        match versions.get(&row.seq) {
            None => body.push_str(&frame),
            Some(versions) => {
                let versions = serde_json::to_string(versions).expect("only string keys");
                let open = frame.strip_suffix('}').unwrap_or(&frame);
                write!(body, "{open},\"versions\":{versions}}}")
                    .expect("a String takes every write");
            }
        }
    }
    body.push(']');
}

fn end(body: &mut String, page: &Page) {
    write!(
        body,
        ",\"has_more\":{},\"head\":{}}}",
        page.has_more, page.head
    )
    .expect("a String takes every write");
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
        MessageId, Record,
        http::{Entry, MessagePage, ThreadPage},
    };
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

    fn entry(seq: u64, versions: u64) -> Entry {
        let user = "U000000001".parse().expect("an id");
        let record = Record::message(
            "C000000005".parse().expect("an id"),
            user,
            MessageId(uuid::Uuid::from_u128(seq.into())),
            format!("hi \"{seq}\" \u{1F600}\n"),
        );
        let version = |n| Version {
            seq: Seq(seq + n),
            text: format!("before \"{n}\" }}"),
            ts_ms: 7,
            user,
        };
        Entry {
            seq: Seq(seq),
            body: record.body(99),
            versions: (0..versions).map(version).collect(),
        }
    }

    fn stored(entries: &[Entry], has_more: bool, head: u64) -> Page {
        let row = |entry: &Entry| Row {
            seq: entry.seq,
            key: entry.body.key(),
            body: entry.body.encode(),
        };
        Page {
            rows: entries.iter().map(row).collect(),
            has_more,
            head: Seq(head),
        }
    }

    #[test]
    fn spliced_page_is_the_page_serialised() {
        for rows in [0, 1, 3] {
            let entries: Vec<_> = (1..=rows).map(|n| entry(n, n % 3)).collect();
            let versions = entries
                .iter()
                .flat_map(|entry| entry.versions.iter().map(|v| (entry.seq, v.clone())))
                .collect();
            let spliced = page(&stored(&entries, rows > 1, rows + 1), versions);
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
    fn spliced_thread_is_the_thread_serialised() {
        for rows in [0, 2] {
            let entries: Vec<_> = (2..2 + rows).map(|n| entry(n, 0)).collect();
            let root = entry(1, 0);
            let row = stored(std::slice::from_ref(&root), false, 1).rows.remove(0);
            let spliced = thread(&row, &stored(&entries, true, 9));
            let back: ThreadPage = serde_json::from_slice(&bytes(spliced)).expect("a thread");
            let expected = ThreadPage {
                root,
                messages: entries,
                has_more: true,
                head: Seq(9),
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
