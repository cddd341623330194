//! Redis's protocol (RESP2) by hand: what publishing and subscribing need.

use anyhow::{Context, bail};

/// Appends a command.
pub fn command(parts: &[&[u8]], out: &mut Vec<u8>) {
    length(b'*', parts.len(), out);
    for part in parts {
        length(b'$', part.len(), out);
        out.extend_from_slice(part);
        out.extend_from_slice(b"\r\n");
    }
}

fn length(kind: u8, length: usize, out: &mut Vec<u8>) {
    out.push(kind);
    let mut digits = [0; 20];
    let (mut at, mut rest) = (digits.len(), length);
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
    out.extend_from_slice(b"\r\n");
}

/// What a server says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reply<'a> {
    /// `+OK`.
    Status(&'a [u8]),
    /// A number: how many subscribers a PUBLISH reached.
    Integer(i64),
    /// A string, or none.
    Bulk(Option<&'a [u8]>),
    /// Somebody published.
    Message {
        /// Where.
        channel: &'a [u8],
        /// What.
        payload: &'a [u8],
    },
    /// A subscription holds.
    Subscribed(&'a [u8]),
}

/// The reply that `bytes` begins with, and its length; `None` while it is not complete. An error
/// reply is an error, like everything that these programs never ask for.
pub fn parse(bytes: &[u8]) -> anyhow::Result<Option<(Reply<'_>, usize)>> {
    let Some((line, at)) = line(bytes) else {
        return Ok(None);
    };
    let rest = &line[1..];
    Ok(match line[0] {
        b'+' => Some((Reply::Status(rest), at)),
        b':' => Some((Reply::Integer(number(rest)?), at)),
        b'-' => bail!("Redis says {}", String::from_utf8_lossy(rest)),
        b'$' => bulk(bytes)?.map(|(bulk, at)| (Reply::Bulk(bulk), at)),
        b'*' => push(bytes, number(rest)?, at)?,
        other => bail!("Redis sends a {:?}", char::from(other)),
    })
}

fn push(bytes: &[u8], parts: i64, mut at: usize) -> anyhow::Result<Option<(Reply<'_>, usize)>> {
    anyhow::ensure!(parts == 3, "Redis sends an array of {parts}");
    let mut next = || -> anyhow::Result<Option<&[u8]>> {
        let Some((part, length)) = bulk(&bytes[at..])? else {
            return Ok(None);
        };
        at += length;
        part.map(Some).context("Redis sends no string in a push")
    };
    let Some(kind) = next()? else {
        return Ok(None);
    };
    let Some(channel) = next()? else {
        return Ok(None);
    };
    if kind == b"message" {
        let payload = next()?;
        return Ok(payload.map(|payload| (Reply::Message { channel, payload }, at)));
    }
    anyhow::ensure!(
        kind == b"subscribe",
        "Redis sends {}",
        String::from_utf8_lossy(kind)
    );
    Ok(line(&bytes[at..]).map(|(_, length)| (Reply::Subscribed(channel), at + length)))
}

/// A string (or none) and its length with all that is around it.
type Bulk<'a> = (Option<&'a [u8]>, usize);

fn bulk(bytes: &[u8]) -> anyhow::Result<Option<Bulk<'_>>> {
    let Some((line, at)) = line(bytes) else {
        return Ok(None);
    };
    let digits = line.strip_prefix(b"$").context("Redis sends no string")?;
    let length = number(digits)?;
    let Ok(length) = usize::try_from(length) else {
        return Ok(Some((None, at)));
    };
    let Some(string) = bytes.get(at..at + length + 2) else {
        return Ok(None);
    };
    Ok(Some((Some(&string[..length]), at + length + 2)))
}

/// The first line without its end, never empty, and where the next one begins.
fn line(bytes: &[u8]) -> Option<(&[u8], usize)> {
    let end = memchr::memchr(b'\n', bytes)?;
    let line = bytes[..end].strip_suffix(b"\r")?;
    (!line.is_empty()).then_some((line, end + 1))
}

fn number(digits: &[u8]) -> anyhow::Result<i64> {
    let text = std::str::from_utf8(digits).context("a number of Redis")?;
    text.parse()
        .with_context(|| format!("a number of Redis: {text:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_is_an_array_of_strings() {
        let mut out = Vec::new();
        command(&[b"PUBLISH", b"c", b"0123456789"], &mut out);
        assert_eq!(
            out,
            b"*3\r\n$7\r\nPUBLISH\r\n$1\r\nc\r\n$10\r\n0123456789\r\n"
        );
    }

    #[test]
    fn replies_come_back_and_split_ones_wait() {
        let mut message = Vec::new();
        command(&[b"message", b"chan", b"a\r\nb"], &mut message);
        let subscribed = b"*3\r\n$9\r\nsubscribe\r\n$4\r\nchan\r\n:1\r\n".to_vec();
        let (channel, payload) = (b"chan".as_slice(), b"a\r\nb".as_slice());
        for (bytes, expected) in [
            (b"+OK\r\n".to_vec(), Reply::Status(b"OK")),
            (b":12\r\n".to_vec(), Reply::Integer(12)),
            (b"$-1\r\n".to_vec(), Reply::Bulk(None)),
            (b"$2\r\nab\r\n".to_vec(), Reply::Bulk(Some(b"ab"))),
            (message, Reply::Message { channel, payload }),
            (subscribed, Reply::Subscribed(channel)),
        ] {
            for cut in 0..bytes.len() {
                assert_eq!(
                    parse(&bytes[..cut]).unwrap(),
                    None,
                    "{expected:?} cut at {cut}"
                );
            }
            let length = bytes.len();
            let more = [bytes.as_slice(), b":1\r\n"].concat();
            assert_eq!(parse(&more).unwrap(), Some((expected, length)));
        }
        parse(b"-ERR no\r\n").unwrap_err();
    }
}
