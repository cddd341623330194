use anyhow::Context;

use super::server::{Net, Request, Service, say_joined};
use crate::wire::{
    frame::{TEXT, server_frame},
    payload::{INDEX_AT, INDEX_DIGITS},
};

/// Answers every frame to its sender: one `write` for all that one read brought.
#[derive(Debug)]
pub(super) struct Echo {
    /// `None` sends the payload back; otherwise the answer is `ok <index>` and spaces, so long.
    answer_bytes: Option<usize>,
    body: Vec<u8>,
    out: Vec<u8>,
    to: usize,
}

impl Echo {
    pub(super) fn new(answer_bytes: Option<usize>) -> Self {
        Self {
            answer_bytes,
            body: Vec::new(),
            out: Vec::new(),
            to: 0,
        }
    }
}

impl Service for Echo {
    fn text(&mut self, net: &mut Net, from: usize, text: &[u8]) -> anyhow::Result<()> {
        self.to = from;
        match Request::read(text)? {
            Request::Join(channel) => say_joined(net, from, channel),
            Request::Echo(payload) => {
                let Some(bytes) = self.answer_bytes else {
                    server_frame(TEXT, payload, &mut self.out);
                    return Ok(());
                };
                self.body.clear();
                say_ok(payload, &mut self.body)?;
                self.body.resize(bytes.max(self.body.len()), b' ');
                server_frame(TEXT, &self.body, &mut self.out);
                Ok(())
            }
            Request::Publish { .. } => anyhow::bail!("this is only an echo"),
        }
    }

    fn turn(&mut self, net: &mut Net) -> anyhow::Result<()> {
        if !self.out.is_empty() {
            net.write(self.to, &self.out)?;
            self.out.clear();
        }
        Ok(())
    }
}

/// Appends the acknowledgement of a message: the digits of its index.
pub(super) fn say_ok(payload: &[u8], out: &mut Vec<u8>) -> anyhow::Result<()> {
    let index = payload
        .get(INDEX_AT..INDEX_AT + INDEX_DIGITS)
        .context("a short payload")?;
    out.extend_from_slice(b"ok ");
    out.extend_from_slice(index);
    Ok(())
}
