use std::collections::HashMap;

use super::{
    fanout::Fanout,
    redis::Redis,
    server::{Net, Request, Service, say_joined},
};
use crate::wire::resp::Reply;

const REDIS: u64 = u64::MAX - 1;

/// The second pod of the bare relay: what one read of Redis brings goes out with one `writev` per
/// socket.
pub(super) struct RelayOut {
    redis: Redis,
    fanout: Fanout,
    /// Channels whose subscription is not confirmed, and who waits for it; `None` once it is.
    waiting: HashMap<Box<[u8]>, Option<Vec<usize>>>,
}

impl RelayOut {
    pub(super) fn new(net: &mut Net, redis: Redis) -> anyhow::Result<Self> {
        net.watch(redis.stream(), REDIS, false)?;
        Ok(Self {
            redis,
            fanout: Fanout::default(),
            waiting: HashMap::new(),
        })
    }
}

impl Service for RelayOut {
    fn text(&mut self, net: &mut Net, from: usize, text: &[u8]) -> anyhow::Result<()> {
        let Request::Join(channel) = Request::read(text)? else {
            anyhow::bail!("this takes only joins");
        };
        self.fanout.join(channel, from);
        match self.waiting.get_mut(channel) {
            Some(Some(waiting)) => waiting.push(from),
            Some(None) => say_joined(net, from, channel)?,
            None => {
                self.waiting.insert(channel.into(), Some(vec![from]));
                self.redis.queue(&[b"SUBSCRIBE", channel]);
            }
        }
        Ok(())
    }

    fn event(&mut self, net: &mut Net, _token: u64) -> anyhow::Result<()> {
        let Self {
            redis,
            fanout,
            waiting,
        } = self;
        redis.read(|reply| match reply {
            Reply::Message { channel, payload } => {
                fanout.add(channel, payload);
                Ok(())
            }
            Reply::Subscribed(channel) => {
                let asked = waiting.get_mut(channel).and_then(Option::take);
                asked
                    .into_iter()
                    .flatten()
                    .try_for_each(|to| say_joined(net, to, channel))
            }
            other => anyhow::bail!("Redis says {other:?} to a subscriber"),
        })
    }

    fn turn(&mut self, net: &mut Net) -> anyhow::Result<()> {
        self.redis.flush(net, REDIS)?;
        self.fanout.flush(net)
    }

    fn closed(&mut self, from: usize) {
        self.fanout.leave(from);
    }
}
