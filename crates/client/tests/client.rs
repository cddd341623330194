//! The client against a scripted WebSocket server: what it does when the connection breaks.

use std::{sync::Arc, time::Duration};

use futures_util::{SinkExt, StreamExt};
use hubbub_client::{
    Client, Config, Down, Event, Events, JoinOptions, Limits, SendError, TokenSource, WireEvent,
};
use hubbub_protocol::{
    Body, ChannelId, ClientFrame, Hello, JoinReply, MessageId, MessageReply, RequestId,
    SendMessage, Seq, ServerFrame, UserId, reply_ok, synced_frame, with_seq,
};
use parking_lot::Mutex;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::{Instant, timeout},
};
use tokio_tungstenite::{
    WebSocketStream, accept_hdr_async,
    tungstenite::{
        Message,
        handshake::server::{ErrorResponse, Request, Response},
        protocol::CloseFrame,
    },
};
use uuid::Uuid;

const DEADLINE: Duration = Duration::from_secs(10);

async fn soon<T>(future: impl Future<Output = T>) -> T {
    timeout(DEADLINE, future)
        .await
        .expect("within the deadline")
}

struct Server {
    listener: TcpListener,
    url: String,
}

impl Server {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let url = format!("ws://{address}/ws");
        Self { listener, url }
    }

    fn config(&self) -> Config {
        Config::new(&self.url, TokenSource::Fixed("t0ken".to_owned()))
    }

    async fn stream(&self) -> TcpStream {
        soon(self.listener.accept()).await.expect("a client").0
    }

    /// Accepts one connection, checks its headers, says hello.
    async fn accept(&self) -> Peer {
        self.accept_with(15_000).await
    }

    async fn accept_with(&self, heartbeat_ms: u64) -> Peer {
        #[expect(clippy::result_large_err, reason = "the shape is the library's")]
        let check =
            |request: &Request, mut response: Response| -> Result<Response, ErrorResponse> {
                let header = |name: &str| request.headers().get(name).cloned();
                assert_eq!(header("authorization").expect("a token"), "Bearer t0ken");
                let protocol = header("sec-websocket-protocol").expect("a subprotocol");
                assert_eq!(protocol, "hubbub.v1");
                response
                    .headers_mut()
                    .insert("sec-websocket-protocol", protocol);
                Ok(response)
            };
        let stream = self.stream().await;
        let socket = soon(accept_hdr_async(stream, check))
            .await
            .expect("an upgrade");
        let mut peer = Peer { socket };
        let hello = Hello {
            connection_id: "1".to_owned(),
            pod: "edge-1".parse().expect("a pod id"),
            region: "local".to_owned(),
            user: UserId::new(1).expect("from 1"),
            device: "d".parse().expect("a device id"),
            heartbeat_ms,
            max_frame_bytes: 65_536,
        };
        peer.text(ServerFrame::encode_tagged("hello", &hello)).await;
        peer
    }

    /// Answers one handshake with these bytes.
    async fn refuse(&self, response: &str) {
        let mut stream = self.stream().await;
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            soon(stream.read_exact(&mut byte)).await.expect("a request");
            request.extend(byte);
        }
        let written = stream.write_all(response.as_bytes()).await;
        written.expect("a response");
        stream.shutdown().await.expect("an end");
    }
}

struct Peer {
    socket: WebSocketStream<TcpStream>,
}

impl Peer {
    async fn text(&mut self, text: impl Into<String>) {
        let message = Message::Text(text.into().into());
        soon(self.socket.send(message)).await.expect("written");
    }

    async fn request(&mut self) -> (RequestId, ClientFrame) {
        loop {
            match soon(self.socket.next())
                .await
                .expect("a frame")
                .expect("valid")
            {
                Message::Text(text) => {
                    let (id, frame) = ClientFrame::decode(&text).expect("a request");
                    return (id.expect("an id"), frame);
                }
                Message::Ping(_) | Message::Pong(_) => {}
                other => panic!("a request is expected: {other:?}"),
            }
        }
    }

    /// Answers the next request, a join, and tells its `since`.
    async fn join(&mut self, head: u64) -> Option<Seq> {
        let (id, frame) = self.request().await;
        let ClientFrame::Join { channel, since, .. } = frame else {
            panic!("a join is expected: {frame:?}");
        };
        let joined = JoinReply {
            channel,
            head: Some(Seq(head)),
            recovered: true,
            reason: None,
        };
        self.text(reply_ok(&id, &joined)).await;
        since
    }

    async fn send(&mut self) -> (RequestId, SendMessage) {
        match self.request().await {
            (id, ClientFrame::Message(send)) => (id, send),
            (_, other) => panic!("a send is expected: {other:?}"),
        }
    }

    async fn ack(&mut self, id: &RequestId, send: &SendMessage, seq: Option<u64>) {
        let body = MessageReply {
            channel: send.channel,
            message_id: send.client_msg_id.expect("an id"),
            seq: seq.map(Seq),
            ts_ms: 1,
            fence: None,
        };
        self.text(reply_ok(id, &body)).await;
    }

    async fn record(&mut self, seq: u64) {
        self.text(with_seq(Seq(seq), &body(seq).encode())).await;
    }

    async fn close(mut self, code: u16) {
        let frame = CloseFrame {
            code: code.into(),
            reason: "bye".into(),
        };
        soon(self.socket.close(Some(frame))).await.expect("closed");
        // Until the client has answered it.
        while let Some(Ok(_)) = soon(self.socket.next()).await {}
    }
}

fn channel() -> ChannelId {
    "C000000005".parse().expect("an id")
}

fn body(seq: u64) -> Body {
    let user = UserId::new(2).expect("from 1");
    let message_id = MessageId(Uuid::from_u128(seq.into()));
    Body::message(channel(), message_id, user, format!("message {seq}"), 1)
}

async fn event(events: &mut Events) -> Event {
    soon(events.recv()).await.expect("an event")
}

async fn until(events: &mut Events, wanted: impl Fn(&Event) -> bool) -> Vec<Event> {
    let mut seen = Vec::new();
    loop {
        let event = event(events).await;
        let found = wanted(&event);
        seen.push(event);
        if found {
            return seen;
        }
    }
}

fn seqs(events: &[Event]) -> Vec<u64> {
    let seq = |event: &Event| match event {
        Event::Record { seq, .. } => Some(seq.0),
        _ => None,
    };
    events.iter().filter_map(seq).collect()
}

#[tokio::test]
async fn comes_back_resumes_at_the_cursor_and_drops_what_it_has() {
    let server = Server::start().await;
    let (client, mut events) = Client::start(server.config());
    let mut peer = server.accept().await;
    client
        .start_join(channel(), JoinOptions::default())
        .await
        .expect("open");
    assert_eq!(peer.join(10).await, None);
    peer.record(11).await;
    peer.record(12).await;
    peer.text(synced_frame(channel(), Seq(12))).await;
    peer.record(13).await;
    let seen = until(&mut events, |e| seqs(std::slice::from_ref(e)) == [13]).await;
    assert_eq!(seqs(&seen), [11, 12, 13]);
    drop(peer);

    let mut peer = server.accept().await;
    assert_eq!(peer.join(14).await, Some(Seq(12)));
    for seq in [13, 14, 14, 12] {
        peer.record(seq).await;
    }
    peer.text(synced_frame(channel(), Seq(14))).await;
    let synced = |e: &Event| matches!(e, Event::Synced { seq: Seq(14), .. });
    let seen = until(&mut events, synced).await;
    assert_eq!(seqs(&seen), [14]);
    assert!(seen.iter().any(|e| matches!(
        e,
        Event::Disconnected {
            retry_in: Some(delay),
            ..
        } if *delay <= Duration::from_millis(250)
    )));
}

#[tokio::test]
async fn unacknowledged_sends_are_sent_again_in_order_and_marked() {
    let server = Server::start().await;
    let (client, _events) = Client::start(server.config());
    let mut peer = server.accept().await;
    let texts = ["a", "b", "c"];
    let handles = texts.map(|t| client.send(channel(), t).expect("room"));
    let (id, first) = peer.send().await;
    assert_eq!((first.text.as_str(), first.retry), ("a", false));
    peer.ack(&id, &first, Some(5)).await;
    let (_, second) = peer.send().await;
    let (_, third) = peer.send().await;
    assert!(!second.retry && !third.retry);
    drop(peer);

    let mut peer = server.accept().await;
    for lost in [second, third] {
        let (id, again) = peer.send().await;
        assert_eq!(
            again,
            SendMessage {
                retry: true,
                ..lost
            }
        );
        peer.ack(&id, &again, None).await;
    }
    let mut sent = Vec::new();
    for handle in handles {
        sent.push(soon(handle.wait()).await.expect("sent").seq);
    }
    assert_eq!(sent, [Some(Seq(5)), None, None]);
}

#[tokio::test]
async fn goodbye_names_the_delay_and_unsent_messages_survive() {
    let server = Server::start().await;
    let (client, mut events) = Client::start(server.config());
    let mut peer = server.accept().await;
    let goodbye = r#"{"type":"goodbye","reason":"restart","reconnect_after_ms":321}"#;
    peer.text(goodbye).await;
    peer.close(1012).await;
    let handle = client.send(channel(), "hi").expect("room");
    let seen = until(&mut events, |e| matches!(e, Event::Disconnected { .. })).await;
    let Some(Event::Disconnected { why, retry_in }) = seen.last() else {
        unreachable!("until ends with it");
    };
    assert!(matches!(why, Down::Closed { code: 1012, .. }), "{why:?}");
    assert_eq!(*retry_in, Some(Duration::from_millis(321)));
    let mut peer = server.accept().await;
    let (id, send) = peer.send().await;
    assert!(!send.retry, "it was on no wire yet");
    peer.ack(&id, &send, Some(1)).await;
    soon(handle.wait()).await.expect("sent");
}

#[tokio::test]
async fn refused_handshakes_are_final_or_wait_as_told() {
    let server = Server::start().await;
    let (client, mut events) = Client::start(server.config());
    let busy = "HTTP/1.1 503 Busy\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n";
    server.refuse(busy).await;
    let handle = client.send(channel(), "hi").expect("room");
    let Event::Disconnected {
        why: Down::Refused { status: 503, .. },
        retry_in: Some(delay),
    } = event(&mut events).await
    else {
        panic!("a refusal is expected");
    };
    assert!(delay >= Duration::from_secs(1), "{delay:?}");
    let error = r#"{"error":{"code":"unauthorized","message":"no","retryable":false}}"#;
    let body = format!("Content-Length: {}\r\n\r\n{error}", error.len());
    server.refuse(&format!("HTTP/1.1 401 No\r\n{body}")).await;
    let Event::Disconnected {
        why: Down::Refused {
            status: 401, error, ..
        },
        retry_in: None,
    } = event(&mut events).await
    else {
        panic!("a refusal is expected");
    };
    assert_eq!(error.expect("a body").message, "no");
    assert_eq!(soon(events.recv()).await, None);
    let ended = soon(handle.wait()).await.expect_err("never sent");
    let outcome = hubbub_protocol::Outcome::Rejected;
    assert!(matches!(ended, SendError::Ended { outcome: o, .. } if o == outcome));
    assert!(client.send(channel(), "hi").is_err());
}

#[tokio::test]
async fn expired_token_is_replaced_by_the_provider() {
    let server = Server::start().await;
    let asked = Arc::new(Mutex::new(0));
    let count = Arc::clone(&asked);
    let provider = move || {
        *count.lock() += 1;
        Ok("t0ken".to_owned())
    };
    let mut config = server.config();
    config.token = TokenSource::Provider(Arc::new(provider));
    let (_client, mut events) = Client::start(config);
    server.accept().await.close(4401).await;
    server.accept().await.close(4502).await;
    let last = |e: &Event| matches!(e, Event::Disconnected { retry_in: None, .. });
    until(&mut events, last).await;
    assert_eq!(*asked.lock(), 2);
}

#[tokio::test]
async fn silence_ends_the_connection() {
    let server = Server::start().await;
    let mut config = server.config();
    config.limits.silence = Duration::from_millis(200);
    let (_client, mut events) = Client::start(config);
    let _peer = server.accept_with(100).await;
    let connected = |e: &Event| matches!(e, Event::Connected(_));
    until(&mut events, connected).await;
    let started = Instant::now();
    let silence = Duration::from_millis(300);
    let down = event(&mut events).await;
    assert!(
        matches!(&down, Event::Disconnected { why, .. } if *why == Down::Silent(silence)),
        "{down:?}"
    );
    assert!(started.elapsed() >= silence / 2);
}

#[tokio::test]
async fn slow_application_stops_the_reading_and_stays_alive() {
    let server = Server::start().await;
    let mut config = server.config();
    config.limits = Limits {
        events: 4,
        ..Limits::default()
    };
    let read = Arc::new(Mutex::new(0_u64));
    let count = Arc::clone(&read);
    config.recorder = Some(Arc::new(move |wire| {
        if matches!(wire.event, WireEvent::In(_)) {
            *count.lock() += 1;
        }
    }));
    let (client, mut events) = Client::start(config);
    let mut peer = server.accept_with(200).await;
    client
        .start_join(channel(), JoinOptions::default())
        .await
        .expect("open");
    peer.join(0).await;
    for seq in 1..=50 {
        peer.record(seq).await;
    }
    // It does not read, yet it gives signs of life.
    for _ in 0..3 {
        let life = soon(peer.socket.next())
            .await
            .expect("open")
            .expect("valid");
        assert!(matches!(life, Message::Pong(_)), "{life:?}");
    }
    assert!(*read.lock() <= 8, "{} frames read", read.lock());
    let seen = until(&mut events, |e| seqs(std::slice::from_ref(e)) == [50]).await;
    assert_eq!(seqs(&seen), (1..=50).collect::<Vec<_>>());
}

#[tokio::test]
async fn full_client_refuses_and_close_says_goodbye() {
    let server = Server::start().await;
    let mut config = server.config();
    config.limits.unsent = 3;
    let (client, mut events) = Client::start(config);
    let mut peer = server.accept().await;
    let handles: Vec<_> = (0..3)
        .map(|_| client.send(channel(), "hi").expect("room"))
        .collect();
    let refused = client.send(channel(), "hi").expect_err("full");
    assert_eq!(refused, hubbub_client::Refused::Full);
    let (id, send) = peer.send().await;
    peer.ack(&id, &send, Some(1)).await;
    let mut handles = handles.into_iter();
    let first = handles.next().expect("three handles");
    soon(first.wait()).await.expect("sent");
    client.send(channel(), "hi").expect("room again");

    let closing = async {
        loop {
            match soon(peer.socket.next()).await {
                Some(Ok(Message::Close(frame))) => break frame.expect("a code").code,
                Some(Ok(_)) => {}
                other => panic!("a close is expected: {other:?}"),
            }
        }
    };
    let (code, ()) = tokio::join!(closing, client.close());
    assert_eq!(u16::from(code), 1000);
    let ended = soon(handles.next().expect("three handles").wait()).await;
    let unknown = hubbub_protocol::Outcome::Unknown;
    assert!(matches!(ended, Err(SendError::Ended { outcome, .. }) if outcome == unknown));
    let last = |e: &Event| {
        matches!(
            e,
            Event::Disconnected {
                why: Down::Stopped,
                ..
            }
        )
    };
    until(&mut events, last).await;
    assert_eq!(events.recv().await, None);
}
