//! A client that speaks the protocol by hand: every frame is seen as it came.

use std::{collections::VecDeque, net::SocketAddr};

use anyhow::{Context, bail, ensure};
use futures_util::{SinkExt, StreamExt};
use hubbub_protocol::{ChannelId, Hello};
use serde_json::{Value, json};
use tokio::{
    net::{TcpSocket, TcpStream},
    time::{Instant, timeout, timeout_at},
};
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{Error as WsError, Message, client::IntoClientRequest},
};

use crate::support::{Caller, LONG, RunningPod};

/// What a client sees next.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Seen {
    /// A text frame.
    Frame(Value),
    /// A ping.
    Ping,
    /// A pong.
    Pong(Vec<u8>),
    /// The server's close frame.
    Close(u16, String),
    /// The end of the connection.
    End,
}

/// One device.
pub(crate) struct Client {
    ws: WebSocketStream<TcpStream>,
    pub(crate) hello: Hello,
    /// Frames that nobody has asked for yet.
    stash: VecDeque<Value>,
    last_id: i64,
}

impl Client {
    pub(crate) async fn connect(pod: &RunningPod, caller: &Caller) -> anyhow::Result<Self> {
        Self::open(pod.addr, &caller.token).await
    }

    pub(crate) async fn open(addr: SocketAddr, token: &str) -> anyhow::Result<Self> {
        Self::open_with(addr, token, "").await
    }

    /// With a query such as `?direct=0`.
    pub(crate) async fn open_with(
        addr: SocketAddr,
        token: &str,
        query: &str,
    ) -> anyhow::Result<Self> {
        let mut request = format!("ws://{addr}/ws{query}").into_client_request()?;
        let bearer = format!("Bearer {token}").parse()?;
        request.headers_mut().insert("authorization", bearer);
        Self::upgrade(TcpStream::connect(addr).await?, request).await
    }

    /// With a receive buffer of few bytes.
    pub(crate) async fn narrow(pod: &RunningPod, caller: &Caller) -> anyhow::Result<Self> {
        let tcp = TcpSocket::new_v4()?;
        tcp.set_recv_buffer_size(4_096)?;
        let tcp = tcp.connect(pod.addr).await?;
        let mut request = format!("ws://{}/ws", pod.addr).into_client_request()?;
        let bearer = format!("Bearer {}", caller.token).parse()?;
        request.headers_mut().insert("authorization", bearer);
        Self::upgrade(tcp, request).await
    }

    /// With a request of the test's own.
    pub(crate) async fn upgrade(
        tcp: TcpStream,
        request: impl IntoClientRequest + Unpin,
    ) -> anyhow::Result<Self> {
        let (mut ws, _) = timeout(LONG, client_async(request, tcp)).await??;
        let first = timeout(LONG, ws.next()).await?.context("a first frame")??;
        let mut first: Value = serde_json::from_str(first.to_text()?)?;
        let kind = first.as_object_mut().and_then(|hello| hello.remove("type"));
        ensure!(kind == Some(json!("hello")), "first came {first}");
        Ok(Self {
            ws,
            hello: serde_json::from_value(first)?,
            stash: VecDeque::new(),
            last_id: 0,
        })
    }

    pub(crate) async fn send(&mut self, frame: &Value) -> anyhow::Result<()> {
        self.send_raw(Message::text(frame.to_string())).await
    }

    pub(crate) async fn send_raw(&mut self, message: Message) -> anyhow::Result<()> {
        Ok(timeout(LONG, self.ws.send(message)).await??)
    }

    /// Queues without flushing, so that many requests leave in one write.
    pub(crate) async fn feed(&mut self, frame: &Value) -> anyhow::Result<()> {
        let message = Message::text(frame.to_string());
        Ok(timeout(LONG, self.ws.feed(message)).await??)
    }

    /// Sends a request under a new id and gives the id.
    pub(crate) async fn ask(&mut self, mut request: Value) -> anyhow::Result<i64> {
        self.last_id += 1;
        request["id"] = json!(self.last_id);
        self.send(&request).await?;
        Ok(self.last_id)
    }

    /// Sends a request and waits for its reply; other frames stay for later.
    pub(crate) async fn request(&mut self, request: Value) -> anyhow::Result<Value> {
        let id = self.ask(request).await?;
        self.reply(&json!(id)).await
    }

    pub(crate) async fn reply_to(&mut self, id: i64) -> anyhow::Result<Value> {
        self.reply(&json!(id)).await
    }

    pub(crate) async fn reply(&mut self, id: &Value) -> anyhow::Result<Value> {
        self.find(&format!("a reply to {id}"), |frame| {
            frame["reply_to"] == *id
        })
        .await
    }

    pub(crate) async fn join(&mut self, channel: ChannelId) -> anyhow::Result<Value> {
        let reply = self
            .request(json!({ "type": "join", "channel": channel }))
            .await?;
        ensure!(reply["ok"] == true, "{reply}");
        Ok(reply)
    }

    /// Sends a message; gives its `ok`.
    pub(crate) async fn say(&mut self, channel: ChannelId, text: &str) -> anyhow::Result<Value> {
        let reply = self
            .request(json!({ "type": "message", "channel": channel, "text": text }))
            .await?;
        ensure!(reply["ok"] == true, "{reply}");
        Ok(reply)
    }

    /// The next `message` frame with this text.
    pub(crate) async fn hears(&mut self, text: &str) -> anyhow::Result<Value> {
        self.find(&format!("the message {text:?}"), |frame| {
            frame["type"] == "message" && frame["text"] == text
        })
        .await
    }

    /// The next frame of a type.
    pub(crate) async fn of_type(&mut self, kind: &str) -> anyhow::Result<Value> {
        self.find(kind, |frame| frame["type"] == kind).await
    }

    /// The next frame of a type that is about this user.
    pub(crate) async fn of_type_and_user(
        &mut self,
        kind: &str,
        user: hubbub_protocol::UserId,
    ) -> anyhow::Result<Value> {
        self.find(&format!("{kind} of {user}"), |frame| {
            frame["type"] == kind && frame["user"] == json!(user)
        })
        .await
    }

    /// Takes the first frame that fits, of those that came or come.
    pub(crate) async fn find(
        &mut self,
        what: &str,
        fits: impl Fn(&Value) -> bool,
    ) -> anyhow::Result<Value> {
        if let Some(at) = self.stash.iter().position(&fits) {
            return self.stash.remove(at).context("it was just found");
        }
        let deadline = Instant::now() + LONG;
        loop {
            let seen = timeout_at(deadline, self.see()).await;
            match seen.with_context(|| format!("{what} did not come: {:?}", self.stash))?? {
                Seen::Frame(frame) if fits(&frame) => return Ok(frame),
                Seen::Frame(frame) => self.stash.push_back(frame),
                Seen::Ping | Seen::Pong(_) => {}
                end => bail!("instead of {what} came {end:?}, after {:?}", self.stash),
            }
        }
    }

    /// Whatever comes next, the stash apart.
    pub(crate) async fn see(&mut self) -> anyhow::Result<Seen> {
        Ok(match self.ws.next().await {
            Some(Ok(Message::Text(text))) => Seen::Frame(serde_json::from_str(text.as_str())?),
            Some(Ok(Message::Ping(_))) => Seen::Ping,
            Some(Ok(Message::Pong(data))) => Seen::Pong(data.to_vec()),
            Some(Ok(Message::Close(Some(frame)))) => {
                Seen::Close(frame.code.into(), frame.reason.to_string())
            }
            Some(Ok(other)) => bail!("unexpected {other:?}"),
            None | Some(Err(WsError::ConnectionClosed | WsError::AlreadyClosed)) => Seen::End,
            Some(Err(error)) => return Err(error.into()),
        })
    }

    /// Reads until the server's close frame and the end; frames stay for later.
    pub(crate) async fn closed(&mut self) -> anyhow::Result<(u16, String)> {
        let deadline = Instant::now() + LONG;
        let mut closed = None;
        loop {
            match timeout_at(deadline, self.see())
                .await
                .context("no close")??
            {
                Seen::Frame(frame) => self.stash.push_back(frame),
                Seen::Ping | Seen::Pong(_) => {}
                Seen::Close(code, reason) => closed = Some((code, reason)),
                Seen::End => return closed.context("the connection ended without a close frame"),
            }
        }
    }

    /// Frames that came and that nobody asked for, oldest first. A ping's answer comes behind
    /// everything that was on its way, so nothing is missed that is there already.
    pub(crate) async fn rest(&mut self) -> anyhow::Result<Vec<Value>> {
        let pong = self.request(json!({ "type": "ping" })).await?;
        ensure!(pong["ok"] == true, "{pong}");
        Ok(self.stash.drain(..).collect())
    }

    /// Frames that came before the connection's end.
    pub(crate) fn left_over(&mut self) -> Vec<Value> {
        self.stash.drain(..).collect()
    }

    /// A reply that came before the connection's end.
    pub(crate) fn left_over_reply(&mut self, id: i64) -> Value {
        let at = self.stash.iter().position(|frame| frame["reply_to"] == id);
        at.and_then(|at| self.stash.remove(at)).unwrap_or_default()
    }
}

/// Those that are records.
pub(crate) fn records(frames: &[Value]) -> Vec<&Value> {
    let record = |frame: &&Value| frame["type"] == "message";
    frames.iter().filter(record).collect()
}
