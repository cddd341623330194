//! Log, store, consumers, bus, edges and clients under one random schedule.

use crate::feed::Counts;

use super::{
    client::Client,
    edge::{Consumer, Edge},
    plan::{ACTS, Act, Plan},
    random::Random,
    sockets::Sockets,
    store::{CHANNELS, PARTITIONS, Store},
};

pub(super) const CONSUMERS: usize = 2;

#[derive(Debug)]
pub(super) struct World {
    pub(super) random: Random,
    pub(super) plan: Plan,
    pub(super) now_ms: u64,
    pub(super) store: Store,
    pub(super) edges: Vec<Edge>,
    pub(super) consumers: [Consumer; CONSUMERS],
    pub(super) clients: Vec<Client>,
    pub(super) sockets: Sockets,
    pub(super) counts: Counts,
    pub(super) trace: Option<Vec<String>>,
}

/// What a schedule came to: nothing, or the promise that was broken.
pub(super) type Outcome = Result<(), String>;

/// Runs the schedule of this seed.
pub(super) fn run(seed: u64) -> Outcome {
    World::new(seed, false).run()
}

/// What the feeds did under the schedule of this seed.
pub(super) fn counts(seed: u64) -> Counts {
    let mut world = World::new(seed, false);
    world.run().expect("the schedule keeps the promises");
    world.counts
}

/// The same with every step told.
pub(super) fn run_told(seed: u64) -> (Outcome, Vec<String>) {
    let mut world = World::new(seed, true);
    let outcome = world.run();
    (outcome, world.trace.take().unwrap_or_default())
}

impl World {
    fn new(seed: u64, told: bool) -> Self {
        let mut random = Random::new(seed);
        let plan = Plan::new(&mut random);
        let edges = 1 + random.below(3);
        let clients = 2 + random.below(3);
        let mut world = Self {
            random,
            plan,
            now_ms: 1_000,
            store: Store::default(),
            edges: Vec::new(),
            consumers: Default::default(),
            clients: (0..clients).map(|_| Client::default()).collect(),
            sockets: Sockets::default(),
            counts: Counts::default(),
            trace: told.then(Vec::new),
        };
        world.sockets.failed = vec![[false; CHANNELS]; edges];
        world.sockets.advanced = (world.plan.ids > 1).then(|| vec![Default::default(); edges]);
        for _ in 0..edges {
            let edge = world.new_edge(edges);
            world.edges.push(edge);
        }
        if let Some(trace) = &mut world.trace {
            trace.push(format!("{:?}", world.plan));
        }
        world
    }

    pub(super) fn tell(&mut self, what: impl FnOnce(&Self) -> String) {
        if self.trace.is_some() {
            let what = what(self);
            if let Some(trace) = &mut self.trace {
                trace.push(what);
            }
        }
    }

    fn run(&mut self) -> Outcome {
        if self.plan.warm {
            self.warm_up()?;
        }
        let total: usize = self.plan.weights.iter().sum();
        for _ in 0..self.plan.steps {
            let mut at = self.random.below(total);
            let mut act = Act::Wait;
            for ((candidate, _), weight) in ACTS.iter().zip(self.plan.weights) {
                if at < weight {
                    act = *candidate;
                    break;
                }
                at -= weight;
            }
            self.now_ms += self.random.below(20) as u64;
            self.act(act)?;
            self.settle()?;
        }
        self.heal()
    }

    /// What the edges do at once after any step.
    pub(super) fn settle(&mut self) -> Outcome {
        while let Some(socket) = self.sockets.closed.pop() {
            self.tell(|_| format!("  closed {socket:?}"));
            let client = self.sockets.get(socket).client;
            self.disconnect(client);
        }
        match self.sockets.violation.take() {
            Some(what) => Err(what),
            None => Ok(()),
        }
    }

    fn act(&mut self, act: Act) -> Outcome {
        let edge = self.random.below(self.edges.len());
        let client = self.random.below(self.clients.len());
        let channel = self.random.below(self.plan.channels);
        match act {
            Act::Send => self.send(edge, channel, false),
            Act::Poison => self.send(edge, channel, true),
            Act::Resend => self.resend(edge),
            Act::Publish => self.publish(edge, false),
            Act::CrashBeforePublish if self.plan.silent || self.random.chance(50) => {
                // A crash between append and publish: the announcement alone brings it.
                self.publish(edge, true);
            }
            Act::Consume => self.consume(),
            Act::Announce => self.announce(),
            Act::CrashBeforeAnnounce if self.plan.silent => {
                let consumer = self.random.below(CONSUMERS);
                self.tell(|_| format!("consumer {consumer} crashes"));
                self.consumers[consumer] = Consumer::default();
            }
            Act::Deliver => return self.deliver(edge),
            Act::StoreReads => self.store_reads(edge, channel),
            Act::StoreAnswers => return self.store_answers(edge, channel),
            Act::StoreFails => return self.store_fails(edge, channel),
            // The first client is the slow one, where there is one.
            Act::Drain if client == 0 && self.plan.slow_client && self.random.chance(70) => {}
            Act::Drain => {
                let frames = 1 + self.random.below(4);
                return self.drain(client, frames);
            }
            Act::Join => return self.join(client, channel),
            Act::Leave => return self.leave(client, channel),
            Act::Connect => self.connect(client, edge),
            Act::Disconnect => self.disconnect(client),
            Act::Disconnection => self.disconnection(edge),
            Act::InboxFull => self.inbox_full(edge),
            Act::Subscribe => return self.subscribe(edge, channel),
            Act::EdgeCrash => self.edge_crash(edge),
            Act::StoreAway => {
                let shard = self.random.below(PARTITIONS);
                self.store.away[shard] = !self.store.away[shard];
                self.tell(|w| format!("shard {shard} away: {}", w.store.away[shard]));
            }
            Act::Sweep if self.plan.silent => return self.sweep(edge),
            Act::Wait => {
                self.now_ms += 50 + self.random.below(400) as u64;
                return self.time_passed(edge);
            }
            Act::CloseIdle => self.close_idle(edge, channel),
            Act::CrashBeforePublish | Act::CrashBeforeAnnounce | Act::Sweep => {}
        }
        Ok(())
    }
}
