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

/// Bytes of the header of a frame of [`text_frame`], whose second byte this is.
fn header_length(second: u8) -> usize {
    match second {
        126 => 4,
        127 => 10,
        _ => 2,
    }
}

/// Bytes of the first of these frames, which [`text_frame`] has written; `None` if it is not whole.
pub(crate) fn frame_length(frames: &[u8]) -> Option<usize> {
    let second = *frames.get(1)?;
    let header = header_length(second);
    let long = frames.get(2..header)?;
    let payload = match header {
        2 => u64::from(second),
        _ => long.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)),
    };
    let length = usize::try_from(payload).ok()?.checked_add(header)?;
    (length <= frames.len()).then_some(length)
}

/// Whether a text frame of [`text_frame`] around a record (`{"seq":N,"type":…`, as
/// `hubbub_protocol::with_seq` writes it) says that a message was deleted.
pub(crate) fn is_deletion(frame: &[u8]) -> bool {
    let header = frame.get(1).map_or(2, |second| header_length(*second));
    let json = frame.get(header..).unwrap_or_default();
    let Some(seq) = json.strip_prefix(b"{\"seq\":") else {
        return false;
    };
    let digits = seq.iter().take_while(|byte| byte.is_ascii_digit()).count();
    seq[digits..].starts_with(b",\"type\":\"message_deleted\"")
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

    #[test]
    fn deletion_is_told_from_what_only_speaks_of_one() {
        use hubbub_protocol::{MessageId, Record, Seq, with_seq};
        let channel = "C000000005".parse().expect("an id");
        let user = "U000000001".parse().expect("an id");
        let id = MessageId(uuid::Uuid::from_u128(7));
        let frame = |record: Record| {
            let body = record.body(1).encode();
            [1, 123_456_789]
                .map(|seq| is_deletion(&text_frame(with_seq(Seq(seq), &body).as_bytes())))
        };
        let deletion = Record::delete(channel, user, id, Seq(3), false);
        assert_eq!(frame(deletion), [true, true]);
        for length in [1, 100, 1_000] {
            let text = "\"type\":\"message_deleted\"".repeat(length);
            assert_eq!(frame(Record::message(channel, user, id, text)), [false; 2]);
        }
        for short in [&b""[..], b"\x81", b"\x81\x00", b"\x81\x7f\x00"] {
            assert!(!is_deletion(short));
        }
    }

    #[tokio::test]
    async fn every_length_is_read_by_another_implementation() {
        for length in [0, 1, 125, 126, 127, 65_535, 65_536, 100_000] {
            let text = "x".repeat(length);
            let bytes = text_frame(text.as_bytes());
            assert_eq!(frame_length(&bytes), Some(bytes.len()));
            assert_eq!(
                frame_length(&[&bytes[..], b"\x81"].concat()),
                Some(bytes.len())
            );
            assert_eq!(frame_length(&bytes[..bytes.len() - 1]), None);
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
