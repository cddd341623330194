use std::{convert::Infallible, net::SocketAddr};

use anyhow::Context;
use bytes::Bytes;
use http_body_util::Full;
use hyper::{Request, Response, body::Incoming, header, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::task::JoinSet;

use super::{
    server::{listen, print_listening},
    tasks::{input_ended, runtime},
};

/// Answers every request with the same page, which is ready, until the input ends.
pub(super) fn run(addr: SocketAddr, body_bytes: usize, content_type: &str) -> anyhow::Result<()> {
    let content_type = header::HeaderValue::from_str(content_type).context("the content type")?;
    let page = Bytes::from(vec![b'x'; body_bytes]);
    runtime()?.block_on(serve(addr, page, content_type))
}

async fn serve(
    addr: SocketAddr,
    page: Bytes,
    content_type: header::HeaderValue,
) -> anyhow::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listen(addr)?).context("listen")?;
    print_listening(listener.local_addr().context("the listener's address")?)?;
    let mut connections = JoinSet::new();
    let mut ended = input_ended();
    loop {
        let stream = tokio::select! {
            accepted = listener.accept() => accepted.context("accept")?.0,
            _ = &mut ended => return Ok(()),
            Some(_) = connections.join_next() => continue,
        };
        stream.set_nodelay(true).context("set TCP_NODELAY")?;
        let (page, content_type) = (page.clone(), content_type.clone());
        connections.spawn(async move {
            let answer = service_fn(|_: Request<Incoming>| {
                let mut response = Response::new(Full::new(page.clone()));
                let headers = response.headers_mut();
                headers.insert(header::CONTENT_TYPE, content_type.clone());
                std::future::ready(Ok::<_, Infallible>(response))
            });
            // An error means that the client is gone.
            hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), answer)
                .await
                .ok();
        });
    }
}
