//! The ops port: /livez, /readyz, /metrics, /debug/state; in a build for tests also /failpoints. None of them touches Redis, Kafka or
//! Postgres: HAProxy cuts every tunnel of a server whose check fails.
use std::{
    convert::Infallible,
    fmt, io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
};

use prometheus_client::{
    collector::Collector,
    encoding::{
        DescriptorEncoder, EncodeMetric,
        text::{encode_eof, encode_registry},
    },
    metrics::counter::ConstCounter,
    registry::Registry,
};
use tokio::net::TcpListener;
use warp::{Filter, http::StatusCode, reply::Response};

use crate::{
    Lifecycle, OnError,
    http::{HttpLimits, HttpMetrics, serve_until},
    telemetry::dropped_lines,
};

/// Connections to the ops port: a load balancer, a scraper and some people.
const MAX_CONNECTIONS: usize = 64;
/// Content type of the metrics, as the OpenMetrics text format names it.
const METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const JSON: &str = "application/json";
const TEXT: &str = "text/plain; charset=utf-8";

/// Where the ops port is.
#[derive(Debug, Clone, clap::Args)]
pub struct OpsConfig {
    /// Address of the ops port (health, metrics). Keep it off the public network. Port 0 takes a
    /// free one.
    #[arg(long, env = "HUBBUB_OPS_ADDR", default_value = "127.0.0.1:0")]
    pub ops_addr: SocketAddr,
}

const STARTING: u8 = 0;
const READY: u8 = 1;
const DRAINING: u8 = 2;

/// What `/readyz` says: starting 503, ready 200, draining 404. Cheap handle.
///
/// 404 and not 503, because HAProxy with `disable-on-404` then sends nobody new and keeps who is
/// there, while a 503 marks the server down and cuts its tunnels.
#[derive(Debug, Clone, Default)]
pub struct Readiness {
    state: Arc<AtomicU8>,
}

impl Readiness {
    /// The process serves. A process that drains already goes on draining.
    pub fn set_ready(&self) {
        // Failing means that the state is ready or draining, which both stand.
        self.state
            .compare_exchange(STARTING, READY, Ordering::AcqRel, Ordering::Acquire)
            .ok();
    }

    /// The process takes nobody new. It never becomes ready again.
    pub fn set_draining(&self) {
        self.state.store(DRAINING, Ordering::Release);
    }

    /// Whether `/readyz` answers 200.
    pub fn is_ready(&self) -> bool {
        self.state.load(Ordering::Acquire) == READY
    }

    fn answer(&self) -> (StatusCode, &'static str) {
        match self.state.load(Ordering::Acquire) {
            STARTING => (StatusCode::SERVICE_UNAVAILABLE, "starting\n"),
            READY => (StatusCode::OK, "ready\n"),
            _ => (StatusCode::NOT_FOUND, "draining\n"),
        }
    }
}

/// Gives the state that `/debug/state` shows. Called per request; must be quick and hold no
/// secrets, tokens or message texts.
pub type DebugState = Arc<dyn Fn() -> serde_json::Value + Send + Sync>;

/// The ops port, bound and not yet served.
pub struct Ops {
    listener: TcpListener,
    addr: SocketAddr,
    registry: Arc<Registry>,
    readiness: Readiness,
    debug: Option<DebugState>,
}

impl fmt::Debug for Ops {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ops")
            .field("addr", &self.addr)
            .finish_non_exhaustive()
    }
}

impl Ops {
    /// Binds the port. The error names the address.
    pub async fn bind(
        config: &OpsConfig,
        registry: Arc<Registry>,
        readiness: Readiness,
        debug: Option<DebugState>,
    ) -> io::Result<Self> {
        let named = |error: io::Error| {
            let addr = config.ops_addr;
            io::Error::new(error.kind(), format!("bind the ops port {addr}: {error}"))
        };
        let listener = TcpListener::bind(config.ops_addr).await.map_err(named)?;
        let addr = listener.local_addr().map_err(named)?;
        Ok(Self {
            listener,
            addr,
            registry,
            readiness,
            debug,
        })
    }

    /// The address with the port that was taken.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Spawns the server; it ends at hard (so that a drain can be watched).
    pub fn start(self, lifecycle: &Lifecycle) {
        let hard = lifecycle.hard();
        let limits = HttpLimits {
            max_connections: MAX_CONNECTIONS,
        };
        lifecycle.spawn_until_hard("ops", OnError::Log, async move {
            let routes = routes(self.registry, self.readiness, self.debug);
            #[cfg(feature = "failpoints")]
            let routes = crate::failpoints::before(routes);
            let metrics = HttpMetrics::default();
            serve_until(self.listener, routes, limits, &metrics, hard.clone(), hard).await;
            Ok::<_, Infallible>(())
        });
    }
}

fn routes(
    registry: Arc<Registry>,
    readiness: Readiness,
    debug: Option<DebugState>,
) -> impl Filter<Extract = (Response,), Error = Infallible> + Clone + Send + Sync + 'static {
    warp::method().and(warp::path::full()).map(
        move |method: warp::http::Method, path: warp::path::FullPath| {
            if method != warp::http::Method::GET && method != warp::http::Method::HEAD {
                return answer(StatusCode::METHOD_NOT_ALLOWED, TEXT, "GET only\n");
            }
            match path.as_str() {
                "/livez" => answer(StatusCode::OK, TEXT, "alive\n"),
                "/readyz" => {
                    let (status, text) = readiness.answer();
                    answer(status, TEXT, text)
                }
                "/metrics" => metrics(&registry),
                "/debug/state" => match &debug {
                    Some(state) => answer(StatusCode::OK, JSON, state().to_string()),
                    None => answer(StatusCode::OK, JSON, "{}"),
                },
                _ => answer(StatusCode::NOT_FOUND, TEXT, "no such page\n"),
            }
        },
    )
}

/// What is of the process and of no part of it.
#[derive(Debug)]
struct OfProcess;

impl Collector for OfProcess {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let dropped = ConstCounter::new(dropped_lines());
        let encoder = encoder.encode_descriptor(
            "logging_lines_dropped",
            "Log lines that nobody will read, because who reads the log stood still",
            None,
            dropped.metric_type(),
        )?;
        dropped.encode(encoder)
    }
}

fn metrics(registry: &Registry) -> Response {
    let mut of_process = Registry::default();
    of_process.register_collector(Box::new(OfProcess));
    let mut text = String::new();
    let encoded = encode_registry(&mut text, registry)
        .and_then(|()| encode_registry(&mut text, &of_process))
        .and_then(|()| encode_eof(&mut text));
    match encoded {
        Ok(()) => answer(StatusCode::OK, METRICS, text),
        Err(_) => answer(StatusCode::INTERNAL_SERVER_ERROR, TEXT, "cannot encode\n"),
    }
}

fn answer(status: StatusCode, content_type: &'static str, body: impl Into<String>) -> Response {
    let mut response = Response::new(body.into().into());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(
        warp::http::header::CONTENT_TYPE,
        warp::http::HeaderValue::from_static(content_type),
    );
    headers.insert(
        warp::http::header::CACHE_CONTROL,
        warp::http::HeaderValue::from_static("no-store"),
    );
    response
}
