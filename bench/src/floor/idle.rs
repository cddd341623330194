use std::{net::SocketAddr, path::PathBuf, time::Duration};

use anyhow::Context;
use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use hubbub_service::{
    clock::Clock,
    token::{TokenConfig, Verifier, from_headers},
};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::timeout,
};
use tokio_tungstenite::{
    WebSocketStream, accept_hdr_async_with_config,
    tungstenite::{
        Message,
        handshake::server::{ErrorResponse, Request, Response},
        http::{HeaderMap, StatusCode, header},
        protocol::WebSocketConfig,
    },
};

use super::{
    server::{listen, print_listening},
    tasks::{input_ended, runtime},
};

/// What holds sockets does.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    /// Checks tokens with this secret.
    pub(super) secret_file: Option<PathBuf>,
    /// A socket that says nothing for so long is pinged.
    pub(super) ping: Option<Duration>,
    /// Bytes of the read buffer of a socket.
    pub(super) read_buffer: usize,
}

#[derive(Clone)]
struct Door {
    verifier: Option<Verifier>,
    clock: Clock,
    config: WebSocketConfig,
    ping: Option<Duration>,
}

/// Takes sockets and answers their joins, until the input ends: tokio, tungstenite, a task each.
pub(super) fn run(addr: SocketAddr, plan: &Plan) -> anyhow::Result<()> {
    let verifier = plan.secret_file.clone().map(|file| {
        Verifier::load(&TokenConfig {
            jwt_secret_file: Some(file),
            jwks_file: None,
            jwt_issuer: "hubbub".to_owned(),
            jwt_audience: "hubbub".to_owned(),
        })
    });
    let door = Door {
        verifier: verifier.transpose()?,
        clock: Clock::system(),
        config: WebSocketConfig::default()
            .read_buffer_size(plan.read_buffer)
            .write_buffer_size(0)
            .max_write_buffer_size(1 << 20),
        ping: plan.ping,
    };
    runtime()?.block_on(serve(addr, door))
}

async fn serve(addr: SocketAddr, door: Door) -> anyhow::Result<()> {
    let listener = TcpListener::from_std(listen(addr)?).context("listen")?;
    print_listening(listener.local_addr().context("the listener's address")?)?;
    let mut sockets = JoinSet::new();
    // What a task needs for the handshake is given back before the socket idles.
    let mut opening = JoinSet::new();
    let mut ended = input_ended();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let stream = accepted.context("accept")?.0;
                stream.set_nodelay(true).context("set TCP_NODELAY")?;
                opening.spawn(open(stream, door.clone()));
            }
            Some(opened) = opening.join_next() => {
                if let Some(socket) = opened.context("a handshake's task")? {
                    sockets.spawn(hold(socket, door.ping));
                }
            }
            Some(held) = sockets.join_next() => held.context("a socket's task")?,
            _ = &mut ended => return Ok(()),
        }
    }
}

/// `None` for whoever is refused, or goes away.
async fn open(stream: TcpStream, door: Door) -> Option<WebSocketStream<TcpStream>> {
    #[expect(clippy::result_large_err, reason = "tungstenite's callback")]
    let check = |request: &Request, response: Response| {
        let Some(verifier) = &door.verifier else {
            return Ok(response);
        };
        match token(request.headers()).map(|token| verifier.verify(token, door.clock.now_s())) {
            Some(Ok(_)) => Ok(response),
            _ => {
                let mut refusal = ErrorResponse::new(None);
                *refusal.status_mut() = StatusCode::UNAUTHORIZED;
                Err(refusal)
            }
        }
    };
    accept_hdr_async_with_config(stream, check, Some(door.config))
        .await
        .ok()
}

fn token(headers: &HeaderMap) -> Option<&str> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    from_headers(
        text(header::AUTHORIZATION),
        text(header::SEC_WEBSOCKET_PROTOCOL),
    )
    .ok()
}

/// Until the socket ends.
async fn hold(mut socket: WebSocketStream<TcpStream>, ping: Option<Duration>) {
    loop {
        let next = match ping {
            None => socket.next().await,
            Some(after) => match timeout(after, socket.next()).await {
                Ok(next) => next,
                Err(_) if socket.send(Message::Ping(Bytes::new())).await.is_ok() => continue,
                Err(_) => return,
            },
        };
        let Some(Ok(message)) = next else { return };
        if let Message::Text(text) = message
            && let Some(channel) = text.strip_prefix("join ")
        {
            let joined = Message::text(format!("joined {channel}"));
            if socket.send(joined).await.is_err() {
                return;
            }
        }
    }
}
