//! How a connection comes to its end, and what its client is still told.

use std::time::Duration;

use futures_util::StreamExt;
use hubbub_protocol::{CloseCode, ErrorBody, ErrorCode, Outcome, limits};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        self,
        error::{CapacityError, ProtocolError},
        protocol::CloseFrame,
    },
};

use super::Connection;
use crate::{
    hub::Registration,
    socket::{Flushed, WireStream},
};

/// For the answers to what is in flight, a close frame, and what waits before it.
const CLOSE_DEADLINE: Duration = Duration::from_secs(5);
/// For the close frame, where the answers took all of that time.
const LAST_WRITE: Duration = Duration::from_millis(250);
/// How long a socket stays registered once it is told to close.
pub(crate) const LONGEST_CLOSE: Duration = CLOSE_DEADLINE.saturating_add(LAST_WRITE);
/// For the client's own close frame after ours (RFC 6455, 7.1.1).
const LINGER: Duration = Duration::from_secs(1);

/// How a connection came to its end.
pub(super) struct End {
    pub(super) code: CloseCode,
    pub(super) reason: String,
    /// Whether the client can still be told.
    pub(super) tell: bool,
}

impl End {
    pub(super) fn tell(code: CloseCode, reason: impl Into<String>) -> Self {
        Self {
            code,
            reason: reason.into(),
            tell: true,
        }
    }

    pub(super) fn gone(reason: impl Into<String>) -> Self {
        Self {
            code: CloseCode::Normal,
            reason: reason.into(),
            tell: false,
        }
    }
}

impl Connection {
    /// Says why, after the answers to what is still in flight, and closes.
    ///
    /// The socket stays registered until everything is written: an eviction in that time still
    /// finds what is queued for it.
    pub(super) async fn close(
        &mut self,
        ws: &mut WebSocketStream<WireStream>,
        end: &End,
        registration: Registration,
    ) {
        let answers = async {
            if let Some(check) = self.check.take() {
                let checked = check.await;
                let error = ErrorBody::new(ErrorCode::Draining, "this connection ends: come back");
                self.fail(checked.id, &error.outcome(Outcome::Rejected));
            }
            self.refuse_slow();
            while !self.sends.is_empty() {
                let (id, result) = self.sends.next().await;
                self.answer_send(id, result);
            }
        };
        let end_at = Instant::now() + CLOSE_DEADLINE;
        if timeout_at(end_at, answers).await.is_err() {
            tracing::debug!(
                connection.id = self.socket.id.0,
                "closed before the log answered"
            );
        }
        let frame = CloseFrame {
            code: end.code.code().into(),
            reason: end.reason.as_str().into(),
        };
        // Into the outbox; an error means that the stream has ended by itself.
        ws.close(Some(frame)).await.ok();
        let written = async {
            while self.edge.flush(&self.socket) == Flushed::Blocked {
                if self.socket.writable().await.is_err() {
                    break;
                }
            }
        };
        let write_until = end_at.max(Instant::now() + LAST_WRITE);
        let written = timeout_at(write_until, written).await.is_ok();
        drop(registration);
        if written {
            let answered = async {
                while let Some(Ok(_)) = ws.next().await {}
                // After an error the stream gives nothing more, though the client may still send.
                self.socket.finish().await;
            };
            timeout(LINGER, answered).await.ok();
        }
    }
}

/// What a failed read means for the client (RFC 6455, 7.4.1).
pub(super) fn end_of(error: &tungstenite::Error) -> End {
    match error {
        tungstenite::Error::Capacity(CapacityError::MessageTooLong { .. }) => End::tell(
            CloseCode::TooBig,
            format!("a message has at most {} bytes", limits::FRAME_BYTES),
        ),
        tungstenite::Error::Utf8(_) => End::tell(CloseCode::Invalid, "text is not UTF-8"),
        tungstenite::Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => {
            End::gone("connection lost")
        }
        tungstenite::Error::Protocol(error) => End::tell(CloseCode::Protocol, error.to_string()),
        tungstenite::Error::ConnectionClosed | tungstenite::Error::AlreadyClosed => {
            End::gone("closed by the client")
        }
        _ => End::gone("connection lost"),
    }
}
