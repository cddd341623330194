use super::{
    fanout::Fanout,
    server::{Net, Request, Service, say_joined},
};

/// One `writev` per socket and read of the publisher, of frames that are made once.
#[derive(Debug, Default)]
pub(super) struct Writev {
    fanout: Fanout,
}

impl Service for Writev {
    fn text(&mut self, net: &mut Net, from: usize, text: &[u8]) -> anyhow::Result<()> {
        match Request::read(text)? {
            Request::Join(channel) => {
                self.fanout.join(channel, from);
                say_joined(net, from, channel)
            }
            Request::Publish { channel, payload } => {
                self.fanout.add(channel, payload);
                Ok(())
            }
            Request::Echo(_) => anyhow::bail!("this is no echo"),
        }
    }

    fn turn(&mut self, net: &mut Net) -> anyhow::Result<()> {
        self.fanout.flush(net)
    }

    fn closed(&mut self, from: usize) {
        self.fanout.leave(from);
    }
}
