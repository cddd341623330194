//! Log, store, consumers, bus, edges and clients under one random schedule.

use std::collections::VecDeque;

use hubbub_protocol::{Seq, Stored};

use crate::feed::{Answer, Ask, Failure, Feed, Horizon, Limits, Request, SocketId, Sweeper};

use super::{
    client::Client,
    random::Random,
    rules::{self, Rule},
    sockets::{Cause, Sockets},
    store::{CHANNELS, LONGEST, PARTITIONS, Record, Store, channel_id, channel_of, partition_of},
};

/// Sweeps are so far apart.
const SWEEP_MS: u64 = 700;
/// Within so long everything must be complete once all is healed: P7's 2 s, and the longest delay
/// of a request that failed just before.
const HEALED_MS: u64 = 3_500;
const CONSUMERS: usize = 2;

/// What one schedule may do.
#[derive(Debug)]
struct Plan {
    steps: usize,
    channels: usize,
    weights: [usize; ACTS.len()],
    /// Losses that nobody notices (messages, announcements, crashes before a publish), which only
    /// the sweep makes good. Without them the sweep stays off: then the subscribe confirmations
    /// and the announcements must be enough.
    silent: bool,
    longest_list: usize,
    capacity: usize,
    frame_bytes: u64,
    page_rows: usize,
    ids: usize,
    invariants: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    Send,
    Resend,
    Publish,
    CrashBeforePublish,
    Consume,
    Announce,
    CrashBeforeAnnounce,
    Deliver,
    StoreReads,
    StoreAnswers,
    StoreFails,
    Drain,
    Join,
    Leave,
    Connect,
    Disconnect,
    Disconnection,
    InboxFull,
    Subscribe,
    EdgeCrash,
    StoreAway,
    Sweep,
    Wait,
    Poison,
    CloseIdle,
}

/// Each with its weight.
const ACTS: [(Act, usize); 25] = [
    (Act::Send, 80),
    (Act::Resend, 15),
    (Act::Publish, 80),
    (Act::CrashBeforePublish, 8),
    (Act::Consume, 70),
    (Act::Announce, 80),
    (Act::CrashBeforeAnnounce, 4),
    (Act::Deliver, 200),
    (Act::StoreReads, 80),
    (Act::StoreAnswers, 80),
    (Act::StoreFails, 8),
    (Act::Drain, 140),
    (Act::Join, 60),
    (Act::Leave, 8),
    (Act::Connect, 30),
    (Act::Disconnect, 6),
    (Act::Disconnection, 6),
    (Act::InboxFull, 4),
    (Act::Subscribe, 60),
    (Act::EdgeCrash, 2),
    (Act::StoreAway, 4),
    (Act::Sweep, 25),
    (Act::Wait, 15),
    (Act::Poison, 6),
    (Act::CloseIdle, 6),
];

impl Plan {
    fn new(random: &mut Random) -> Self {
        // In a quiet channel nothing later covers up for what was missed.
        let quiet = random.chance(30);
        let slow_store = random.chance(15);
        // Kinds of fault come and go by schedule: a few at a time reach further than all at once.
        let weights = ACTS.map(|(act, weight)| match act {
            Act::Send if quiet => weight / 10,
            Act::StoreAnswers if slow_store => weight / 20,
            Act::Send | Act::Publish | Act::Deliver | Act::Drain | Act::Join | Act::Connect => {
                weight * random.pick(&[1, 1, 2])
            }
            _ => weight * random.pick(&[0, 1, 1, 3]),
        });
        Self {
            steps: 100 + random.below(500),
            channels: random.pick(&[1, 1, 2, 3]),
            weights,
            silent: random.chance(60),
            longest_list: random.pick(&[1, 3, 9]),
            capacity: random.pick(&[3, 4, 6, 30]),
            frame_bytes: random.pick(&[0, 4, 12, 10_000, 10_000, 10_000]),
            page_rows: random.pick(&[1, 2, 3, 100]),
            ids: random.pick(&[1, 256, 256, 256]),
            invariants: random.chance(12),
        }
    }
}

#[derive(Debug, Clone)]
enum Event {
    Message { channel: usize, seq: Seq },
    Stored(Stored),
}

/// How far a SUBSCRIBE has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Subscription {
    /// Sent; Redis has not seen it.
    Asked,
    /// Redis has it; the confirmation is on its way, in front of every message.
    Confirming,
    Live,
}

#[derive(Debug)]
struct Open {
    feed: Feed,
    subscription: Subscription,
    /// Requests that the store has not read yet, and its answers on their way.
    asked: Vec<(Request, Cause)>,
    answered: Vec<(Request, Cause, Answer)>,
}

#[derive(Debug)]
struct Edge {
    limits: Limits,
    feeds: [Option<Open>; CHANNELS],
    /// What came from Redis, by publisher: in order of each, in any order between them.
    inbox: Vec<VecDeque<Event>>,
    /// Appended, not published.
    unpublished: Vec<(usize, Seq)>,
    sweeper: Sweeper,
    /// Sweeps that have read and not answered, by shard.
    sweeps: [Option<SweepRead>; PARTITIONS],
}

type SweepRead = (Vec<(i32, Seq)>, Vec<(i64, Seq)>);

#[derive(Debug, Default)]
struct Consumer {
    /// Where it believes a partition to be; `None` = it has to ask.
    position: [Option<usize>; PARTITIONS],
    unannounced: VecDeque<Stored>,
}

#[derive(Debug)]
pub(super) struct World {
    random: Random,
    plan: Plan,
    now_ms: u64,
    store: Store,
    edges: Vec<Edge>,
    consumers: [Consumer; CONSUMERS],
    clients: Vec<Client>,
    sockets: Sockets,
    trace: Option<Vec<String>>,
}

/// What a schedule came to: nothing, or the promise that was broken.
pub(super) type Outcome = Result<(), String>;

/// Runs the schedule of this seed.
pub(super) fn run(seed: u64) -> Outcome {
    World::new(seed, false).run()
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

    fn new_edge(&self, edges: usize) -> Edge {
        let mut sweeper = Sweeper::new(PARTITIONS);
        // The first positions are read before the first SUBSCRIBE.
        for shard in 0..PARTITIONS {
            sweeper.swept(shard, self.positions(shard), &[], 0, |_| Horizon::NoFeed);
        }
        Edge {
            limits: Limits::with(
                self.plan.frame_bytes,
                self.plan.page_rows,
                self.plan.ids,
                400,
            ),
            feeds: Default::default(),
            inbox: vec![VecDeque::new(); edges + CONSUMERS],
            unpublished: Vec::new(),
            sweeper,
            sweeps: Default::default(),
        }
    }

    fn tell(&mut self, what: impl FnOnce(&Self) -> String) {
        if self.trace.is_some() {
            let what = what(self);
            if let Some(trace) = &mut self.trace {
                trace.push(what);
            }
        }
    }

    fn run(&mut self) -> Outcome {
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
    fn settle(&mut self) -> Outcome {
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

    // === senders ===

    fn send(&mut self, edge: usize, channel: usize, poison: bool) {
        let number = u16::try_from(self.store.messages.len()).expect("few");
        let record = Record {
            channel,
            number,
            poison,
        };
        let Some(seq) = self.store.append(record) else {
            return;
        };
        self.sockets.numbers[partition_of(channel)].push(number);
        self.store.messages.push(channel);
        self.tell(|_| format!("append c{channel} {seq:?} message {number} poison {poison}"));
        if !poison {
            self.edges[edge].unpublished.push((channel, seq));
        }
    }

    /// A sender without an answer sends again: marked as a resend it is not published.
    fn resend(&mut self, edge: usize) {
        if self.store.messages.is_empty() {
            return;
        }
        // A recent one: nobody resends after a minute.
        let last = self.store.messages.len();
        let number = last - 1 - self.random.below(last.min(4));
        let channel = self.store.messages[number];
        let record = Record {
            channel,
            number: u16::try_from(number).expect("few"),
            poison: false,
        };
        let of_poison = self.store.log[partition_of(channel)]
            .iter()
            .any(|r| usize::from(r.number) == number && r.poison);
        if of_poison {
            return;
        }
        let Some(seq) = self.store.append(record) else {
            return;
        };
        self.sockets.numbers[partition_of(channel)].push(record.number);
        let marked = self.random.chance(50);
        self.tell(|_| format!("resend c{channel} {seq:?} message {number} marked {marked}"));
        if !marked {
            self.edges[edge].unpublished.push((channel, seq));
        }
    }

    fn publish(&mut self, edge: usize, crash: bool) {
        let pending = self.edges[edge].unpublished.len();
        if pending == 0 {
            return;
        }
        let at = self.random.below(pending);
        let (channel, seq) = self.edges[edge].unpublished.swap_remove(at);
        self.tell(|_| format!("publish c{channel} {seq:?} by edge {edge}, lost: {crash}"));
        if !crash {
            self.to_bus(edge, channel, &Event::Message { channel, seq });
        }
    }

    fn to_bus(&mut self, publisher: usize, channel: usize, event: &Event) {
        for edge in 0..self.edges.len() {
            let lost = self.plan.silent && self.random.chance(8);
            let receives = matches!(&self.edges[edge].feeds[channel],
                Some(open) if open.subscription != Subscription::Asked);
            if receives && !lost {
                let inbox = &mut self.edges[edge].inbox[publisher];
                inbox.push_back(event.clone());
                // A publisher whose connection broke cannot know whether it has published.
                if self.random.chance(4) {
                    inbox.push_back(event.clone());
                }
            } else if receives {
                self.tell(|_| format!("  lost on the way to edge {edge}"));
            }
        }
    }

    // === consumers ===

    fn consume(&mut self) {
        let consumer = self.random.below(CONSUMERS);
        let partition = self.random.below(PARTITIONS.min(self.plan.channels));
        let records = 1 + self.random.below(4);
        self.consume_by(consumer, partition, records);
    }

    fn consume_by(&mut self, consumer: usize, partition: usize, records: usize) {
        if self.store.away[partition] {
            return;
        }
        let known = self.consumers[consumer].position[partition];
        let position = known.unwrap_or(self.store.position[partition]);
        let longest_list = self.plan.longest_list;
        let committed = self
            .store
            .commit(partition, position, records, longest_list);
        self.tell(|_| format!("consumer {consumer} from {position}: {committed:?}"));
        let Some(announced) = committed else {
            self.consumers[consumer].position[partition] = None;
            return;
        };
        for stored in announced {
            let channel = channel_of(stored.channel.number());
            self.sockets.heads[channel] = stored.through;
            self.consumers[consumer].unannounced.push_back(stored);
        }
        self.consumers[consumer].position[partition] = Some(self.store.position[partition]);
    }

    fn announce(&mut self) {
        let consumer = self.random.below(CONSUMERS);
        self.announce_by(consumer);
    }

    fn announce_by(&mut self, consumer: usize) {
        let Some(stored) = self.consumers[consumer].unannounced.pop_front() else {
            return;
        };
        let channel = channel_of(stored.channel.number());
        if self.plan.silent && self.random.chance(15) {
            self.tell(|_| format!("announcement lost: {stored:?}"));
            return;
        }
        self.tell(|_| format!("announce {stored:?}"));
        let publisher = self.edges.len() + consumer;
        let event = Event::Stored(stored.clone());
        self.to_bus(publisher, channel, &event);
        if self.random.chance(5) {
            // Once more, later.
            self.consumers[consumer].unannounced.push_back(stored);
        }
    }

    // === an edge and its feeds ===

    /// Does something with an open feed, and what the edge does after it.
    fn with_feed(
        &mut self,
        edge: usize,
        channel: usize,
        cause: Cause,
        work: impl FnOnce(&mut Feed, &mut Sockets),
    ) -> Outcome {
        let now_ms = self.now_ms;
        let Some(open) = &mut self.edges[edge].feeds[channel] else {
            return Ok(());
        };
        let before = open.feed.horizon();
        self.sockets.cause = Some(cause);
        work(&mut open.feed, &mut self.sockets);
        while let Some(request) = open.feed.next_request(now_ms, &self.sockets) {
            // A repair starts at the horizon, a page below it.
            let page =
                matches!(request.ask, Ask::Range { from, .. } if Some(from) != open.feed.horizon());
            let cause = if page { Cause::Page } else { Cause::Feed };
            open.asked.push((request, cause));
            if open.asked.len() + open.answered.len() > 2 {
                return Err("more than two requests in flight".to_owned());
            }
        }
        let horizon = open.feed.horizon();
        if horizon < before || horizon > Some(self.store.head(channel)) {
            return Err(format!("the horizon went from {before:?} to {horizon:?}"));
        }
        if self.plan.invariants {
            open.feed.check_invariants()?;
        }
        if before < horizon
            && let (Some(before), Some(advanced)) = (before, &mut self.sockets.advanced)
        {
            let rows = &self.store.channels[channel].rows;
            let rows = rows.iter().skip_while(|(seq, _)| *seq <= before);
            let rows = rows.take_while(|(seq, _)| Some(*seq) <= horizon);
            advanced[edge][channel].extend(rows.map(|(_, number)| *number));
        }
        self.tell(|_| format!("  edge {edge} c{channel} horizon {horizon:?}"));
        Ok(())
    }

    fn deliver(&mut self, edge: usize) -> Outcome {
        let publishers = self.edges[edge].inbox.len();
        let first = self.random.below(publishers);
        for at in 0..publishers {
            let publisher = (first + at) % publishers;
            if let Some(event) = self.edges[edge].inbox[publisher].pop_front() {
                return self.deliver_event(edge, event);
            }
        }
        Ok(())
    }

    fn deliver_event(&mut self, edge: usize, event: Event) -> Outcome {
        self.tell(|_| format!("edge {edge} receives {event:?}"));
        let channel = match &event {
            Event::Message { channel, .. } => *channel,
            Event::Stored(stored) => channel_of(stored.channel.number()),
        };
        // The confirmation comes before the messages of its subscription.
        self.confirm(edge, channel)?;
        match event {
            Event::Message { channel, seq } => {
                let record = self.store.record(channel, seq).expect("it was appended");
                let frame = self.store.frame(channel, seq, record.number);
                self.with_feed(edge, channel, Cause::Feed, |feed, out| {
                    feed.message(frame, out);
                })
            }
            Event::Stored(stored) => self.with_feed(edge, channel, Cause::Feed, |feed, out| {
                feed.stored(stored, out);
            }),
        }
    }

    fn confirm(&mut self, edge: usize, channel: usize) -> Outcome {
        match &mut self.edges[edge].feeds[channel] {
            Some(open) if open.subscription == Subscription::Confirming => {
                open.subscription = Subscription::Live;
            }
            _ => return Ok(()),
        }
        self.tell(|_| format!("edge {edge} c{channel} subscribe confirmed"));
        self.with_feed(edge, channel, Cause::Feed, |feed, out| feed.subscribed(out))
    }

    fn subscribe(&mut self, edge: usize, channel: usize) -> Outcome {
        match &mut self.edges[edge].feeds[channel] {
            Some(open) if open.subscription == Subscription::Asked => {
                open.subscription = Subscription::Confirming;
                self.tell(|_| format!("edge {edge} c{channel} subscribed at Redis"));
                Ok(())
            }
            Some(_) => self.confirm(edge, channel),
            None => Ok(()),
        }
    }

    /// The connection to Redis is gone, and noticed; some of what had come is lost with it.
    fn disconnection(&mut self, edge: usize) {
        self.tell(|_| format!("edge {edge} loses its bus"));
        for queue in &mut self.edges[edge].inbox {
            let kept = self.random.below(queue.len() + 1);
            queue.truncate(kept);
        }
        for open in self.edges[edge].feeds.iter_mut().flatten() {
            open.subscription = Subscription::Asked;
        }
    }

    /// Events are dropped; the edge treats it as lost and back, and subscribes again.
    fn inbox_full(&mut self, edge: usize) {
        self.tell(|_| format!("edge {edge} drops events"));
        for queue in &mut self.edges[edge].inbox {
            queue.clear();
        }
        for open in self.edges[edge].feeds.iter_mut().flatten() {
            if open.subscription == Subscription::Live {
                open.subscription = Subscription::Confirming;
            }
        }
    }

    fn store_reads(&mut self, edge: usize, channel: usize) {
        let away = self.store.away[partition_of(channel)];
        let stale = self.random.chance(5);
        let Some(open) = &mut self.edges[edge].feeds[channel] else {
            return;
        };
        if away || open.asked.is_empty() {
            return;
        }
        let (request, cause) = open.asked.remove(0);
        let answer = match &request.ask {
            Ask::Head => Answer::Head(self.store.head(channel)),
            Ask::Rows(seqs) => {
                let mut rows = self.store.rows(channel, seqs);
                // A primary that was restored may lag behind what it announced.
                if stale && !rows.is_empty() {
                    rows.pop();
                }
                Answer::Rows(rows)
            }
            Ask::Range {
                from,
                through,
                limit,
            } => Answer::Rows(self.store.range(channel, *from, *through, *limit)),
        };
        open.answered.push((request, cause, answer));
    }

    fn store_answers(&mut self, edge: usize, channel: usize) -> Outcome {
        let Some(open) = &mut self.edges[edge].feeds[channel] else {
            return Ok(());
        };
        if open.answered.is_empty() {
            return Ok(());
        }
        let at = self.random.below(open.answered.len());
        let (request, cause, answer) = open.answered.remove(at);
        self.tell(|_| format!("edge {edge} c{channel} store answers {request:?}: {answer:?}"));
        let now_ms = self.now_ms;
        self.with_feed(edge, channel, cause, |feed, out| {
            feed.answer(request.id, Ok(answer), now_ms, out);
        })
    }

    fn store_fails(&mut self, edge: usize, channel: usize) -> Outcome {
        let Some(open) = &mut self.edges[edge].feeds[channel] else {
            return Ok(());
        };
        if open.asked.is_empty() {
            return Ok(());
        }
        let (request, cause) = open.asked.remove(0);
        self.sockets.failed[edge][channel] = true;
        let failure = Failure {
            reason: "the store is away".to_owned(),
            jitter: self.random.next(),
        };
        self.tell(|_| format!("edge {edge} c{channel} store fails {request:?}"));
        let now_ms = self.now_ms;
        self.with_feed(edge, channel, cause, |feed, out| {
            feed.answer(request.id, Err(failure), now_ms, out);
        })
    }

    fn time_passed(&mut self, edge: usize) -> Outcome {
        for channel in 0..CHANNELS {
            // Requests to a shard that is away meet their deadline.
            if self.store.away[partition_of(channel)] && self.random.chance(50) {
                self.store_fails(edge, channel)?;
            }
            self.with_feed(edge, channel, Cause::Feed, |_, _| ())?;
        }
        self.suspects(edge)
    }

    fn positions(&self, shard: usize) -> Vec<(i32, Seq)> {
        let partition = i32::try_from(shard).expect("few");
        vec![(partition, Seq(self.store.position[shard] as u64))]
    }

    fn sweep(&mut self, edge: usize) -> Outcome {
        let shard = self.random.below(PARTITIONS);
        if let Some((positions, heads)) = self.edges[edge].sweeps[shard].take() {
            let now_ms = self.now_ms;
            if self.random.chance(20) {
                self.tell(|_| format!("edge {edge} sweep of {shard} fails"));
                if !rules::holds(Rule::FailedSweepKeepsItsPositions) {
                    let edge = &mut self.edges[edge];
                    edge.sweeper
                        .swept(shard, positions, &[], now_ms, |_| Horizon::NoFeed);
                }
                return Ok(());
            }
            self.tell(|_| format!("edge {edge} sweep of {shard}: {positions:?} {heads:?}"));
            let edge = &mut self.edges[edge];
            let horizons = horizons(&edge.feeds);
            let horizon_of = |number| horizons[channel_of(number)];
            edge.sweeper
                .swept(shard, positions, &heads, now_ms, horizon_of);
        } else if !self.store.away[shard] {
            let since = self.edges[edge].sweeper.since(shard);
            let since = since.first().map_or(Seq(0), |(_, seq)| *seq);
            let positions = self.positions(shard);
            let channels = (0..CHANNELS).filter(|c| partition_of(*c) == shard);
            let heads = channels.map(|c| (channel_id(c).number(), self.store.head(c)));
            let heads = heads.filter(|(_, head)| *head > since).collect();
            self.edges[edge].sweeps[shard] = Some((positions, heads));
        }
        self.suspects(edge)
    }

    fn suspects(&mut self, edge: usize) -> Outcome {
        let horizons = horizons(&self.edges[edge].feeds);
        let now_ms = self.now_ms;
        let horizon_of = |number| horizons[channel_of(number)];
        for (number, head) in self.edges[edge].sweeper.due(now_ms, horizon_of) {
            self.tell(|_| format!("edge {edge} suspects c{}: {head:?}", channel_of(number)));
            self.with_feed(edge, channel_of(number), Cause::Feed, |feed, out| {
                feed.head_seen(head, out);
            })?;
        }
        Ok(())
    }

    fn close_idle(&mut self, edge: usize, channel: usize) {
        let slot = &mut self.edges[edge].feeds[channel];
        if slot.as_ref().is_some_and(|open| open.feed.is_idle()) {
            *slot = None;
            self.sockets.forget(edge, channel);
            self.tell(|_| format!("edge {edge} c{channel} closed"));
        }
    }

    fn edge_crash(&mut self, edge: usize) {
        if !self.plan.silent && !self.edges[edge].unpublished.is_empty() {
            // What it had not published, the announcements bring.
            self.tell(|_| "with messages unpublished".to_owned());
        }
        self.tell(|_| format!("edge {edge} crashes"));
        for client in 0..self.clients.len() {
            let socket = self.clients[client].socket;
            if socket.is_some_and(|socket| self.sockets.get(socket).edge == edge) {
                self.sockets.get(socket.expect("just seen")).open = false;
                self.clients[client].disconnected();
            }
        }
        for channel in 0..CHANNELS {
            self.sockets.forget(edge, channel);
        }
        self.edges[edge] = self.new_edge(self.edges.len());
    }

    // === clients ===

    fn connect(&mut self, client: usize, edge: usize) {
        if self.clients[client].socket.is_none() {
            let capacity = self.plan.capacity;
            let socket = self.sockets.connect(edge, client, capacity);
            self.clients[client].socket = Some(socket);
            self.tell(|_| format!("client {client} connects to edge {edge} as {socket:?}"));
        }
    }

    /// What is in its outbox is lost.
    fn disconnect(&mut self, client: usize) {
        let Some(socket) = self.clients[client].socket else {
            return;
        };
        self.tell(|_| format!("client {client} {socket:?} disconnects"));
        let edge = self.sockets.get(socket).edge;
        for open in self.edges[edge].feeds.iter_mut().flatten() {
            open.feed.leave(socket, &mut self.sockets);
        }
        self.sockets.get(socket).open = false;
        self.clients[client].disconnected();
    }

    fn join(&mut self, client: usize, channel: usize) -> Outcome {
        let Some(socket) = self.clients[client].socket else {
            return Ok(());
        };
        if self.clients[client].channels[channel].joined && self.random.chance(70) {
            return Ok(());
        }
        let mut since = self.clients[client].channels[channel].cursor;
        if self.random.chance(15) {
            since = None;
        } else if self.random.chance(2) {
            // A cursor of another log.
            since = Some(Seq(LONGEST as u64 + 1));
        }
        let ordered = self.random.chance(35);
        self.join_with(client, socket, channel, since, ordered)
    }

    fn join_with(
        &mut self,
        client: usize,
        socket: SocketId,
        channel: usize,
        since: Option<Seq>,
        ordered: bool,
    ) -> Outcome {
        let edge = self.sockets.get(socket).edge;
        if self.edges[edge].feeds[channel].is_none() {
            let limits = self.edges[edge].limits.clone();
            self.edges[edge].feeds[channel] = Some(Open {
                feed: Feed::new(channel_id(channel), limits),
                subscription: Subscription::Asked,
                asked: Vec::new(),
                answered: Vec::new(),
            });
        }
        self.tell(|_| format!("client {client} joins c{channel} since {since:?} {ordered}"));
        let outbox = self.sockets.get(socket);
        outbox.since[channel] = since;
        outbox.joins[channel] += 1;
        let listening = &mut self.clients[client].channels[channel];
        listening.joined = true;
        listening.ordered = ordered;
        listening.joins += 1;
        self.with_feed(edge, channel, Cause::Feed, |feed, out| {
            feed.join(socket, since, ordered, out);
        })
    }

    fn leave(&mut self, client: usize, channel: usize) -> Outcome {
        let Some(socket) = self.clients[client].socket else {
            return Ok(());
        };
        self.tell(|_| format!("client {client} leaves c{channel}"));
        self.clients[client].channels[channel].joined = false;
        let edge = self.sockets.get(socket).edge;
        self.with_feed(edge, channel, Cause::Feed, |feed, out| {
            feed.leave(socket, out)
        })
    }

    fn drain(&mut self, client: usize, frames: usize) -> Outcome {
        let Some(socket) = self.clients[client].socket else {
            return Ok(());
        };
        for _ in 0..frames {
            let Some((channel, item, room)) = self.sockets.get(socket).take()? else {
                return Ok(());
            };
            self.tell(|_| format!("client {client} c{channel} receives {item:?}"));
            self.clients[client]
                .receive(channel, &item, &self.store)
                .map_err(|what| format!("client {client}, c{channel}: {what}"))?;
            if room {
                let edge = self.sockets.get(socket).edge;
                for channel in 0..CHANNELS {
                    self.with_feed(edge, channel, Cause::Feed, |feed, out| {
                        feed.room(socket, out);
                    })?;
                }
            }
        }
        Ok(())
    }

    // === the end ===

    /// Everything comes back, nothing new is sent: after a while every promise must be kept.
    fn heal(&mut self) -> Outcome {
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
        let mut swept = [0; 8];
        while self.now_ms < started + HEALED_MS {
            self.now_ms += 100;
            for edge in 0..self.edges.len() {
                if self.plan.silent && self.now_ms >= swept[edge] + SWEEP_MS {
                    swept[edge] = self.now_ms;
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

    fn whole_sweep(&mut self, edge: usize) -> Outcome {
        // One may have read before; then the next one is due 700 ms later.
        for _ in 0..4 * PARTITIONS {
            self.sweep(edge)?;
        }
        Ok(())
    }

    /// Every client is connected and listens to what it ever joined.
    fn return_clients(&mut self) -> Outcome {
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

    fn deliver_all(&mut self) -> Outcome {
        for edge in 0..self.edges.len() {
            while self.edges[edge].inbox.iter().any(|queue| !queue.is_empty()) {
                self.deliver(edge)?;
                self.settle()?;
            }
        }
        Ok(())
    }

    /// Lets everything that is under way arrive.
    fn quiesce(&mut self) -> Outcome {
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

    fn lacks(&self) -> Option<String> {
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
    fn at_rest(&self) -> Outcome {
        for edge in &self.edges {
            for open in edge.feeds.iter().flatten() {
                open.feed.check_invariants()?;
            }
            if edge.limits.frame_bytes_used() != 0 {
                return Err("frames are held though everything is stored".to_owned());
            }
        }
        Ok(())
    }
}

fn horizons(feeds: &[Option<Open>; CHANNELS]) -> [Horizon; CHANNELS] {
    std::array::from_fn(|channel| match &feeds[channel] {
        None => Horizon::NoFeed,
        Some(open) => open.feed.horizon().map_or(Horizon::Unknown, Horizon::At),
    })
}
