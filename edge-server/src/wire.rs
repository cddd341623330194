//! Bytes of WebSocket frames (RFC 6455, 5.2), as a server sends them: unmasked and unfragmented.

use bytes::{BufMut, Bytes};

/// A text frame around `json`. One such value serves every socket of a channel.
pub(crate) fn text_frame(json: &[u8]) -> Bytes {
    const FIN_TEXT: u8 = 0x81;
    let header = match json.len() {
        0..=125 => 2,
        126..=0xffff => 4,
        _ => 10,
    };
    // Of this very length: spare room would cost an allocation more.
    let mut frame = Vec::with_capacity(header + json.len());
    frame.put_u8(FIN_TEXT);
    match json.len() {
        short @ 0..=125 => frame.put_u8(short as u8),
        middle @ 126..=0xffff => {
            frame.put_u8(126);
            frame.put_u16(middle as u16);
        }
        long => {
            frame.put_u8(127);
            frame.put_u64(long as u64);
        }
    }
    frame.put_slice(json);
    Bytes::from(frame)
}

/// An empty ping.
pub(crate) fn ping_frame() -> Bytes {
    Bytes::from_static(&[0x89, 0x00])
}

#[cfg(test)]
mod tests {
    use tokio_tungstenite::{
        WebSocketStream,
        tungstenite::{Message, protocol::Role},
    };

    use futures_util::StreamExt;

    use super::*;

    #[tokio::test]
    async fn every_length_is_read_by_another_implementation() {
        for length in [0, 1, 125, 126, 127, 65_535, 65_536, 100_000] {
            let text = "x".repeat(length);
            let bytes = text_frame(text.as_bytes());
            let mut client = WebSocketStream::from_raw_socket(
                std::io::Cursor::new(bytes.to_vec()),
                Role::Client,
                None,
            )
            .await;
            let message = client
                .next()
                .await
                .expect("one message")
                .expect("a valid frame");
            assert_eq!(message, Message::Text(text.into()));
        }
    }
}
