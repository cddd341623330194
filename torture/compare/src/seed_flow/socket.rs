//! One client's connection at an edge of the seed.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, Result, bail};
use futures_util::{SinkExt, StreamExt, stream::SplitSink};
use hubbub_protocol::UserId;
use parking_lot::Mutex;
use tokio::{net::TcpStream, sync::mpsc, time::timeout};
use tokio_tungstenite::{
    WebSocketStream, accept_hdr_async,
    tungstenite::{
        Message, Utf8Bytes,
        handshake::server::{ErrorResponse, Request, Response},
    },
};

use super::{
    edge::Edge,
    wire::{Asked, Told, encode},
};
use crate::settings;

/// Frames that wait for a socket; past it they are dropped, as the letter knows no repair.
const OUTBOX: usize = 256;
const HANDSHAKE: Duration = Duration::from_secs(5);
/// A client pings; one that says nothing for so long is gone.
const SILENT: Duration = settings::HEARTBEAT.saturating_add(settings::SILENCE);
const WRITE: Duration = Duration::from_secs(10);

pub(super) async fn serve(stream: TcpStream, edge: Arc<Edge>) {
    // How a client's connection ends is its own affair.
    if let Err(error) = connection(stream, &edge).await {
        tracing::debug!(%error, "a connection is over");
    }
}

async fn connection(stream: TcpStream, edge: &Edge) -> Result<()> {
    let user = Arc::new(Mutex::new(None));
    let from = Arc::clone(&user);
    #[expect(
        clippy::result_large_err,
        reason = "the type of the handshake's callback is tungstenite's"
    )]
    let callback =
        move |request: &Request, response: Response| -> Result<Response, ErrorResponse> {
            *from.lock() = user_of(request);
            Ok(response)
        };
    let socket = timeout(HANDSHAKE, accept_hdr_async(stream, callback)).await??;
    let Some(user) = *user.lock() else {
        bail!("no user in the URL");
    };
    let (sink, mut frames) = socket.split();
    let (to, outbox) = mpsc::channel(OUTBOX);
    let number = edge.connect(user, to.clone());
    let read = async {
        loop {
            let frame = timeout(SILENT, frames.next()).await.context("silent")?;
            let frame = frame.context("closed")??;
            if let Message::Text(text) = frame {
                let told = answer(edge, user, serde_json::from_str(&text)?).await;
                // Waits for room: the reader is the one who is slow.
                to.send(Utf8Bytes::from(encode(&told))).await?;
            }
        }
    };
    // Waits for the end of either way.
    let end: Result<()> = tokio::select! {
        end = read => end,
        end = write(sink, outbox) => end,
    };
    edge.disconnect(user, number);
    end
}

async fn answer(edge: &Edge, user: UserId, asked: Asked) -> Told {
    match asked {
        Asked::Ping => Told::Pong,
        Asked::Join { channel } => {
            if edge.join(channel).await {
                Told::Joined { channel }
            } else {
                Told::NotJoined { channel }
            }
        }
        Asked::Message(mut said) => {
            said.user = user;
            if edge.send(&said).await {
                Told::Ok { id: said.id }
            } else {
                Told::Failed { id: said.id }
            }
        }
    }
}

async fn write(
    mut sink: SplitSink<WebSocketStream<TcpStream>, Message>,
    mut outbox: mpsc::Receiver<Utf8Bytes>,
) -> Result<()> {
    while let Some(text) = outbox.recv().await {
        timeout(WRITE, sink.send(Message::Text(text))).await??;
    }
    Ok(())
}

/// `/ws?user=U000000003`: the seed's users log in elsewhere.
fn user_of(request: &Request) -> Option<UserId> {
    request.uri().query()?.strip_prefix("user=")?.parse().ok()
}
