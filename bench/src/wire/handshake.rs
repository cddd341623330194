//! The opening handshake (RFC 6455, section 4), both sides, in as little as works on a wire where
//! no stranger talks.

use anyhow::{Context, bail, ensure};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

/// The key of the RFC's example, and its answer.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
/// A longer head is refused.
const HEAD_MAX: usize = 16 * 1024;

/// Where a WebSocket is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url {
    /// `host:port`, to connect to and to name in the request.
    pub authority: String,
    /// The path and the query, from the slash on.
    pub target: String,
}

impl Url {
    /// Reads `ws://host:port/path` (or `http://`; the target is the same).
    pub fn parse(url: &str) -> anyhow::Result<Self> {
        let rest = ["ws://", "http://"]
            .iter()
            .find_map(|scheme| url.strip_prefix(scheme));
        let rest = rest.with_context(|| format!("{url} begins with neither ws:// nor http://"))?;
        let (authority, target) = match rest.find('/') {
            Some(slash) => rest.split_at(slash),
            None => (rest, "/"),
        };
        ensure!(authority.contains(':'), "{url} names no port");
        Ok(Self {
            authority: authority.to_owned(),
            target: target.to_owned(),
        })
    }
}

/// Appends a client's request for an upgrade. `target` is the path with the query.
pub fn request(authority: &str, target: &str, token: Option<&str>, out: &mut Vec<u8>) {
    let head = format!(
        "GET {target} HTTP/1.1\r\nHost: {authority}\r\nUpgrade: websocket\r\n\
         Connection: Upgrade\r\nSec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\n"
    );
    out.extend_from_slice(head.as_bytes());
    if let Some(token) = token {
        out.extend_from_slice(format!("Authorization: Bearer {token}\r\n").as_bytes());
    }
    out.extend_from_slice(b"\r\n");
}

/// How many bytes the server's answer has; `None` while it is not complete. Anything but an
/// upgrade is an error.
pub fn response(bytes: &[u8]) -> anyhow::Result<Option<usize>> {
    let Some((head, length)) = head(bytes)? else {
        return Ok(None);
    };
    let status = head.lines().next().unwrap_or_default();
    ensure!(
        status.starts_with("HTTP/1.1 101"),
        "the upgrade was refused: {head}"
    );
    let accept = header(head, "sec-websocket-accept");
    ensure!(
        accept == Some(ACCEPT),
        "the upgrade was answered wrongly: {head}"
    );
    Ok(Some(length))
}

/// Takes a client's request: appends the answer and says how many bytes the request had. `None`
/// while it is not complete.
pub fn accept(bytes: &[u8], out: &mut Vec<u8>) -> anyhow::Result<Option<usize>> {
    let Some((head, length)) = head(bytes)? else {
        return Ok(None);
    };
    let key = header(head, "sec-websocket-key").context("a request without a key")?;
    let accept = derive_accept_key(key.as_bytes());
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\n\r\n"
    );
    out.extend_from_slice(answer.as_bytes());
    Ok(Some(length))
}

fn head(bytes: &[u8]) -> anyhow::Result<Option<(&str, usize)>> {
    let Some(end) = memchr::memmem::find(bytes, b"\r\n\r\n") else {
        if bytes.len() > HEAD_MAX {
            bail!("a head of more than {HEAD_MAX} bytes");
        }
        return Ok(None);
    };
    let head = std::str::from_utf8(&bytes[..end]).context("a head that is no text")?;
    Ok(Some((head, end + 4)))
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().skip(1).find_map(|line| {
        let (found, value) = line.split_once(':')?;
        found
            .trim()
            .eq_ignore_ascii_case(name)
            .then(|| value.trim())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_sides_agree_however_the_bytes_come() {
        let mut asked = Vec::new();
        request("127.0.0.1:1", "/ws?a=b", Some("a.b.c"), &mut asked);
        let mut answer = Vec::new();
        for cut in 0..asked.len() {
            assert_eq!(accept(&asked[..cut], &mut answer).unwrap(), None);
        }
        let length = asked.len();
        asked.extend_from_slice(b"frames");
        assert_eq!(accept(&asked, &mut answer).unwrap(), Some(length));
        for cut in 0..answer.len() {
            assert_eq!(response(&answer[..cut]).unwrap(), None);
        }
        assert_eq!(response(&answer).unwrap(), Some(answer.len()));
        let text = String::from_utf8(asked).unwrap();
        assert!(text.starts_with("GET /ws?a=b HTTP/1.1\r\nHost: 127.0.0.1:1\r\n"));
        assert!(text.contains("\r\nAuthorization: Bearer a.b.c\r\n"));
    }

    #[test]
    fn refusals_and_wrong_answers_are_errors() {
        for answer in [
            "HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: nonsense\r\n\r\n",
        ] {
            response(answer.as_bytes()).unwrap_err();
        }
        accept(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", &mut Vec::new()).unwrap_err();
    }

    #[test]
    fn url_is_cut_at_the_path() {
        let url = Url::parse("ws://127.0.0.1:80/ws?x").unwrap();
        assert_eq!((&*url.authority, &*url.target), ("127.0.0.1:80", "/ws?x"));
        assert_eq!(Url::parse("http://h:1").unwrap().target, "/");
        Url::parse("wss://h:1/").unwrap_err();
        Url::parse("ws://h/").unwrap_err();
    }
}
