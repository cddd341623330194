//! One request on its way: what came, who asks, and the one place where it is answered.
use std::{
    convert::Infallible,
    future::Future,
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::{Arc, OnceLock},
    time::Duration,
};

use bytes::{Buf, Bytes};
use futures_util::{FutureExt, Stream, StreamExt};
use hubbub_protocol::{ErrorBody, ErrorCode, Outcome, UserId, limits};
use tokio::time::{Instant, timeout};
use warp::{
    Filter, Rejection,
    http::{
        HeaderMap, HeaderValue,
        header::{
            CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS,
        },
    },
    reply::Response,
};

use crate::{
    context::Context,
    metrics::{Answered, Served},
    origin::Asked,
    query::Query,
    reply::{self, Failure},
    route::Route,
};

/// A request's deadline, from its head to its answer. Every part has a shorter one of its own (5 s
/// for the log and the databases, 8 s for the pods), so this one speaks only when several were slow.
pub(crate) const DEADLINE: Duration = Duration::from_secs(10);
/// A request's body, in bytes: what a WebSocket frame may be.
const BODY_BYTES: usize = limits::FRAME_BYTES;

/// A request's body, in parts as they arrive.
pub(crate) type Body = Pin<Box<dyn Stream<Item = Result<Bytes, warp::Error>> + Send>>;

/// A request.
pub(crate) struct Call {
    pub(crate) context: Arc<Context>,
    /// `None` for an address or a method that no operation has.
    pub(crate) route: Option<Route>,
    pub(crate) headers: HeaderMap,
    pub(crate) query: Query,
    /// Who asks, once that is known.
    pub(crate) user: OnceLock<UserId>,
    /// Names the request in logs and to its client.
    id: u64,
    begun: Instant,
}

/// Extracts the request of one operation.
pub(crate) fn call(
    context: &Arc<Context>,
    route: Option<Route>,
) -> impl Filter<Extract = (Arc<Call>,), Error = Infallible> + Clone + use<> {
    let context = context.clone();
    let query =
        warp::query::raw().or_else(|_| std::future::ready(Ok::<_, Infallible>((String::new(),))));
    warp::header::headers_cloned()
        .and(query)
        .map(move |headers: HeaderMap, query: String| {
            Arc::new(Call {
                context: context.clone(),
                route,
                headers,
                query: Query::parse(&query),
                user: OnceLock::new(),
                id: rand::random(),
                begun: Instant::now(),
            })
        })
}

/// Extracts the body, unread.
pub(crate) fn body() -> impl Filter<Extract = (Body,), Error = Rejection> + Copy {
    warp::body::stream().map(|parts| Box::pin(whole(parts)) as Body)
}

/// Gives each part as bytes, whatever kind of buffer the server has it in.
fn whole<B: Buf>(
    parts: impl Stream<Item = Result<B, warp::Error>> + Send,
) -> impl Stream<Item = Result<Bytes, warp::Error>> + Send {
    parts.map(|part| part.map(|mut part| part.copy_to_bytes(part.remaining())))
}

/// Runs a handler within its deadline and turns what comes out into the one answer: checks the
/// Origin before, counts, logs and sets the common headers after. A panic is an answer too.
pub(crate) async fn answer(
    call: Arc<Call>,
    handler: impl Future<Output = Result<Response, Failure>> + Send,
) -> Response {
    let origin = call.context.origins.check(&call.headers);
    let result = if origin == Asked::Foreign {
        Err(ErrorBody::new(ErrorCode::Forbidden, "this Origin may not call the API").into())
    } else {
        guarded(&call, handler).await
    };
    let mut response = match result {
        Ok(response) => response,
        Err(failure) => {
            log_failure(&call, &failure);
            reply::error(failure.body)
        }
    };
    let headers = response.headers_mut();
    origin.allow(headers);
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    // The page's files say for themselves how long they may be kept.
    let store = headers.entry(CACHE_CONTROL);
    store.or_insert(HeaderValue::from_static("no-store"));
    if let Ok(id) = HeaderValue::try_from(format!("{:016x}", call.id)) {
        headers.insert("x-request-id", id);
    }
    call.count(response.status().as_u16());
    response
}

async fn guarded(
    call: &Call,
    handler: impl Future<Output = Result<Response, Failure>> + Send,
) -> Result<Response, Failure> {
    match timeout(DEADLINE, AssertUnwindSafe(handler).catch_unwind()).await {
        Ok(Ok(result)) => result,
        Ok(Err(_)) => {
            // The panic hook has logged where.
            call.context.metrics.panics.inc();
            Err(ErrorBody::new(ErrorCode::Internal, "an error of the server").into())
        }
        Err(_) => Err(timed_out(call.route).into()),
    }
}

fn timed_out(route: Option<Route>) -> ErrorBody {
    let error = ErrorBody::new(ErrorCode::Timeout, "the request was not done in time");
    match route {
        // It may have been handed to the log already.
        Some(route) if route.appends() => error.outcome(Outcome::Unknown),
        _ => error,
    }
}

fn log_failure(call: &Call, failure: &Failure) {
    let (status, code) = (failure.body.status(), failure.body.code.as_str());
    let id = format_args!("{:016x}", call.id).to_string();
    let user = call.user.get().map(tracing::field::display);
    match &failure.cause {
        Some(cause) if status >= 500 => tracing::warn!(
            request.id = %id, http.route = call.label(), user.id = user, error.code = code, error = %cause,
            "request failed"
        ),
        _ if status >= 500 => tracing::warn!(
            request.id = %id, http.route = call.label(), user.id = user, error.code = code,
            "request failed"
        ),
        _ => tracing::debug!(
            request.id = %id, http.route = call.label(), user.id = user, error.code = code,
            "request refused"
        ),
    }
}

impl Call {
    /// The operation's name, for metrics and logs.
    pub(crate) fn label(&self) -> &'static str {
        self.route.map_or("none", Route::name)
    }

    fn count(&self, status: u16) {
        let (route, taken) = (self.label(), self.begun.elapsed());
        let metrics = &self.context.metrics;
        metrics
            .requests
            .get_or_create(&Answered { route, status })
            .inc();
        metrics
            .seconds
            .get_or_create(&Served { route })
            .observe(taken.as_secs_f64());
        tracing::debug!(
            request.id = format_args!("{:016x}", self.id),
            http.route = route,
            http.status = status,
            user.id = self.user.get().map(tracing::field::display),
            taken_us = u64::try_from(taken.as_micros()).unwrap_or(u64::MAX),
            "request answered"
        );
    }

    /// As [`Self::json_body`], for requests whose body says nothing that must be said: none at all
    /// is empty.
    pub(crate) async fn json_body_if_any(&self, mut body: Body) -> Result<Vec<u8>, ErrorBody> {
        if self.headers.contains_key(CONTENT_TYPE) || self.headers.contains_key(CONTENT_ENCODING) {
            return self.json_body(body).await;
        }
        while let Some(part) = body.next().await {
            if part.is_ok_and(|part| part.is_empty()) {
                continue;
            }
            // What it is, nobody said.
            check_media_type(&self.headers)?;
        }
        Ok(Vec::new())
    }

    /// Reads a body that must be JSON: at most 64 KiB, not compressed. What it says is the
    /// caller's to check.
    pub(crate) async fn json_body(&self, mut body: Body) -> Result<Vec<u8>, ErrorBody> {
        check_media_type(&self.headers)?;
        let too_large = || {
            ErrorBody::new(
                ErrorCode::BodyTooLarge,
                "the body is longer than 65536 bytes",
            )
            .limit(BODY_BYTES as u64)
        };
        let declared = self
            .headers
            .get(CONTENT_LENGTH)
            .and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
        if declared.is_some_and(|length| length > BODY_BYTES as u64) {
            return Err(too_large());
        }
        let mut all = Vec::new();
        while let Some(part) = body.next().await {
            let part = part.map_err(|error| {
                tracing::debug!(%error, "body not received");
                ErrorBody::new(ErrorCode::InvalidJson, "the body ended before its end")
            })?;
            if all.len() + part.len() > BODY_BYTES {
                return Err(too_large());
            }
            all.extend_from_slice(&part);
        }
        Ok(all)
    }
}

fn check_media_type(headers: &HeaderMap) -> Result<(), ErrorBody> {
    let refused = |message: &str| Err(ErrorBody::new(ErrorCode::UnsupportedMediaType, message));
    let encoded = headers
        .get_all(CONTENT_ENCODING)
        .iter()
        .any(|value| !value.as_bytes().eq_ignore_ascii_case(b"identity"));
    if encoded {
        return refused("a body with a content-encoding is not taken");
    }
    let mut types = headers.get_all(CONTENT_TYPE).iter();
    let (Some(media), None) = (types.next(), types.next()) else {
        return refused("the content-type must be application/json");
    };
    let media = media.to_str().unwrap_or_default();
    let (essence, parameters) = media.split_once(';').unwrap_or((media, ""));
    // JSON is UTF-8 (RFC 8259, 8.1); a sender that says otherwise means something else.
    let charset = parameters.trim().to_ascii_lowercase();
    let utf8 = matches!(
        charset.as_str(),
        "" | "charset=utf-8" | "charset=\"utf-8\"" | "charset=utf8"
    );
    if essence.trim().eq_ignore_ascii_case("application/json") && utf8 {
        Ok(())
    } else {
        refused("the content-type must be application/json")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn media(pairs: &[(&'static str, &'static str)]) -> Result<(), ErrorBody> {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_static(value));
        }
        check_media_type(&headers)
    }

    #[test]
    fn only_plain_json_is_taken() {
        for good in [
            "application/json",
            "Application/JSON; charset=UTF-8",
            "application/json;charset=utf-8",
        ] {
            assert_eq!(media(&[("content-type", good)]), Ok(()), "{good}");
        }
        for bad in [
            "",
            "text/plain",
            "application/json; charset=utf-16",
            "application/x-www-form-urlencoded",
            "application/jsonp",
        ] {
            let error = media(&[("content-type", bad)]).expect_err(bad);
            assert_eq!(error.status(), 415, "{bad}");
        }
        assert!(media(&[]).is_err());
        let json = ("content-type", "application/json");
        assert!(media(&[json, json]).is_err());
        assert!(media(&[json, ("content-encoding", "gzip")]).is_err());
        assert!(media(&[json, ("content-encoding", "identity")]).is_ok());
    }

    #[test]
    fn send_that_ran_out_of_time_is_unknown() {
        let error = timed_out(Some(Route::SendMessage));
        assert_eq!(
            (error.outcome, error.status()),
            (Some(Outcome::Unknown), 504)
        );
        let edit = timed_out(Some(Route::EditMessage));
        assert_eq!(edit.outcome, Some(Outcome::Unknown));
        assert_eq!(timed_out(Some(Route::GetMe)).outcome, None);
    }
}
