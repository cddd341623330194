//! From a TCP connection to a socket with a user: HTTP/1.1 upgrade (RFC 6455, 4.2), token,
//! Origin, with deadlines.
//!
//! hyper reads the request, so that limits, malformed requests and refusals are those of a
//! well-kept HTTP server; after the 101 it hands the TCP stream back and is gone.

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::Full;
use hubbub_protocol::{DeviceId, ErrorBody, ErrorCode, ErrorReply, UserId};
use hubbub_service::{telemetry::wall_clock_ms, token};
use hyper::{
    Method, Request, Response, StatusCode, Version,
    body::Incoming,
    header::{self, HeaderMap, HeaderValue},
    upgrade::{OnUpgrade, Upgraded},
};
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use tokio::{net::TcpStream, time::timeout};

use crate::Edge;

/// From the accept to the first byte, and from there to the end of the headers.
const STEP_DEADLINE: Duration = Duration::from_secs(5);
/// From the accept to the upgrade, the look-up of the user included.
const DEADLINE: Duration = Duration::from_secs(10);
/// Bytes of request line and headers.
const HEADER_BYTES: usize = 16 * 1024;
/// The one subprotocol.
const SUBPROTOCOL: &str = "hubbub.v1";

/// Whose socket it is.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    /// The user of the token.
    pub(crate) user: UserId,
    /// The device: claim, query or random.
    pub(crate) device: DeviceId,
    /// When the token expires, seconds since 1970.
    pub(crate) expires_at_s: i64,
    /// Whether the edge joins the device to its direct channels by itself.
    pub(crate) direct: bool,
}

/// An upgraded connection.
#[derive(Debug)]
pub(crate) struct Accepted {
    /// Whose it is.
    pub(crate) identity: Identity,
    /// The stream, from which the HTTP request has been read.
    pub(crate) tcp: TcpStream,
    /// What the client sent behind its request.
    pub(crate) early: Vec<u8>,
    /// Where it comes from.
    pub(crate) peer: SocketAddr,
}

/// Waits for the first byte, at most 5 s; false: there is none.
pub(crate) async fn speaks(edge: &Edge, tcp: &TcpStream) -> bool {
    let mut first = [0_u8; 1];
    match timeout(STEP_DEADLINE, tcp.peek(&mut first)).await {
        Ok(first) => first.is_ok_and(|count| count > 0),
        Err(_) => {
            edge.metrics.handshake("timeout");
            false
        }
    }
}

/// Performs the handshake. `None`: the client was refused, vanished or was too slow; it has had
/// its answer and the metrics their count.
pub(crate) async fn perform(
    edge: &Arc<Edge>,
    tcp: TcpStream,
    peer: SocketAddr,
) -> Option<Accepted> {
    let upgrade: Arc<Mutex<Option<(Identity, OnUpgrade)>>> = Arc::default();
    let service = {
        let (edge, upgrade) = (Arc::clone(edge), Arc::clone(&upgrade));
        hyper::service::service_fn(move |mut request: Request<Incoming>| {
            let (edge, upgrade) = (Arc::clone(&edge), Arc::clone(&upgrade));
            async move {
                Ok::<_, Infallible>(match check(&edge, &request).await {
                    Ok((identity, response)) => {
                        *upgrade.lock() = Some((identity, hyper::upgrade::on(&mut request)));
                        response
                    }
                    Err(refusal) => {
                        edge.metrics.handshake(refusal.error.code.as_str());
                        tracing::debug!(
                            peer = %peer, error.code = refusal.error.code.as_str(),
                            error.message = refusal.error.message, "handshake refused"
                        );
                        refusal.into_response()
                    }
                })
            }
        })
    };
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(STEP_DEADLINE)
        .max_buf_size(HEADER_BYTES);
    let connection = builder
        .serve_connection(TokioIo::new(tcp), service)
        .with_upgrades();
    match timeout(DEADLINE, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            edge.metrics.handshake("malformed");
            tracing::debug!(peer = %peer, error = %error, "handshake failed");
            return None;
        }
        Err(_) => {
            edge.metrics.handshake("timeout");
            return None;
        }
    }
    let (identity, on_upgrade) = upgrade.lock().take()?;
    let upgraded: Upgraded = timeout(STEP_DEADLINE, on_upgrade).await.ok()?.ok()?;
    let parts = upgraded.downcast::<TokioIo<TcpStream>>().ok()?;
    edge.metrics.handshake("ok");
    Some(Accepted {
        identity,
        tcp: parts.io.into_inner(),
        // A copy, seldom of anything: the buffer itself has 8 KiB and would live with the socket.
        early: parts.read_buf.to_vec(),
        peer,
    })
}

struct Refusal {
    error: Box<ErrorBody>,
    /// Instead of the code's own status.
    status: Option<StatusCode>,
}

impl From<ErrorBody> for Refusal {
    fn from(error: ErrorBody) -> Self {
        Self {
            error: Box::new(error),
            status: None,
        }
    }
}

impl Refusal {
    fn into_response(self) -> Response<Full<Bytes>> {
        let status = self.status.unwrap_or_else(|| {
            StatusCode::from_u16(self.error.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
        });
        let retry_after_s = self.error.retry_after_ms.map(|ms| ms.div_ceil(1_000));
        let body = serde_json::to_vec(&ErrorReply { error: *self.error })
            .expect("an error has only string keys");
        let mut response = Response::new(Full::new(Bytes::from(body)));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        );
        headers.insert(
            "x-content-type-options",
            HeaderValue::from_static("nosniff"),
        );
        // It would wait for another request, and keep a handshake's place meanwhile.
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        if let Some(seconds) = retry_after_s {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if status == StatusCode::METHOD_NOT_ALLOWED {
            headers.insert(header::ALLOW, HeaderValue::from_static("GET"));
        }
        if status == StatusCode::UPGRADE_REQUIRED {
            headers.insert(
                header::SEC_WEBSOCKET_VERSION,
                HeaderValue::from_static("13"),
            );
            headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        }
        response
    }
}

fn refuse(status: StatusCode, code: ErrorCode, message: &str) -> Refusal {
    Refusal {
        error: Box::new(ErrorBody::new(code, message)),
        status: Some(status),
    }
}

fn unauthorized(message: impl Into<String>) -> Refusal {
    ErrorBody::new(ErrorCode::Unauthorized, message).into()
}

async fn check(
    edge: &Edge,
    request: &Request<Incoming>,
) -> Result<(Identity, Response<Full<Bytes>>), Refusal> {
    if request.uri().path() != "/ws" {
        return Err(ErrorBody::new(ErrorCode::NotFound, "the WebSocket is at /ws").into());
    }
    if request.method() != Method::GET {
        return Err(
            ErrorBody::new(ErrorCode::MethodNotAllowed, "a WebSocket starts with GET").into(),
        );
    }
    let headers = request.headers();
    let accept = check_upgrade(request.version(), headers)?;
    check_origin(&edge.config.allowed_origins, headers)?;
    if edge.is_draining() {
        return Err(
            ErrorBody::new(ErrorCode::Draining, "this server restarts: connect again")
                .retry_after_ms(1_000)
                .into(),
        );
    }
    let query = request.uri().query().unwrap_or_default();
    if ["token=", "access_token=", "jwt="]
        .iter()
        .any(|name| query.contains(name))
    {
        return Err(unauthorized(
            "a token in the URL is not accepted: it would be logged on its way",
        ));
    }
    let identity = identify(edge, headers, query).await?;

    let mut response = Response::new(Full::new(Bytes::new()));
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let out = response.headers_mut();
    out.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    out.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    out.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    if offered(headers).is_some_and(|all| all.split(',').any(|one| one.trim() == SUBPROTOCOL)) {
        out.insert(
            header::SEC_WEBSOCKET_PROTOCOL,
            HeaderValue::from_static(SUBPROTOCOL),
        );
    }
    Ok((identity, response))
}

/// Checks the headers of RFC 6455, 4.2.1, and gives the value of `Sec-WebSocket-Accept`.
fn check_upgrade(version: Version, headers: &HeaderMap) -> Result<HeaderValue, Refusal> {
    let has = |name: header::HeaderName, wanted: &str| {
        headers
            .get_all(name)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .any(|token| token.trim().eq_ignore_ascii_case(wanted))
    };
    if version != Version::HTTP_11
        || !has(header::CONNECTION, "upgrade")
        || !has(header::UPGRADE, "websocket")
        || headers
            .get(header::SEC_WEBSOCKET_VERSION)
            .is_none_or(|v| v != "13")
    {
        let message = "this address takes WebSocket upgrades, version 13, over HTTP/1.1";
        return Err(refuse(
            StatusCode::UPGRADE_REQUIRED,
            ErrorCode::InvalidField,
            message,
        ));
    }
    // 16 bytes in base64 are 24 characters that end in "==".
    let key = headers
        .get(header::SEC_WEBSOCKET_KEY)
        .filter(|key| key.len() == 24 && key.as_bytes().ends_with(b"=="))
        .ok_or_else(|| {
            let message = "Sec-WebSocket-Key must be 16 bytes in base64";
            refuse(StatusCode::BAD_REQUEST, ErrorCode::InvalidField, message)
        })?;
    let accept = tokio_tungstenite::tungstenite::handshake::derive_accept_key(key.as_bytes());
    HeaderValue::from_str(&accept).map_err(|_| {
        refuse(
            StatusCode::INTERNAL_SERVER_ERROR,
            ErrorCode::Internal,
            "internal error",
        )
    })
}

/// No Origin header: no browser, and the token alone decides. Otherwise exactly one, and in the
/// list as it stands (RFC 6454, 6.2: browsers send it in lower case and without a path).
fn check_origin(allowed: &[String], headers: &HeaderMap) -> Result<(), Refusal> {
    let mut origins = headers.get_all(header::ORIGIN).iter();
    match (origins.next(), origins.next()) {
        (None, _) => Ok(()),
        (Some(origin), None)
            if allowed
                .iter()
                .any(|one| one.as_bytes() == origin.as_bytes()) =>
        {
            Ok(())
        }
        _ => Err(ErrorBody::new(ErrorCode::Forbidden, "this origin may not connect").into()),
    }
}

fn offered(headers: &HeaderMap) -> Option<&str> {
    headers
        .get(header::SEC_WEBSOCKET_PROTOCOL)
        .and_then(|value| value.to_str().ok())
}

async fn identify(edge: &Edge, headers: &HeaderMap, query: &str) -> Result<Identity, Refusal> {
    let authorization = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok());
    let jwt = token::from_headers(authorization, offered(headers))
        .map_err(|error| unauthorized(error.to_string()))?;
    let claims = edge
        .verifier
        .verify(jwt, wall_clock_ms() / 1_000)
        .map_err(|error| unauthorized(error.to_string()))?;
    let user = match edge.user_of_subject(&claims.subject).await {
        Ok(Some(user)) => user,
        Ok(None) => return Err(unauthorized("the token's subject is no user here")),
        Err(error) => {
            tracing::warn!(error = %error, "look up the token's subject");
            return Err(ErrorBody::new(
                ErrorCode::CoreUnavailable,
                "users cannot be looked up now",
            )
            .retry_after_ms(1_000)
            .into());
        }
    };
    let device = match claims.device {
        Some(device) => device,
        None => match query
            .split('&')
            .find_map(|pair| pair.strip_prefix("device="))
        {
            Some(text) => text.parse().map_err(|error| {
                Refusal::from(
                    ErrorBody::new(ErrorCode::InvalidField, format!("device: {error}"))
                        .field("device")
                        .limit(64),
                )
            })?,
            None => random_device(),
        },
    };
    Ok(Identity {
        user,
        device,
        expires_at_s: claims.expires_at,
        direct: !query.split('&').any(|pair| pair == "direct=0"),
    })
}

fn random_device() -> DeviceId {
    format!("d{:016x}", rand::random::<u64>())
        .parse()
        .expect("17 letters and digits are an id")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(origins: &[&str]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for origin in origins {
            map.append(header::ORIGIN, origin.parse().expect("a header value"));
        }
        map
    }

    #[test]
    fn only_an_exact_origin_passes() {
        let allowed = ["https://chat.example.com".to_owned()];
        assert!(check_origin(&allowed, &headers(&[])).is_ok());
        assert!(check_origin(&allowed, &headers(&["https://chat.example.com"])).is_ok());
        for bad in [
            "https://evil.com",
            "null",
            "https://chat.example.com.evil.com",
            "http://chat.example.com",
            "https://chat.example.com:8443",
            "https://CHAT.example.com",
            "https://chat.example.co",
        ] {
            assert!(check_origin(&allowed, &headers(&[bad])).is_err(), "{bad}");
        }
        let two = ["https://chat.example.com", "https://chat.example.com"];
        assert!(check_origin(&allowed, &headers(&two)).is_err());
    }
}
