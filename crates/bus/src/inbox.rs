use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use hubbub_protocol::{BusChannel, PodMessage};
use parking_lot::Mutex;
use redis::{PushInfo, PushKind, Value};
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};

use crate::{
    Metrics,
    metrics::Loss,
    orders::{Order, Orders},
};

/// Channels in one command. A single SUBSCRIBE of everything would hold Redis up for others.
const BATCH: usize = 512;
/// After a full inbox everything is subscribed again, but not more often than this: each round
/// costs a read of every channel's head.
const RENEWAL: Duration = Duration::from_millis(250);
/// A connection that has not heard itself for so long cannot vouch for what came meanwhile.
pub(crate) const UNHEARD: Duration = Duration::from_secs(2);

/// What the subscriber's inbox holds, in the order in which the connection gave it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Somebody published. Of a channel that was unsubscribed, some may still come.
    Message {
        /// Where.
        channel: BusChannel,
        /// What.
        payload: Bytes,
    },
    /// Redis confirmed a SUBSCRIBE of this channel: the first, or a later one after a gap. What
    /// was published before it may be missing; what is published after it comes, until `Lost`.
    Subscribed(BusChannel),
    /// The connection was lost, deaf, or the inbox overflowed: every wanted channel will be
    /// subscribed again, each with its own `Subscribed`.
    Lost,
}

/// What the connection's push closure, the callers, the inbox and the task share. One lock, held
/// for a push or a call; notifications are sent after it is released.
#[derive(Debug)]
pub(crate) struct Shared {
    own: BusChannel,
    /// Messages above it are dropped. Confirmations are not: a batch is sent only when there is
    /// room for it, so at most one batch is above the bound.
    bound: usize,
    state: Mutex<State>,
    /// For the inbox: there are events.
    arrived: Notify,
    /// For the task: there may be something to send.
    work: Notify,
    /// For the task: the connection is lost.
    lost: Notify,
    /// Number of the last probe that came back.
    heard: watch::Sender<u64>,
    metrics: Metrics,
}

#[derive(Debug)]
struct State {
    /// Of the connection whose pushes count; a late push of an older one is nothing.
    generation: u64,
    connected: bool,
    /// Our own channel is confirmed on this connection, so that a probe can be heard.
    confirmed: bool,
    last_heard: Instant,
    orders: Orders,
    events: Vec<Event>,
    /// Messages were dropped, and everything is to be subscribed again once there is room.
    overflow: bool,
    renewed: Instant,
    /// The task waits for room in the inbox.
    starved: bool,
}

/// What the task does next.
#[derive(Debug)]
pub(crate) enum Step {
    Send(Order, Vec<BusChannel>),
    /// Nothing to do before the work notification, or this time.
    Wait(Option<Instant>),
    /// The connection is lost.
    Over,
}

impl Shared {
    pub(crate) fn new(own: BusChannel, bound: usize, metrics: &Metrics) -> Arc<Self> {
        let now = Instant::now();
        Arc::new(Self {
            bound: bound.max(1),
            state: Mutex::new(State {
                generation: 0,
                connected: false,
                confirmed: false,
                last_heard: now,
                orders: Orders::new(own.clone()),
                events: Vec::new(),
                overflow: false,
                renewed: now,
                starved: false,
            }),
            own,
            arrived: Notify::new(),
            work: Notify::new(),
            lost: Notify::new(),
            heard: watch::Sender::new(0),
            metrics: metrics.clone(),
        })
    }

    pub(crate) fn own(&self) -> &BusChannel {
        &self.own
    }

    pub(crate) fn order(&self, order: Order, channel: BusChannel) {
        let mut state = self.state.lock();
        let connected = state.connected;
        match order {
            Order::Subscribe => state.orders.subscribe(channel, connected),
            Order::Unsubscribe => state.orders.unsubscribe(channel, connected),
        }
        self.count_wanted(&state);
        drop(state);
        self.work.notify_one();
    }

    fn count_wanted(&self, state: &State) {
        let wanted = i64::try_from(state.orders.wanted()).unwrap_or(i64::MAX);
        self.metrics.wanted.set(wanted);
    }

    /// The number that the next connection's pushes carry.
    pub(crate) fn generation(&self) -> u64 {
        self.state.lock().generation
    }

    /// A connection is there: everything wanted is to be subscribed on it.
    pub(crate) fn connected(&self, generation: u64) {
        let mut state = self.state.lock();
        if state.generation == generation {
            state.connected = true;
            state.overflow = false;
            state.orders.restart();
        }
    }

    /// The connection of that generation is of no use any more. The first one to say so counts.
    pub(crate) fn lose(&self, generation: u64, loss: Loss) {
        let mut state = self.state.lock();
        if state.generation != generation {
            return;
        }
        state.generation += 1;
        if state.connected {
            state.connected = false;
            state.confirmed = false;
            self.say_lost(&mut state, loss);
        }
        drop(state);
        self.arrived.notify_one();
        self.lost.notify_one();
    }

    fn say_lost(&self, state: &mut State, loss: Loss) {
        tracing::warn!(
            reason = loss.label(),
            "messages of the bus may have been missed"
        );
        self.metrics.lost(loss);
        // Two in a row say no more than one, and so the inbox cannot fill with them.
        if state.events.last() != Some(&Event::Lost) {
            state.events.push(Event::Lost);
        }
    }

    /// Waits until the connection of that generation is lost. Cancel-safe; one waiter.
    pub(crate) async fn until_lost(&self, generation: u64) {
        while self.generation() == generation {
            self.lost.notified().await;
        }
    }

    /// Waits for something to do, or for `until`. Cancel-safe; one waiter.
    pub(crate) async fn until_work(&self, until: Option<Instant>) {
        match until {
            // The end of the wait is as good as work.
            Some(until) => drop(tokio::time::timeout_at(until, self.work.notified()).await),
            None => self.work.notified().await,
        }
    }

    pub(crate) fn step(&self, generation: u64) -> Step {
        let mut state = self.state.lock();
        let state = &mut *state;
        state.starved = false;
        if state.generation != generation {
            return Step::Over;
        }
        if state.overflow {
            let due = state.renewed + RENEWAL;
            if state.events.len() > self.bound / 2 {
                state.starved = true;
            } else if due > Instant::now() {
                return Step::Wait(Some(due));
            } else {
                state.overflow = false;
                state.renewed = Instant::now();
                state.orders.renew();
            }
        }
        let Some(order) = state.orders.due() else {
            return Step::Wait(None);
        };
        let room = match order {
            Order::Subscribe => self.bound.saturating_sub(state.events.len()),
            Order::Unsubscribe => BATCH,
        };
        if room == 0 {
            state.starved = true;
            return Step::Wait(None);
        }
        Step::Send(order, state.orders.take(room.min(BATCH)))
    }

    /// Takes what the connection of that generation pushed. Called in its read loop: never waits.
    pub(crate) fn push(&self, generation: u64, push: PushInfo) {
        match push.kind {
            PushKind::Message => self.push_message(generation, push.data),
            PushKind::Subscribe => self.push_confirmation(generation, push.data),
            PushKind::Unsubscribe => {}
            PushKind::Disconnection => self.lose(generation, Loss::Disconnected),
            _ => {
                self.metrics.foreign.inc();
            }
        }
    }

    fn push_message(&self, generation: u64, data: Vec<Value>) {
        let Ok([Value::BulkString(name), Value::BulkString(payload)]) =
            <[Value; 2]>::try_from(data)
        else {
            self.metrics.foreign.inc();
            return;
        };
        let Some(channel) = parse(&name) else {
            self.metrics.foreign.inc();
            return;
        };
        let is_own = channel == self.own;
        if is_own && let Some(number) = probe_number(&payload) {
            self.hear(generation, number);
            return;
        }
        let mut state = self.state.lock();
        let is_mine = state.generation == generation;
        if !is_mine || (is_own && !state.orders.wants(&channel)) {
            return;
        }
        if state.events.len() >= self.bound {
            self.metrics.inbox_dropped.inc();
            if !state.overflow {
                state.overflow = true;
                self.say_lost(&mut state, Loss::Overflow);
            }
            drop(state);
            self.work.notify_one();
            return;
        }
        let payload = Bytes::from(payload);
        state.events.push(Event::Message { channel, payload });
        self.added(&state);
    }

    fn push_confirmation(&self, generation: u64, data: Vec<Value>) {
        let channel = match data.first() {
            Some(Value::BulkString(name)) => parse(name),
            _ => None,
        };
        let Some(channel) = channel else {
            self.metrics.foreign.inc();
            return;
        };
        let mut state = self.state.lock();
        if state.generation != generation {
            return;
        }
        self.metrics.confirmations.inc();
        if channel == self.own && !state.confirmed {
            state.confirmed = true;
            state.last_heard = Instant::now();
        }
        if state.orders.wants(&channel) {
            state.events.push(Event::Subscribed(channel));
            self.added(&state);
        }
    }

    fn added(&self, state: &State) {
        let depth = state.events.len();
        self.metrics
            .inbox_depth
            .set(i64::try_from(depth).unwrap_or(i64::MAX));
        // The inbox takes everything at once, so it is woken by the first one. (The lock is still
        // held; the woken task only finds it taken for some nanoseconds.)
        if depth == 1 {
            self.arrived.notify_one();
        }
    }

    /// The connection to probe: its generation, once our own channel is confirmed.
    pub(crate) fn to_probe(&self) -> Option<u64> {
        let state = self.state.lock();
        (state.connected && state.confirmed).then_some(state.generation)
    }

    /// Waits until that probe came back. Cancel-safe.
    pub(crate) async fn until_heard(&self, number: u64) {
        let mut heard = self.heard.subscribe();
        // An error cannot be: the sender is ours.
        heard
            .wait_for(|heard| *heard == number)
            .await
            .map(drop)
            .ok();
    }

    fn hear(&self, generation: u64, number: u64) {
        let mut state = self.state.lock();
        if state.generation != generation {
            return;
        }
        let unheard = state.last_heard.elapsed() > UNHEARD;
        state.last_heard = Instant::now();
        if unheard {
            self.say_lost(&mut state, Loss::Unheard);
            state.orders.renew();
        }
        drop(state);
        if unheard {
            self.arrived.notify_one();
            self.work.notify_one();
        }
        self.heard.send_replace(number);
    }

    pub(crate) fn is_connected(&self) -> bool {
        let state = self.state.lock();
        state.connected && state.confirmed && state.last_heard.elapsed() <= UNHEARD
    }

    fn take(&self, into: &mut Vec<Event>) {
        let mut state = self.state.lock();
        into.append(&mut state.events);
        self.metrics.inbox_depth.set(0);
        let starved = std::mem::take(&mut state.starved);
        drop(state);
        if starved {
            self.work.notify_one();
        }
    }
}

fn parse(name: &[u8]) -> Option<BusChannel> {
    BusChannel::parse(std::str::from_utf8(name).ok()?)
}

fn probe_number(payload: &[u8]) -> Option<u64> {
    match serde_json::from_slice(payload) {
        Ok(PodMessage::Probe { number }) => Some(number),
        _ => None,
    }
}

/// The bounded inbox. One task drains it.
#[derive(Debug)]
pub struct Inbox {
    shared: Arc<Shared>,
}

impl Inbox {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Waits for at least one event and moves all that are there to `into`. Cancel-safe.
    pub async fn recv_all(&mut self, into: &mut Vec<Event>) {
        let before = into.len();
        loop {
            self.shared.take(into);
            if into.len() > before {
                return;
            }
            self.shared.arrived.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUND: usize = 4;

    fn channel(name: &str) -> BusChannel {
        BusChannel::parse(name).expect("one of our names")
    }

    fn shared() -> Arc<Shared> {
        let shared = Shared::new(channel("pod-me"), BOUND, &Metrics::default());
        shared.connected(0);
        assert!(
            matches!(shared.step(0), Step::Send(Order::Subscribe, own) if own == [channel("pod-me")])
        );
        confirm(&shared, 0, "pod-me");
        shared
    }

    fn info(kind: PushKind, data: Vec<Value>) -> PushInfo {
        PushInfo { kind, data }
    }

    fn confirm(shared: &Shared, generation: u64, name: &str) {
        let data = vec![Value::BulkString(name.into()), Value::Int(1)];
        shared.push(generation, info(PushKind::Subscribe, data));
    }

    fn publish(shared: &Shared, generation: u64, name: &str, payload: &[u8]) {
        let data = vec![
            Value::BulkString(name.into()),
            Value::BulkString(payload.to_vec()),
        ];
        shared.push(generation, info(PushKind::Message, data));
    }

    fn message(name: &str, payload: &'static str) -> Event {
        Event::Message {
            channel: channel(name),
            payload: Bytes::from(payload),
        }
    }

    fn taken(shared: &Shared) -> Vec<Event> {
        let mut events = Vec::new();
        shared.take(&mut events);
        events
    }

    #[tokio::test]
    async fn events_keep_the_order_of_the_connection() {
        let shared = shared();
        shared.order(Order::Subscribe, channel("pods"));
        publish(&shared, 0, "pods", b"1");
        confirm(&shared, 0, "pods");
        publish(&shared, 0, "pods", b"2");
        let expected = [
            message("pods", "1"),
            Event::Subscribed(channel("pods")),
            message("pods", "2"),
        ];
        assert_eq!(taken(&shared), expected);
    }

    #[tokio::test]
    async fn full_inbox_drops_says_lost_once_and_subscribes_again_when_there_is_room() {
        let shared = shared();
        shared.order(Order::Subscribe, channel("pods"));
        assert!(matches!(shared.step(0), Step::Send(..)));
        for _ in 0..BOUND + 3 {
            publish(&shared, 0, "pods", b"x");
        }
        assert!(matches!(shared.step(0), Step::Wait(None)), "no room yet");
        let events = taken(&shared);
        assert_eq!(events.len(), BOUND + 1);
        assert_eq!(events.last(), Some(&Event::Lost));
        assert_eq!(shared.metrics.inbox_dropped.get(), 3);
        loop {
            match shared.step(0) {
                Step::Wait(until) => shared.until_work(until).await,
                Step::Send(Order::Subscribe, again) => break assert_eq!(again, [channel("pods")]),
                other => panic!("{other:?}"),
            }
        }
        confirm(&shared, 0, "pods");
        assert_eq!(taken(&shared), [Event::Subscribed(channel("pods"))]);
    }

    #[tokio::test]
    async fn batches_of_confirmations_fit_into_the_inbox() {
        let shared = shared();
        for number in 1..=10 {
            let user = hubbub_protocol::UserId::new(number).expect("from 1");
            shared.order(Order::Subscribe, BusChannel::User(user));
        }
        let mut confirmed = 0;
        while confirmed < 10 {
            match shared.step(0) {
                Step::Send(Order::Subscribe, batch) => {
                    for channel in &batch {
                        confirm(&shared, 0, &channel.to_string());
                    }
                    confirmed += batch.len();
                }
                Step::Wait(None) => assert_eq!(taken(&shared).len(), BOUND),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(shared.metrics.inbox_dropped.get(), 0);
    }

    #[tokio::test]
    async fn pushes_of_an_old_connection_are_nothing() {
        let shared = shared();
        shared.order(Order::Subscribe, channel("pods"));
        shared.push(0, info(PushKind::Disconnection, vec![]));
        publish(&shared, 0, "pods", b"late");
        confirm(&shared, 0, "pods");
        shared.push(0, info(PushKind::Disconnection, vec![]));
        assert_eq!(taken(&shared), [Event::Lost]);
        assert!(matches!(shared.step(0), Step::Over));
        assert_eq!(shared.generation(), 1);
    }

    #[tokio::test]
    async fn probes_are_swallowed_and_own_messages_shown_only_if_wanted() {
        let shared = shared();
        let probe = PodMessage::Probe { number: 7 }.encode();
        publish(&shared, 0, "pod-me", &probe);
        shared.until_heard(7).await;
        publish(&shared, 0, "pod-me", b"{}");
        assert_eq!(taken(&shared), []);
        shared.order(Order::Subscribe, channel("pod-me"));
        publish(&shared, 0, "pod-me", b"{}");
        assert_eq!(taken(&shared), [message("pod-me", "{}")]);
    }

    #[tokio::test]
    async fn what_is_none_of_ours_is_counted() {
        let shared = shared();
        publish(&shared, 0, "other", b"x");
        shared.push(0, info(PushKind::Message, vec![Value::Nil]));
        shared.push(0, info(PushKind::Invalidate, vec![]));
        assert_eq!(taken(&shared), []);
        assert_eq!(shared.metrics.foreign.get(), 3);
    }
}
