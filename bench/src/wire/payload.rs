//! What a message of the load client says: who sent it, the how manieth it is, and when it was to
//! be sent. It is ASCII that needs no escaping in JSON, so it looks the same in every dialect.

use memchr::memmem;

/// `hb!`, tag, index, intended time, `!`.
pub const HEADER_BYTES: usize = 3 + TAG_DIGITS + INDEX_DIGITS + TIME_DIGITS + 1;
/// Hex digits of an index.
pub const INDEX_DIGITS: usize = 10;
/// Where the index is in a payload.
pub const INDEX_AT: usize = 3 + TAG_DIGITS;
const TAG_DIGITS: usize = 8;
const TIME_DIGITS: usize = 16;
const MARKER: &[u8] = b"hb!";
/// Beyond any `--payload`.
pub const PAYLOAD_MAX: usize = 16 * 1024;

/// What the first bytes of a payload say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Which client sent it: two of them never share one.
    pub tag: u32,
    /// Position among all messages that this client ever sent.
    pub index: u64,
    /// When it was to be sent, on the monotonic clock.
    pub intended_ns: u64,
}

/// Makes and recognises the payloads of one client, all of one length.
#[derive(Debug)]
pub struct Payload {
    tag: u32,
    padding: Vec<u8>,
}

impl Payload {
    /// Payloads of `length` bytes, from [`HEADER_BYTES`] to [`PAYLOAD_MAX`].
    pub fn new(tag: u32, length: usize) -> anyhow::Result<Self> {
        anyhow::ensure!(
            (HEADER_BYTES..=PAYLOAD_MAX).contains(&length),
            "a payload has {HEADER_BYTES} to {PAYLOAD_MAX} bytes, not {length}"
        );
        let padding = (b'a'..=b'z').cycle().take(length - HEADER_BYTES).collect();
        Ok(Self { tag, padding })
    }

    /// Bytes of a payload.
    pub fn length(&self) -> usize {
        HEADER_BYTES + self.padding.len()
    }

    /// Appends the payload of a message.
    pub fn write(&self, index: u64, intended_ns: u64, out: &mut Vec<u8>) {
        out.extend_from_slice(MARKER);
        hex(u64::from(self.tag), TAG_DIGITS, out);
        hex(index, INDEX_DIGITS, out);
        hex(intended_ns, TIME_DIGITS, out);
        out.push(b'!');
        out.extend_from_slice(&self.padding);
    }

    /// Finds the payload in a frame and reads it. `hint` is where the last one was and is kept;
    /// `None` for a frame without a payload, or with a damaged or a foreign one.
    pub fn find(&self, frame: &[u8], hint: &mut usize) -> Option<Header> {
        if !frame
            .get(*hint..)
            .is_some_and(|rest| rest.starts_with(MARKER))
        {
            *hint = memmem::find(frame, MARKER)?;
        }
        let payload = frame.get(*hint..*hint + self.length())?;
        let header = parse(payload)?;
        let whole = payload[HEADER_BYTES..] == *self.padding && header.tag == self.tag;
        whole.then_some(header)
    }
}

/// Reads the header of a payload.
pub fn parse(payload: &[u8]) -> Option<Header> {
    let digits = payload.strip_prefix(MARKER)?;
    let (tag, rest) = digits.split_at_checked(TAG_DIGITS)?;
    let (index, rest) = rest.split_at_checked(INDEX_DIGITS)?;
    let (time, rest) = rest.split_at_checked(TIME_DIGITS)?;
    (rest.first() == Some(&b'!')).then_some(Header {
        tag: u32::try_from(unhex(tag)?).ok()?,
        index: unhex(index)?,
        intended_ns: unhex(time)?,
    })
}

/// Appends so many hex digits of a number.
pub fn hex(number: u64, digits: usize, out: &mut Vec<u8>) {
    for place in (0..digits).rev() {
        let digit = (number >> (4 * place)) & 0xF;
        out.push(b"0123456789abcdef"[digit as usize]);
    }
}

/// The number that some hex digits say; `None` for anything else.
pub fn unhex(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0_u64, |number, digit| {
        let digit = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(number << 4 | u64::from(digit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payload_comes_back_from_wherever_it_is() {
        let payload = Payload::new(0xDEAD_BEEF, 128).unwrap();
        let mut bytes = b"{\"text\":\"".to_vec();
        payload.write(77, 123_456_789_012, &mut bytes);
        bytes.extend_from_slice(b"\"}");
        let expected = Some(Header {
            tag: 0xDEAD_BEEF,
            index: 77,
            intended_ns: 123_456_789_012,
        });
        let mut hint = 0;
        assert_eq!(payload.find(&bytes, &mut hint), expected);
        assert_eq!(hint, 9);
        assert_eq!(
            payload.find(&bytes[3..], &mut hint),
            expected,
            "a wrong hint"
        );
    }

    #[test]
    fn damaged_and_foreign_payloads_are_none() {
        let payload = Payload::new(1, 64).unwrap();
        let mut bytes = Vec::new();
        payload.write(5, 6, &mut bytes);
        for at in 0..bytes.len() {
            // Digits of index and time may change into other digits: those are told by the counts.
            if (INDEX_AT..HEADER_BYTES - 1).contains(&at) {
                continue;
            }
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            assert_eq!(payload.find(&damaged, &mut 0), None, "byte {at}");
        }
        assert_eq!(payload.find(&bytes[..63], &mut 0), None, "cut short");
        let other = Payload::new(2, 64).unwrap();
        assert_eq!(other.find(&bytes, &mut 0), None, "another client's");
    }
}
