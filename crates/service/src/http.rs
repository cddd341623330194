//! A listener for warp routes with the deadlines that warp lacks (first byte, headers).
use crate::Lifecycle;
use tokio::net::TcpListener;
#[derive(Debug, Clone, Copy)]
pub struct HttpLimits {
    pub max_connections: usize,
}
/// Serves until soft, then finishes what is under way; cut at hard.
pub async fn serve<F>(
    _listener: TcpListener,
    _routes: F,
    _limits: HttpLimits,
    _lifecycle: &Lifecycle,
) -> std::io::Result<()>
where
    F: warp::Filter<Error = std::convert::Infallible> + Clone + Send + Sync + 'static,
    F::Extract: warp::Reply,
{
    todo!()
}
