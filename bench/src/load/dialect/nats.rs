use anyhow::{Context, bail};

use super::{Event, Message, Place, shown};

/// A line that does not end within so many bytes is none.
const LINE_MAX: usize = 16 * 1024;
const CONNECT: &[u8] = b"CONNECT {\"verbose\":false,\"pedantic\":false,\"echo\":true,\
    \"lang\":\"rust\",\"version\":\"1\",\"protocol\":1}\r\nPING\r\n";

/// The PING's answer says that the subscription holds.
pub(super) fn join(channel: &str, place: usize, out: &mut Vec<u8>) {
    out.extend_from_slice(format!("SUB {channel} {}\r\nPING\r\n", place + 1).as_bytes());
}

pub(super) fn publish(message: &Message<'_>, out: &mut Vec<u8>) {
    let head = format!("PUB {} {}\r\n", message.channel, message.payload.length());
    out.extend_from_slice(head.as_bytes());
    message.payload(out);
    out.extend_from_slice(b"\r\n");
}

pub(super) fn event(bytes: &[u8], place: Place) -> anyhow::Result<Option<(Event<'_>, usize)>> {
    let Some(end) = memchr::memmem::find(bytes, b"\r\n") else {
        anyhow::ensure!(bytes.len() < LINE_MAX, "a line without end");
        return Ok(None);
    };
    let (line, next) = (&bytes[..end], end + 2);
    if let Some(rest) = line.strip_prefix(b"MSG ") {
        let length = rest.rsplit(|byte| *byte == b' ').next().unwrap_or_default();
        let length = std::str::from_utf8(length)
            .ok()
            .and_then(|digits| digits.parse().ok());
        let length: usize = length.with_context(|| shown(line))?;
        let body = bytes.get(next..next + length + 2);
        return Ok(body.map(|body| (Event::Message(&body[..length]), next + length + 2)));
    }
    let event = match line {
        b"PING" => Event::Say(b"PONG\r\n"),
        b"PONG" if !place.greeted => Event::Greeted,
        b"PONG" => Event::Joined,
        b"+OK" => Event::Nothing,
        _ if line.starts_with(b"INFO ") && !place.greeted => Event::Say(CONNECT),
        _ if line.starts_with(b"INFO ") => Event::Nothing,
        _ => bail!("the server says {}", shown(line)),
    };
    Ok(Some((event, next)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_wait_for_their_end() {
        let place = Place {
            greeted: true,
            ready: true,
            publisher: false,
        };
        let bytes = b"MSG c0 1 5\r\nhel\r\n\r\nPING\r\n";
        for cut in 0..19 {
            assert_eq!(event(&bytes[..cut], place).unwrap(), None, "cut at {cut}");
        }
        let (message, used) = event(bytes, place).unwrap().expect("it is complete");
        assert_eq!((message, used), (Event::Message(b"hel\r\n"), 19));
        let ping = event(&bytes[used..], place).unwrap();
        assert_eq!(ping, Some((Event::Say(b"PONG\r\n"), 6)));
        event(b"-ERR 'no'\r\n", place).unwrap_err();
    }
}
