use anyhow::{Context, bail, ensure};

use super::{Event, Message, decimal, number, shown};
use crate::wire::payload::hex;

/// Ids of joins are text, those of messages numbers.
pub(super) fn join(channel: &str, place: usize, out: &mut Vec<u8>) {
    let text = format!(r#"{{"type":"join","id":"j{place}","channel":"{channel}"}}"#);
    out.extend_from_slice(text.as_bytes());
}

pub(super) fn publish(message: &Message<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(br#"{"type":"message","id":"#);
    decimal(message.index, out);
    out.extend_from_slice(br#","channel":""#);
    out.extend_from_slice(message.channel.as_bytes());
    out.extend_from_slice(br#"","client_msg_id":""#);
    hex(u64::from(message.tag), 8, out);
    out.extend_from_slice(b"-0000-4000-8000-");
    hex(message.index, 12, out);
    out.extend_from_slice(br#"","text":""#);
    message.payload(out);
    out.extend_from_slice(br#""}"#);
}

/// A field that the server does not know is ignored, after it was read.
pub(super) fn echo(message: &Message<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(br#"{"type":"ping","id":"#);
    decimal(message.index, out);
    out.extend_from_slice(br#","text":""#);
    message.payload(out);
    out.extend_from_slice(br#""}"#);
}

pub(super) fn event(bytes: &[u8]) -> anyhow::Result<Event<'_>> {
    // What comes often is known by how it begins; the rest is parsed.
    if bytes.starts_with(br#"{"type":"message""#) {
        return Ok(Event::Message(bytes));
    }
    if let Some(rest) = bytes.strip_prefix(br#"{"reply_to":"#) {
        return reply(rest).with_context(|| shown(bytes));
    }
    parsed(bytes).with_context(|| shown(bytes))
}

fn reply(rest: &[u8]) -> anyhow::Result<Event<'_>> {
    const OK: &[u8] = br#","ok":true"#;
    if let Some(rest) = rest.strip_prefix(b"\"j") {
        let (_, rest) = number(rest).context("the reply to no join of ours")?;
        let ok = rest
            .strip_prefix(b"\"")
            .is_some_and(|rest| rest.starts_with(OK));
        ensure!(ok, "a join was refused");
        return Ok(Event::Joined);
    }
    let (index, rest) = number(rest).context("the reply to no request of ours")?;
    ensure!(rest.starts_with(OK), "a request was refused");
    Ok(Event::Numbered(index))
}

fn parsed(bytes: &[u8]) -> anyhow::Result<Event<'_>> {
    #[derive(serde::Deserialize)]
    struct Peek<'a> {
        #[serde(borrow)]
        r#type: Option<&'a str>,
        #[serde(borrow)]
        channel: Option<&'a str>,
        reply_to: Option<&'a serde_json::value::RawValue>,
    }
    let peek: Peek<'_> = serde_json::from_slice(bytes).context("a frame that is not ours")?;
    ensure!(peek.reply_to.is_none(), "a reply of another shape");
    let channel = || peek.channel.context("no channel");
    Ok(match peek.r#type {
        Some("message") => Event::Message(bytes),
        Some("hello") => Event::Greeted,
        Some("synced") => Event::Synced(channel()?),
        Some("replay") => Event::Replay(channel()?),
        Some("pong" | "member_joined" | "member_left") => Event::Nothing,
        Some(other) => bail!("the server sends {other}"),
        None => bail!("a frame without a type"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::payload::Payload;

    #[test]
    fn frames_of_the_protocol_are_known() {
        let synced = br#"{"type":"synced","channel":"C000000005","seq":7}"#;
        assert_eq!(event(synced).unwrap(), Event::Synced("C000000005"));
        let replay = br#"{"type":"replay","channel":"C000000005","since":7}"#;
        assert_eq!(event(replay).unwrap(), Event::Replay("C000000005"));
        let joined = br#"{"reply_to":"j12","ok":true,"channel":"C000000005","head":0}"#;
        assert_eq!(event(joined).unwrap(), Event::Joined);
        let ok = br#"{"reply_to":12,"ok":true,"channel":"C000000005"}"#;
        assert_eq!(event(ok).unwrap(), Event::Numbered(12));
        let turned = br#"{"seq":7,"type":"message","text":"x"}"#;
        assert_eq!(event(turned).unwrap(), Event::Message(turned));
        assert_eq!(
            event(br#"{"type":"hello","pod":"edge-1"}"#).unwrap(),
            Event::Greeted
        );
    }

    #[test]
    fn refusals_and_goodbyes_are_errors() {
        for frame in [
            r#"{"reply_to":12,"ok":false,"error":{"code":"overloaded"}}"#,
            r#"{"reply_to":"j0","ok":false,"error":{}}"#,
            r#"{"reply_to":null,"ok":false,"error":{}}"#,
            r#"{"type":"left","channel":"C000000005"}"#,
            r#"{"type":"goodbye","reason":"restart"}"#,
            "hello",
        ] {
            event(frame.as_bytes()).expect_err(frame);
        }
    }

    #[test]
    fn requests_are_what_the_protocol_says() {
        use hubbub_protocol::{ClientFrame, RequestId};
        let payload = Payload::new(7, 128).unwrap();
        let message = Message {
            channel: "C000000005",
            index: 3,
            intended_ns: 9,
            tag: 7,
            ack: true,
            payload: &payload,
        };
        let decode = |write: &dyn Fn(&mut Vec<u8>)| {
            let mut out = Vec::new();
            write(&mut out);
            ClientFrame::decode(std::str::from_utf8(&out).unwrap()).unwrap()
        };
        let (id, frame) = decode(&|out| publish(&message, out));
        assert_eq!(id, Some(RequestId::Number(3)));
        let ClientFrame::Message(send) = frame else {
            panic!("{frame:?}")
        };
        assert_eq!((send.text.len(), send.client_msg_id.is_some()), (128, true));
        let (id, frame) = decode(&|out| echo(&message, out));
        assert_eq!((id, frame), (Some(RequestId::Number(3)), ClientFrame::Ping));
        let (_, frame) = decode(&|out| join("C000000005", 4, out));
        assert!(matches!(frame, ClientFrame::Join { since: None, .. }));
    }
}
