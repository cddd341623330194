use anyhow::Context as _;

use super::{
    echo::say_ok,
    log::Log,
    redis::Redis,
    server::{Net, Request, Service},
};
use crate::wire::frame::{TEXT, server_frame};

const LOG: u64 = u64::MAX - 1;
const REDIS: u64 = u64::MAX - 2;

/// The first pod of the bare relay: frame in, log, acknowledgement, PUBLISH and `ok` out. Without
/// Redis it is the log's floor.
pub(super) struct RelayIn {
    log: Log,
    redis: Option<Redis>,
    /// Per socket, answers of this turn.
    answers: Vec<Vec<u8>>,
    dirty: Vec<usize>,
    body: Vec<u8>,
}

impl RelayIn {
    pub(super) fn new(net: &mut Net, log: Log, redis: Option<Redis>) -> anyhow::Result<Self> {
        net.watch(log.waker(), LOG, false)?;
        if let Some(redis) = &redis {
            net.watch(redis.stream(), REDIS, false)?;
        }
        Ok(Self {
            log,
            redis,
            answers: Vec::new(),
            dirty: Vec::new(),
            body: Vec::new(),
        })
    }

    fn reports(&mut self) -> anyhow::Result<()> {
        for produced in self.log.take()?.drain(..) {
            if let Some(redis) = &mut self.redis {
                redis.queue(&[b"PUBLISH", &produced.channel, &produced.payload]);
            }
            if self.answers.len() <= produced.from {
                self.answers.resize_with(produced.from + 1, Vec::new);
            }
            let answers = &mut self.answers[produced.from];
            if answers.is_empty() {
                self.dirty.push(produced.from);
            }
            self.body.clear();
            say_ok(&produced.payload, &mut self.body)?;
            server_frame(TEXT, &self.body, answers);
        }
        Ok(())
    }
}

impl Service for RelayIn {
    fn text(&mut self, _net: &mut Net, from: usize, text: &[u8]) -> anyhow::Result<()> {
        match Request::read(text)? {
            Request::Publish { channel, payload } => self.log.produce(from, channel, payload),
            _ => anyhow::bail!("this takes only messages"),
        }
    }

    fn event(&mut self, net: &mut Net, token: u64) -> anyhow::Result<()> {
        if token == LOG {
            return self.reports();
        }
        let redis = self
            .redis
            .as_mut()
            .context("an event of Redis, which is not there")?;
        // The numbers of subscribers that the messages reached.
        redis.read(|_| Ok(()))?;
        redis.flush(net, REDIS)
    }

    fn turn(&mut self, net: &mut Net) -> anyhow::Result<()> {
        if let Some(redis) = &mut self.redis {
            redis.flush(net, REDIS)?;
        }
        for to in self.dirty.drain(..) {
            net.write(to, &self.answers[to])?;
            self.answers[to].clear();
        }
        Ok(())
    }
}
