use super::{
    fanout::Fanout,
    server::{Net, Request, Service, say_joined},
};
use crate::wire::frame::{TEXT, server_frame};

/// One `write` per delivery, of one frame that is made once.
#[derive(Debug, Default)]
pub(super) struct SendLoop {
    fanout: Fanout,
    frame: Vec<u8>,
}

impl Service for SendLoop {
    fn text(&mut self, net: &mut Net, from: usize, text: &[u8]) -> anyhow::Result<()> {
        match Request::read(text)? {
            Request::Join(channel) => {
                self.fanout.join(channel, from);
                say_joined(net, from, channel)
            }
            Request::Publish { channel, payload } => {
                self.frame.clear();
                server_frame(TEXT, payload, &mut self.frame);
                for member in self.fanout.members(channel) {
                    net.write(*member, &self.frame)?;
                }
                Ok(())
            }
            Request::Echo(_) => anyhow::bail!("this is no echo"),
        }
    }

    fn turn(&mut self, _net: &mut Net) -> anyhow::Result<()> {
        Ok(())
    }

    fn closed(&mut self, from: usize) {
        self.fanout.leave(from);
    }
}
