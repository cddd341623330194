//! What the edges do.

use std::collections::VecDeque;

use hubbub_protocol::Seq;

use crate::feed::{
    Answer, Ask, Failure, Feed, Horizon, Limits, Sweeper,
    rule::{self, Rule},
};

use super::{
    edge::{Edge, Event, Subscription, horizons},
    sockets::{Cause, Sockets},
    store::{CHANNELS, PARTITIONS, channel_id, channel_of, partition_of},
    world::{CONSUMERS, Outcome, World},
};

/// How often a message is read from the bus together with the one before it.
const READ_TOGETHER_PERCENT: usize = 70;

impl World {
    pub(super) fn new_edge(&self, edges: usize) -> Edge {
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
                60,
                self.plan.tail,
            ),
            feeds: Default::default(),
            inbox: vec![VecDeque::new(); edges + CONSUMERS],
            unpublished: Vec::new(),
            sweeper,
            sweeps: Default::default(),
        }
    }

    /// Does something with an open feed, and what the edge does after it.
    pub(super) fn with_feed(
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
        self.sockets.cause = Some(Cause::Page);
        open.feed.serve_from_tail(&mut self.sockets);
        if !self.plan.synced_late {
            open.feed.tell_synced(&mut self.sockets);
        }
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
        self.counts += open.feed.take_counts();
        let horizon = open.feed.horizon();
        if horizon < before || horizon > Some(self.store.head(channel)) {
            return Err(format!("the horizon went from {before:?} to {horizon:?}"));
        }
        if self.plan.invariants {
            open.feed.check_invariants()?;
            self.store.check_tail(channel, &open.feed)?;
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

    pub(super) fn deliver(&mut self, edge: usize) -> Outcome {
        let publishers = self.edges[edge].inbox.len();
        let first = self.random.below(publishers);
        for at in 0..publishers {
            let publisher = (first + at) % publishers;
            if let Some(event) = self.edges[edge].inbox[publisher].pop_front() {
                let more = self.of_the_same_burst(edge, publisher, &event);
                return self.deliver_event(edge, event, more);
            }
        }
        Ok(())
    }

    /// Messages of the same channel that come right behind a message and are read with it.
    fn of_the_same_burst(&mut self, edge: usize, publisher: usize, first: &Event) -> Vec<Seq> {
        let mut more = Vec::new();
        let Event::Message { channel, .. } = first else {
            return more;
        };
        let queue = &mut self.edges[edge].inbox[publisher];
        while let Some(Event::Message { channel: next, seq }) = queue.front()
            && next == channel
            && self.random.chance(READ_TOGETHER_PERCENT)
        {
            more.push(*seq);
            queue.pop_front();
        }
        more
    }

    fn deliver_event(&mut self, edge: usize, event: Event, more: Vec<Seq>) -> Outcome {
        self.tell(|_| format!("edge {edge} receives {event:?} and with it {more:?}"));
        let channel = match &event {
            Event::Message { channel, .. } => *channel,
            Event::Stored(stored) => channel_of(stored.channel.number()),
        };
        // The confirmation comes before the messages of its subscription.
        self.confirm(edge, channel)?;
        match event {
            Event::Message { channel, seq } => {
                let frame = |seq| {
                    let record = self.store.record(channel, seq).expect("it was appended");
                    self.store.frame(channel, seq, record.number)
                };
                let burst: Vec<_> = [seq].into_iter().chain(more).map(frame).collect();
                self.with_feed(edge, channel, Cause::Feed, |feed, out| {
                    feed.messages(&burst, out);
                })
            }
            Event::Stored(stored) => self.with_feed(edge, channel, Cause::Feed, |feed, out| {
                feed.stored(stored, out);
            }),
        }
    }

    pub(super) fn confirm(&mut self, edge: usize, channel: usize) -> Outcome {
        match &mut self.edges[edge].feeds[channel] {
            Some(open) if open.subscription == Subscription::Confirming => {
                open.subscription = Subscription::Live;
            }
            _ => return Ok(()),
        }
        self.tell(|_| format!("edge {edge} c{channel} subscribe confirmed"));
        self.with_feed(edge, channel, Cause::Feed, |feed, out| feed.subscribed(out))
    }

    pub(super) fn subscribe(&mut self, edge: usize, channel: usize) -> Outcome {
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
    pub(super) fn disconnection(&mut self, edge: usize) {
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
    pub(super) fn inbox_full(&mut self, edge: usize) {
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

    pub(super) fn store_reads(&mut self, edge: usize, channel: usize) {
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

    pub(super) fn store_answers(&mut self, edge: usize, channel: usize) -> Outcome {
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

    pub(super) fn store_fails(&mut self, edge: usize, channel: usize) -> Outcome {
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

    pub(super) fn time_passed(&mut self, edge: usize) -> Outcome {
        for channel in 0..CHANNELS {
            // Requests to a shard that is away meet their deadline.
            if self.store.away[partition_of(channel)] && self.random.chance(80) {
                self.store_fails(edge, channel)?;
            }
            self.with_feed(edge, channel, Cause::Feed, Feed::tell_synced)?;
        }
        self.suspects(edge)
    }

    pub(super) fn positions(&self, shard: usize) -> Vec<(i32, Seq)> {
        let partition = i32::try_from(shard).expect("few");
        vec![(partition, Seq(self.store.position[shard] as u64))]
    }

    pub(super) fn sweep(&mut self, edge: usize) -> Outcome {
        let shard = self.random.below(PARTITIONS);
        let fails = self.random.chance(20);
        self.sweep_shard(edge, shard, fails)
    }

    /// The next step of a sweep: it reads, or the edge gets what it has read.
    pub(super) fn sweep_shard(&mut self, edge: usize, shard: usize, fails: bool) -> Outcome {
        if let Some((positions, heads)) = self.edges[edge].sweeps[shard].take() {
            let now_ms = self.now_ms;
            if fails {
                self.tell(|_| format!("edge {edge} sweep of {shard} fails"));
                if !rule::holds(Rule::FailedSweepKeepsItsPositions) {
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

    pub(super) fn suspects(&mut self, edge: usize) -> Outcome {
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

    pub(super) fn close_idle(&mut self, edge: usize, channel: usize) {
        let slot = &mut self.edges[edge].feeds[channel];
        if slot.as_ref().is_some_and(|open| open.feed.is_idle()) {
            *slot = None;
            self.sockets.forget(edge, channel);
            self.tell(|_| format!("edge {edge} c{channel} closed"));
        }
    }

    pub(super) fn edge_crash(&mut self, edge: usize) {
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
}
