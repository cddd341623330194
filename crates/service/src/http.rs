//! A listener for warp routes with the deadlines that warp lacks (first byte, headers, body).
//!
//! warp's own server sets no timer, so a silent or dripping connection would stay for ever; its
//! accept loop ends the process's service at the first EMFILE. Both are mended here.
use std::{convert::Infallible, io, sync::Arc, time::Duration};

use hubbub_protocol::{ErrorBody, ErrorCode, ErrorReply};
use hyper::{Request, body::Incoming, server::conn::http1};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use prometheus_client::{metrics::counter::Counter, registry::Registry};
use socket2::SockRef;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::Lifecycle;

mod body;

use body::TimedBody;

/// A new connection has this long to send its first byte.
const FIRST_BYTE: Duration = Duration::from_secs(5);
/// A request's head has this long from its first byte; an idle kept-alive connection as long.
const HEADERS: Duration = Duration::from_secs(5);
/// A request's body has this long from the end of its head; then reading it is an error.
const BODY: Duration = Duration::from_secs(8);
/// Headers of a request in bytes; hyper answers 431 above it.
const HEADER_BYTES: usize = 16 * 1024;
/// A peer that acknowledges none of our bytes for this long is gone, or reads nothing.
const UNACKNOWLEDGED: Duration = Duration::from_secs(20);
/// What the kernel takes of an answer beyond what is on its way to the peer. Left to itself it takes
/// megabytes, and a stream that nobody reads would look like one that is read.
const UNSENT_BYTES: u32 = 64 * 1024;
/// Pause after accept failed: EMFILE stays until a connection ends, and must not spin the core.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Connections that are told 503 at one time; above it they are closed without a word.
const REFUSALS: usize = 64;
/// Deadline of telling one.
const REFUSAL: Duration = Duration::from_secs(1);
/// What a refused client is told, and to wait how long.
const NO_ROOM: &str = "all connections are taken, try again";
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// How much one listener takes.
#[derive(Debug, Clone, Copy)]
pub struct HttpLimits {
    /// Connections at one time; the next ones are refused with a fast 503. From 1.
    pub max_connections: usize,
}

/// What a listener counts. Cheap handle.
#[derive(Debug, Clone, Default)]
pub struct HttpMetrics {
    accepted: Counter,
    refused: Counter,
    accept_errors: Counter,
    silent: Counter,
    broken: Counter,
}

impl HttpMetrics {
    /// Registers everything under the prefix `http`.
    pub fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("http");
        let mut add = |name: &str, help: &str, counter: &Counter| {
            registry.register(name, help, counter.clone());
        };
        add("accepted", "Connections accepted", &self.accepted);
        add(
            "refused",
            "Connections refused with 503 because all permits were taken",
            &self.refused,
        );
        add(
            "accept_errors",
            "Failures to accept a connection (out of descriptors, for one)",
            &self.accept_errors,
        );
        add(
            "silent",
            "Connections closed because no first byte came in time",
            &self.silent,
        );
        add(
            "broken",
            "Connections that ended in an error: slow headers, a reset, no HTTP",
            &self.broken,
        );
    }
}

/// Serves until soft, then finishes what is under way; cut at hard. Failures of single
/// connections never end it.
pub async fn serve<F>(
    listener: TcpListener,
    routes: F,
    limits: HttpLimits,
    lifecycle: &Lifecycle,
) -> io::Result<()>
where
    F: warp::Filter<Error = Infallible> + Clone + Send + Sync + 'static,
    F::Extract: warp::Reply,
{
    serve_counted(listener, routes, limits, lifecycle, &HttpMetrics::default()).await
}

/// [`serve`] with metrics.
pub async fn serve_counted<F>(
    listener: TcpListener,
    routes: F,
    limits: HttpLimits,
    lifecycle: &Lifecycle,
    metrics: &HttpMetrics,
) -> io::Result<()>
where
    F: warp::Filter<Error = Infallible> + Clone + Send + Sync + 'static,
    F::Extract: warp::Reply,
{
    serve_until(
        listener,
        routes,
        limits,
        metrics,
        lifecycle.soft(),
        lifecycle.hard(),
    )
    .await;
    Ok(())
}

/// Accepts until `stop`, then finishes the requests under way until `cut`.
pub(crate) async fn serve_until<F>(
    listener: TcpListener,
    routes: F,
    limits: HttpLimits,
    metrics: &HttpMetrics,
    stop: CancellationToken,
    cut: CancellationToken,
) where
    F: warp::Filter<Error = Infallible> + Clone + Send + Sync + 'static,
    F::Extract: warp::Reply,
{
    let service = TowerToHyperService::new(warp::service(routes));
    let permits = Arc::new(Semaphore::new(limits.max_connections));
    let refusals = Arc::new(Semaphore::new(REFUSALS));
    let mut connections = JoinSet::new();
    loop {
        // Waits for the end of accepting, a new connection, or the end of one (to reap it).
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
            Some(ended) = connections.join_next() => {
                reap(ended);
                continue;
            }
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                metrics.accept_errors.inc();
                tracing::warn!(%error, "cannot accept a connection");
                // Waits for the pause, or for the end of accepting.
                tokio::select! {
                    () = sleep(ACCEPT_PAUSE) => {}
                    () = stop.cancelled() => break,
                }
                continue;
            }
        };
        if let Ok(permit) = permits.clone().try_acquire_owned() {
            metrics.accepted.inc();
            let connection =
                serve_connection(stream, service.clone(), metrics.clone(), stop.clone());
            connections.spawn(async move {
                connection.await;
                drop(permit);
            });
        } else {
            metrics.refused.inc();
            if let Ok(permit) = refusals.clone().try_acquire_owned() {
                connections.spawn(async move {
                    refuse(stream, NO_ROOM, RETRY_AFTER).await;
                    drop(permit);
                });
            }
        }
    }
    drop(listener);
    // Waits for the requests under way, or for the cut.
    tokio::select! {
        () = async { while let Some(ended) = connections.join_next().await { reap(ended) } } => {}
        () = cut.cancelled() => connections.shutdown().await,
    }
}

fn reap(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "connection panicked");
    }
}

async fn serve_connection<S, B>(
    stream: TcpStream,
    service: S,
    metrics: HttpMetrics,
    stop: CancellationToken,
) where
    S: hyper::service::Service<
            Request<TimedBody>,
            Response = hyper::Response<B>,
            Error = Infallible,
            Future: Send,
        > + Send
        + Sync,
    B: hyper::body::Body<Data: Send, Error: Into<Box<dyn std::error::Error + Send + Sync>>>
        + Send
        + 'static,
{
    if let Err(error) = prepare(&stream) {
        tracing::debug!(%error, "cannot set socket options");
    }
    // hyper starts its header timer with the first byte, so silence is ours to end. Waits for
    // that byte until the deadline, or for the drain: nothing is under way here.
    let mut first = [0u8; 1];
    let first = tokio::select! {
        first = timeout(FIRST_BYTE, stream.peek(&mut first)) => first,
        () = stop.cancelled() => return,
    };
    match first {
        Ok(Ok(1..)) => {}
        Ok(_) => return,
        Err(_) => {
            metrics.silent.inc();
            return;
        }
    }
    let service = hyper::service::service_fn(|request: Request<Incoming>| {
        service.call(request.map(|body| TimedBody::new(body, BODY)))
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS)
        .max_buf_size(HEADER_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    // Waits for the end of the connection, or for the drain.
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        metrics.broken.inc();
        tracing::debug!(%error, "connection ended in an error");
    }
}

fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    socket.set_tcp_notsent_lowat(UNSENT_BYTES)?;
    socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED))
}

/// Answers 503 before any request was read, with `retry_after` in whole seconds from 1, and closes.
/// A client that does not take the answer within a second is closed all the same. Cancelled, it
/// closes at once.
pub async fn refuse(stream: TcpStream, message: &str, retry_after: Duration) {
    // An error means that the client has gone.
    timeout(REFUSAL, tell(stream, message, retry_after))
        .await
        .ok();
}

async fn tell(mut stream: TcpStream, message: &str, retry_after: Duration) -> io::Result<()> {
    let wait_ms = u64::try_from(retry_after.as_millis()).unwrap_or(u64::MAX);
    let error = ErrorBody::new(ErrorCode::Overloaded, message).retry_after_ms(wait_ms);
    let body = serde_json::to_string(&ErrorReply { error }).map_err(io::Error::other)?;
    let answer = format!(
        "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\n\
         content-length: {}\r\nretry-after: {}\r\nconnection: close\r\n\r\n{body}",
        body.len(),
        retry_after.as_secs(),
    );
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await?;
    // Closing a socket with unread bytes resets it, and the reset may overtake the answer.
    let mut rest = [0u8; 1024];
    while stream.read(&mut rest).await? > 0 {}
    Ok(())
}
