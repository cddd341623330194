use std::{
    collections::VecDeque,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use futures_util::{Sink, Stream};
use hubbub_protocol::{CloseCode, ErrorReply, Hello, ServerFrame};
use tokio::{net::TcpStream, time::Instant};
use tokio_tungstenite::{
    WebSocketStream, client_async_with_config,
    tungstenite::{
        self, Bytes, Message, Utf8Bytes,
        client::IntoClientRequest,
        http::{HeaderValue, Request, Response, header},
        protocol::{CloseFrame, WebSocketConfig},
    },
};

use crate::{Config, Down};

/// A message of the server, whole. A text of 16 KiB can take six times as much as JSON.
const MESSAGE_BYTES: usize = 256 * 1024;
/// Allocated at once for each connection, so small: a load test holds thousands.
const READ_BUFFER_BYTES: usize = 4 * 1024;
/// Frames are collected to this much before they are written without a flush.
const WRITE_BUFFER_BYTES: usize = 16 * 1024;
/// Where the socket takes nothing; frames are made only when there is room, so this is not met.
const WRITE_BUFFER_MAX_BYTES: usize = 1024 * 1024;

/// One WebSocket after its handshake.
pub(crate) struct Connection {
    socket: WebSocketStream<TcpStream>,
    /// Control frames of ours, in front of everything.
    control: VecDeque<Message>,
    /// Something was handed to the socket and not flushed.
    unflushed: bool,
    /// Since when the socket has taken nothing of what waits.
    blocked_since: Option<Instant>,
}

/// What a server did.
#[derive(Debug)]
pub(crate) enum Incoming {
    Text(Utf8Bytes),
    /// A ping or pong, which tungstenite answers by itself.
    Life,
    Down(Down),
}

impl Connection {
    /// Connects, upgrades, waits for `hello`: all within `limits.connect`. Cancelling closes.
    pub(crate) async fn open(
        config: &Config,
        token: &str,
    ) -> Result<(Self, Hello, Utf8Bytes), Down> {
        let (request, address) = request(config, token)?;
        let attempt = Self::handshake(request, &address);
        let deadline = config.limits.connect;
        match tokio::time::timeout(deadline, Box::pin(attempt)).await {
            Ok(result) => result,
            Err(_) => Err(Down::Connect {
                address,
                error: format!("no answer within {} s", deadline.as_secs_f32()),
            }),
        }
    }

    async fn handshake(
        request: Request<()>,
        address: &str,
    ) -> Result<(Self, Hello, Utf8Bytes), Down> {
        let failed = |error: std::io::Error| Down::Connect {
            address: address.to_owned(),
            error: error.to_string(),
        };
        let stream = TcpStream::connect(address).await.map_err(failed)?;
        stream.set_nodelay(true).map_err(failed)?;
        let limits = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER_BYTES)
            .write_buffer_size(WRITE_BUFFER_BYTES)
            .max_write_buffer_size(WRITE_BUFFER_MAX_BYTES)
            .max_message_size(Some(MESSAGE_BYTES))
            .max_frame_size(Some(MESSAGE_BYTES));
        let (socket, _) = client_async_with_config(request, stream, Some(limits))
            .await
            .map_err(refused)?;
        let mut connection = Self {
            socket,
            control: VecDeque::new(),
            unflushed: false,
            blocked_since: None,
        };
        loop {
            let next = std::future::poll_fn(|cx| connection.poll_read(cx)).await;
            match next {
                Incoming::Life => {}
                Incoming::Down(down) => return Err(down),
                Incoming::Text(text) => {
                    return match ServerFrame::decode(&text) {
                        Ok(ServerFrame::Hello(hello)) => Ok((connection, hello, text)),
                        _ => Err(Down::Handshake("its first frame is no hello".to_owned())),
                    };
                }
            }
        }
    }

    /// Writes what `next` gives while the socket has room, and reads one frame if `read`. Ready
    /// with a frame, or with the end. Keeps no state outside `self`: dropping the future that
    /// polls it loses nothing.
    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        read: bool,
        next: &mut dyn FnMut() -> Option<String>,
    ) -> Poll<Incoming> {
        if let Err(error) = self.poll_write(cx, next) {
            // The server's reason, if it gave one, is in what it sent before.
            if let Poll::Ready(incoming) = self.poll_read(cx) {
                return Poll::Ready(incoming);
            }
            return Poll::Ready(Incoming::Down(lost(error)));
        }
        if read {
            self.poll_read(cx)
        } else {
            Poll::Pending
        }
    }

    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        next: &mut dyn FnMut() -> Option<String>,
    ) -> Result<(), tungstenite::Error> {
        let mut socket = Pin::new(&mut self.socket);
        loop {
            match socket.as_mut().poll_ready(cx)? {
                Poll::Pending => break,
                Poll::Ready(()) => {}
            }
            let message = match self.control.pop_front() {
                Some(message) => message,
                None => match next() {
                    Some(frame) => Message::Text(frame.into()),
                    None => break,
                },
            };
            socket.as_mut().start_send(message)?;
            self.unflushed = true;
            self.blocked_since = None;
        }
        if self.unflushed {
            match socket.as_mut().poll_flush(cx)? {
                Poll::Ready(()) => {
                    self.unflushed = false;
                    self.blocked_since = None;
                }
                Poll::Pending => {
                    self.blocked_since.get_or_insert_with(Instant::now);
                }
            }
        }
        Ok(())
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Incoming> {
        Pin::new(&mut self.socket)
            .poll_next(cx)
            .map(|next| match next {
                Some(Ok(Message::Text(text))) => Incoming::Text(text),
                Some(Ok(Message::Close(frame))) => Incoming::Down(closed(frame)),
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => Incoming::Life,
                Some(Ok(Message::Binary(_))) => {
                    Incoming::Down(Down::Lost("the server sent a binary frame".to_owned()))
                }
                Some(Err(error)) => Incoming::Down(lost(error)),
                None => Incoming::Down(Down::Lost("end of stream".to_owned())),
            })
    }

    /// Queues a sign of life that asks for no answer (RFC 6455, 5.5.3).
    pub(crate) fn offer_pong(&mut self) {
        if self.control.is_empty() {
            self.control.push_back(Message::Pong(Bytes::new()));
        }
    }

    /// Since when the socket has taken nothing, if something waits.
    pub(crate) fn blocked_since(&self) -> Option<Instant> {
        self.blocked_since
    }

    /// Says goodbye with 1000 and waits at most `deadline` for the server's echo.
    pub(crate) async fn close(mut self, deadline: Duration) {
        self.control.push_back(Message::Close(Some(CloseFrame {
            code: CloseCode::Normal.code().into(),
            reason: Utf8Bytes::default(),
        })));
        let end = async {
            loop {
                let incoming = std::future::poll_fn(|cx| self.poll(cx, true, &mut || None)).await;
                if matches!(incoming, Incoming::Down(_)) {
                    return;
                }
            }
        };
        if tokio::time::timeout(deadline, end).await.is_err() {
            tracing::debug!("the server did not answer the close in time");
        }
    }
}

fn closed(frame: Option<CloseFrame>) -> Down {
    match frame {
        Some(frame) => Down::Closed {
            code: frame.code.into(),
            reason: frame.reason.as_str().to_owned(),
        },
        // RFC 6455, 7.1.5: no status code received.
        None => Down::Closed {
            code: 1005,
            reason: String::new(),
        },
    }
}

fn lost(error: tungstenite::Error) -> Down {
    use tungstenite::error::ProtocolError::ResetWithoutClosingHandshake;
    Down::Lost(match error {
        tungstenite::Error::Protocol(ResetWithoutClosingHandshake) => {
            "it ended without a close".to_owned()
        }
        tungstenite::Error::Io(error) => error.to_string(),
        error => error.to_string(),
    })
}

/// The upgrade request, and where to send it.
fn request(config: &Config, token: &str) -> Result<(Request<()>, String), Down> {
    let mut url = config.url.clone();
    // A device id has only characters that need no escape.
    let device = config.device.as_ref().map(|id| format!("device={id}"));
    let direct = (!config.direct).then(|| "direct=0".to_owned());
    for parameter in device.into_iter().chain(direct) {
        url.push(if url.contains('?') { '&' } else { '?' });
        url.push_str(&parameter);
    }
    let wrong = |what: &str| Down::Config(format!("{what}: {}", config.url));
    let mut request = url
        .as_str()
        .into_client_request()
        .map_err(|_| wrong("not a WebSocket URL (ws://host:port/ws)"))?;
    if request.uri().scheme_str() != Some("ws") {
        return Err(wrong("only ws:// is spoken here"));
    }
    let host = request
        .uri()
        .host()
        .ok_or_else(|| wrong("URL without a host"))?;
    let address = format!("{host}:{}", request.uri().port_u16().unwrap_or(80));
    let mut bearer = HeaderValue::try_from(format!("Bearer {token}"))
        .map_err(|_| Down::Config("the token has characters that no header may have".to_owned()))?;
    bearer.set_sensitive(true);
    let headers = request.headers_mut();
    headers.insert(header::AUTHORIZATION, bearer);
    headers.insert(
        header::SEC_WEBSOCKET_PROTOCOL,
        HeaderValue::from_static("hubbub.v1"),
    );
    Ok((request, address))
}

fn refused(error: tungstenite::Error) -> Down {
    match error {
        tungstenite::Error::Http(response) => refusal(&response),
        tungstenite::Error::Io(error) => Down::Lost(error.to_string()),
        error => Down::Handshake(error.to_string()),
    }
}

fn refusal(response: &Response<Option<Vec<u8>>>) -> Down {
    let body = response.body().as_deref().unwrap_or_default();
    let error = serde_json::from_slice::<ErrorReply>(body).ok();
    let retry_after = response
        .headers()
        .get(header::RETRY_AFTER)
        .and_then(|value| value.to_str().ok()?.trim().parse().ok());
    Down::Refused {
        status: response.status().as_u16(),
        retry_after: retry_after.map(Duration::from_secs).or_else(|| {
            let delay = error.as_ref()?.error.retry_after_ms?;
            Some(Duration::from_millis(delay))
        }),
        error: error.map(|reply| reply.error),
    }
}
