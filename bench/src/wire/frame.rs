//! WebSocket frames (RFC 6455, section 5.2), without extensions.

use std::ops::Range;

/// A text frame.
pub const TEXT: u8 = 0x1;
/// A binary frame.
pub const BINARY: u8 = 0x2;
/// A close frame.
pub const CLOSE: u8 = 0x8;
/// A ping.
pub const PING: u8 = 0x9;
/// The answer to a ping.
pub const PONG: u8 = 0xA;
/// A further part of a fragmented message.
pub const CONTINUATION: u8 = 0x0;

/// The longest header: 2 bytes, 8 of length, 4 of mask.
pub const HEADER_MAX: usize = 14;

/// Any key does: it hides nothing, and one that is not zero makes the receiver do its work.
const MASK: [u8; 4] = [0x37, 0xFA, 0x21, 0x3D];

/// A frame at the beginning of some bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Whether the message ends with it.
    pub last: bool,
    /// What it is.
    pub opcode: u8,
    /// Where the payload is.
    pub payload: Range<usize>,
    /// The key, if it came from a client.
    pub mask: Option<[u8; 4]>,
}

/// Why bytes are no frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// A reserved bit is set: there are no extensions here.
    #[error("a reserved bit is set")]
    Reserved,
    /// The frame cannot be as long as it says.
    #[error("a frame of {0} bytes")]
    TooLong(u64),
}

/// The frame that `bytes` begins with; `None` while it is not complete. A frame above `max` bytes
/// of payload is an error.
pub fn parse(bytes: &[u8], max: usize) -> Result<Option<Frame>, FrameError> {
    let [first, second, rest @ ..] = bytes else {
        return Ok(None);
    };
    if first & 0x70 != 0 {
        return Err(FrameError::Reserved);
    }
    let (length, mut at) = match second & 0x7F {
        126 => match rest {
            [a, b, ..] => (u64::from(u16::from_be_bytes([*a, *b])), 4),
            _ => return Ok(None),
        },
        127 => match rest.first_chunk::<8>() {
            Some(length) => (u64::from_be_bytes(*length), 10),
            None => return Ok(None),
        },
        short => (u64::from(short), 2),
    };
    let length = usize::try_from(length)
        .ok()
        .filter(|length| *length <= max)
        .ok_or(FrameError::TooLong(length))?;
    let mask = if second & 0x80 == 0 {
        None
    } else {
        let Some(mask) = bytes.get(at..).and_then(|rest| rest.first_chunk::<4>()) else {
            return Ok(None);
        };
        at += 4;
        Some(*mask)
    };
    if bytes.len() < at + length {
        return Ok(None);
    }
    Ok(Some(Frame {
        last: first & 0x80 != 0,
        opcode: first & 0x0F,
        payload: at..at + length,
        mask,
    }))
}

/// Takes the mask off (or puts it on), eight bytes at a time.
pub fn mask(payload: &mut [u8], key: [u8; 4]) {
    let [a, b, c, d] = key;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (chunks, rest) = payload.as_chunks_mut::<8>();
    for chunk in chunks {
        *chunk = (u64::from_ne_bytes(*chunk) ^ wide).to_ne_bytes();
    }
    for (byte, key) in rest.iter_mut().zip(key.iter().cycle()) {
        *byte ^= key;
    }
}

/// Appends the header of a whole message as servers send it.
pub fn server_header(opcode: u8, length: usize, out: &mut Vec<u8>) {
    header(opcode, length, 0, out);
}

/// Appends a whole message as servers send it.
pub fn server_frame(opcode: u8, payload: &[u8], out: &mut Vec<u8>) {
    server_header(opcode, payload.len(), out);
    out.extend_from_slice(payload);
}

/// Appends a whole message as clients send it; `write` appends the payload, of `length` bytes.
pub fn client_frame(
    opcode: u8,
    length: usize,
    out: &mut Vec<u8>,
    write: impl FnOnce(&mut Vec<u8>),
) {
    header(opcode, length, 0x80, out);
    out.extend_from_slice(&MASK);
    let at = out.len();
    write(out);
    debug_assert_eq!(out.len() - at, length, "the header promises so many bytes");
    mask(&mut out[at..], MASK);
}

fn header(opcode: u8, length: usize, masked: u8, out: &mut Vec<u8>) {
    out.push(0x80 | opcode);
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(short @ 0..=125), _) => out.push(masked | short),
        (_, Ok(medium)) => {
            out.push(masked | 126);
            out.extend_from_slice(&medium.to_be_bytes());
        }
        _ => {
            out.push(masked | 127);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: usize = 1 << 20;

    #[test]
    fn frames_of_every_length_come_back_and_a_split_one_waits() {
        for length in [0, 1, 7, 8, 9, 125, 126, 127, 65_535, 65_536, 70_001] {
            let payload: Vec<u8> = (0..length).map(|i| (i % 251) as u8).collect();
            let mut server = Vec::new();
            server_frame(TEXT, &payload, &mut server);
            let mut client = Vec::new();
            client_frame(BINARY, length, &mut client, |out| {
                out.extend_from_slice(&payload);
            });
            for (mut bytes, opcode, masked) in [(server, TEXT, false), (client, BINARY, true)] {
                for cut in (0..bytes.len()).filter(|cut| *cut < 20 || *cut + 3 > bytes.len()) {
                    assert_eq!(parse(&bytes[..cut], MAX), Ok(None), "{length} cut at {cut}");
                }
                bytes.extend_from_slice(b"next");
                let frame = parse(&bytes, MAX).unwrap().expect("it is complete");
                assert_eq!((frame.opcode, frame.last), (opcode, true));
                assert_eq!(frame.mask.is_some(), masked);
                assert_eq!(frame.payload.end, bytes.len() - 4);
                let body = &mut bytes[frame.payload];
                if let Some(key) = frame.mask {
                    mask(body, key);
                }
                assert_eq!(body, payload, "{length}");
            }
        }
    }

    #[test]
    fn lies_are_errors() {
        assert_eq!(parse(&[0xC1, 0], MAX), Err(FrameError::Reserved));
        let long = [0x81, 127, 0, 0, 1, 0, 0, 0, 0, 0];
        assert_eq!(parse(&long, MAX), Err(FrameError::TooLong(1 << 40)));
        assert_eq!(parse(&[0x81, 5], 4), Err(FrameError::TooLong(5)));
    }
}
