use anyhow::Context;

use super::{Event, Message, shown};
use crate::wire::payload::{INDEX_DIGITS, unhex};

pub(super) fn join(channel: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b"join ");
    out.extend_from_slice(channel.as_bytes());
}

pub(super) fn publish(message: &Message<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"pub ");
    out.extend_from_slice(message.channel.as_bytes());
    out.push(b' ');
    message.payload(out);
}

pub(super) fn echo(message: &Message<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"echo ");
    message.payload(out);
}

pub(super) fn event(bytes: &[u8]) -> anyhow::Result<Event<'_>> {
    if bytes.starts_with(b"hb!") {
        return Ok(Event::Message(bytes));
    }
    if let Some(rest) = bytes.strip_prefix(b"ok ") {
        let index = rest.get(..INDEX_DIGITS).and_then(unhex);
        return index.map(Event::Numbered).with_context(|| shown(bytes));
    }
    anyhow::ensure!(
        bytes.starts_with(b"joined "),
        "the server says {}",
        shown(bytes)
    );
    Ok(Event::Joined)
}
