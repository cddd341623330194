use anyhow::ensure;

use super::{args::Mode, client::Client, dialect::Message};
use crate::wire::frame::client_frame;

/// More than a server may leave untaken before the run is called off.
const UNTAKEN: usize = 64 * 1024 * 1024;

impl Client {
    /// Sends the next messages, those of one publisher in one write.
    pub(super) fn send(&mut self, count: u64, intended_ns: u64) -> anyhow::Result<()> {
        let echo = self.args.mode == Mode::Echo;
        let dialect = self.args.dialect;
        let ack = self.ledger.wants_acks();
        for _ in 0..count {
            let index = self.ledger.send(intended_ns)?;
            let channel = self.ledger.channel(index);
            let publisher = if echo {
                channel
            } else {
                channel % self.args.publishers
            };
            let message = Message {
                channel: self.names.get(channel).map_or("", String::as_str),
                index,
                intended_ns,
                tag: self.tag,
                ack,
                payload: &self.ledger.payload,
            };
            self.body.clear();
            if echo {
                dialect.echo(&message, &mut self.body);
            } else {
                dialect.publish(&message, &mut self.body);
            }
            let burst = &mut self.bursts[publisher];
            if burst.is_empty() {
                self.dirty.push(publisher);
            }
            let body = &self.body;
            client_frame(dialect.opcode(), body.len(), burst, |out| {
                out.extend_from_slice(body)
            });
        }
        let first = if echo { 0 } else { self.layout.sockets };
        while let Some(publisher) = self.dirty.pop() {
            let mut burst = std::mem::take(&mut self.bursts[publisher]);
            self.write(first + publisher, &burst)?;
            let untaken = self.sockets[first + publisher].backlog.len();
            ensure!(
                untaken < UNTAKEN,
                "the server takes nothing: {untaken} bytes wait"
            );
            burst.clear();
            self.bursts[publisher] = burst;
        }
        Ok(())
    }
}
