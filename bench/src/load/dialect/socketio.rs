use anyhow::{Context, bail, ensure};

use super::{Event, Message, Place, decimal, number, shown};

pub(super) fn join(channel: &str, place: usize, out: &mut Vec<u8>) {
    out.extend_from_slice(format!(r#"42{place}["join","{channel}"]"#).as_bytes());
}

pub(super) fn publish(message: &Message<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"42");
    if message.ack {
        decimal(message.index, out);
    }
    out.extend_from_slice(br#"["pub",""#);
    out.extend_from_slice(message.channel.as_bytes());
    out.extend_from_slice(br#"",""#);
    message.payload(out);
    out.extend_from_slice(br#""]"#);
}

pub(super) fn event(bytes: &[u8], place: Place) -> anyhow::Result<Event<'_>> {
    let fits = match bytes {
        [b'4', b'2', rest @ ..] if rest.starts_with(br#"["m","#) => Event::Message(bytes),
        [b'4', b'3', rest @ ..] => {
            let (index, _) = number(rest).with_context(|| shown(bytes))?;
            if place.ready {
                Event::Numbered(index)
            } else {
                Event::Joined
            }
        }
        // Engine.IO is open: connect to the namespace.
        [b'0', ..] => Event::Say(b"40"),
        [b'4', b'0', ..] => {
            ensure!(!place.greeted, "the namespace was connected twice");
            Event::Greeted
        }
        b"2" => Event::Say(b"3"),
        b"6" => Event::Nothing,
        _ => bail!("the server says {}", shown(bytes)),
    };
    Ok(fits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_known() {
        let at = |greeted, ready| Place {
            greeted,
            ready,
            publisher: false,
        };
        let fresh = at(false, false);
        assert_eq!(event(br#"0{"sid":"x"}"#, fresh).unwrap(), Event::Say(b"40"));
        assert_eq!(event(br#"40{"sid":"y"}"#, fresh).unwrap(), Event::Greeted);
        assert_eq!(event(b"430[]", at(true, false)).unwrap(), Event::Joined);
        assert_eq!(
            event(b"4317[]", at(true, true)).unwrap(),
            Event::Numbered(17)
        );
        assert_eq!(event(b"2", at(true, true)).unwrap(), Event::Say(b"3"));
        let message = br#"42["m","hb!"]"#;
        assert_eq!(
            event(message, at(true, true)).unwrap(),
            Event::Message(message)
        );
        for wrong in [r#"44{"message":"no"}"#, "41", "1", r#"42["other"]"#] {
            event(wrong.as_bytes(), at(true, true)).expect_err(wrong);
        }
    }
}
