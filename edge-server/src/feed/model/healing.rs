//! The end of a schedule: everything heals, and every promise must be kept.

use super::{
    store::{CHANNELS, PARTITIONS},
    world::{CONSUMERS, Outcome, World},
};

/// Sweeps are so far apart.
const SWEEP_MS: u64 = 700;
/// Within so long everything must be complete once all is healed: P7's 2 s, and the longest delay
/// of a request that failed just before.
const HEALED_MS: u64 = 2_500;

impl World {
    /// Everything comes back, nothing new is sent: after a while every promise must be kept.
    pub(super) fn heal(&mut self) -> Outcome {
        self.tell(|_| "heal".to_owned());
        self.store.away = [false; PARTITIONS];
        for edge in 0..self.edges.len() {
            while !self.edges[edge].unpublished.is_empty() {
                let crash = self.plan.silent && self.random.chance(10);
                self.publish(edge, crash);
            }
        }
        for partition in 0..PARTITIONS {
            let end = self.store.log[partition].len();
            while self.store.position[partition] < end {
                let consumer = self.random.below(CONSUMERS);
                let records = 1 + self.random.below(3);
                self.consume_by(consumer, partition, records);
                self.announce_by(consumer);
                if self.random.chance(30) {
                    self.deliver_all()?;
                }
            }
        }
        for consumer in 0..CONSUMERS {
            while !self.consumers[consumer].unannounced.is_empty() {
                self.announce_by(consumer);
            }
        }
        let started = self.now_ms;
        let mut swept = vec![0; self.edges.len()];
        while self.now_ms < started + HEALED_MS {
            self.now_ms += 100;
            for (edge, swept_ms) in swept.iter_mut().enumerate() {
                if self.plan.silent && self.now_ms >= *swept_ms + SWEEP_MS {
                    *swept_ms = self.now_ms;
                    self.whole_sweep(edge)?;
                }
                self.time_passed(edge)?;
            }
            self.return_clients()?;
            self.quiesce()?;
            if self.lacks().is_none() {
                return self.at_rest();
            }
        }
        Err(self.lacks().unwrap_or_default())
    }

    pub(super) fn whole_sweep(&mut self, edge: usize) -> Outcome {
        for shard in 0..PARTITIONS {
            // One may have read before the heal: it ends, and another one follows.
            for _ in 0..3 {
                self.sweep_shard(edge, shard, false)?;
            }
        }
        Ok(())
    }

    /// Every client is connected and listens to what it ever joined.
    pub(super) fn return_clients(&mut self) -> Outcome {
        for client in 0..self.clients.len() {
            let edge = self.random.below(self.edges.len());
            self.connect(client, edge);
            let socket = self.clients[client].socket.expect("just connected");
            for channel in 0..CHANNELS {
                let listening = &self.clients[client].channels[channel];
                if !listening.joined && listening.cursor.is_some() {
                    let (since, ordered) = (listening.cursor, listening.ordered);
                    self.join_with(client, socket, channel, since, ordered)?;
                }
            }
        }
        Ok(())
    }

    pub(super) fn deliver_all(&mut self) -> Outcome {
        for edge in 0..self.edges.len() {
            while self.edges[edge].inbox.iter().any(|queue| !queue.is_empty()) {
                self.deliver(edge)?;
                self.settle()?;
            }
        }
        Ok(())
    }

    /// Lets everything that is under way arrive.
    pub(super) fn quiesce(&mut self) -> Outcome {
        for _ in 0..2_000 {
            let mut busy = false;
            self.deliver_all()?;
            for edge in 0..self.edges.len() {
                for channel in 0..CHANNELS {
                    self.subscribe(edge, channel)?;
                    self.confirm(edge, channel)?;
                    self.store_reads(edge, channel);
                    self.store_answers(edge, channel)?;
                    self.settle()?;
                }
            }
            for client in 0..self.clients.len() {
                self.drain(client, 64)?;
                self.settle()?;
                let socket = self.clients[client].socket;
                busy |= socket.is_some_and(|socket| !self.sockets.get(socket).is_empty());
            }
            let mut feeds = self
                .edges
                .iter()
                .flat_map(|edge| edge.feeds.iter().flatten());
            busy |= feeds.any(|open| !open.asked.is_empty() || !open.answered.is_empty());
            if !busy {
                return Ok(());
            }
        }
        Err("it never comes to rest".to_owned())
    }

    pub(super) fn lacks(&self) -> Option<String> {
        for (at, client) in self.clients.iter().enumerate() {
            for (channel, listening) in client.channels.iter().enumerate() {
                if listening.joined
                    && let Some(what) = listening.lacks(channel, &self.store)
                {
                    return Some(format!("client {at}, c{channel}: {what}"));
                }
            }
        }
        for edge in &self.edges {
            for (channel, open) in edge.feeds.iter().enumerate() {
                let Some(open) = open else { continue };
                let head = self.store.head(channel);
                if open.feed.horizon() != Some(head) {
                    let horizon = open.feed.horizon();
                    return Some(format!("P7: horizon {horizon:?} is not the head {head:?}"));
                }
            }
        }
        None
    }

    /// What must hold of the feeds when nothing is left to do.
    pub(super) fn at_rest(&self) -> Outcome {
        for edge in &self.edges {
            for (channel, open) in edge.feeds.iter().enumerate() {
                let Some(open) = open else { continue };
                open.feed.check_invariants()?;
                self.store.check_tail(channel, &open.feed)?;
            }
            let tails = edge.feeds.iter().flatten();
            let tails = tails.map(|open| open.feed.tail_bytes() as u64).sum::<u64>();
            if edge.limits.tail_bytes_used() != tails {
                return Err("the bytes of the tails are counted wrong".to_owned());
            }
            if edge.limits.frame_bytes_used() != 0 {
                return Err("frames are held though everything is stored".to_owned());
            }
        }
        Ok(())
    }
}
