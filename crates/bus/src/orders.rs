use std::collections::{HashMap, HashSet, VecDeque};

use hubbub_protocol::BusChannel;

/// What a command does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    Subscribe,
    Unsubscribe,
}

/// What is wanted, and what Redis has not been told yet. No I/O in it.
///
/// For each channel only the last order counts, because the ones before it would be undone: an
/// order that waits is replaced in its place. So the queue holds a channel at most once, and it
/// is bounded by the channels that callers know.
#[derive(Debug)]
pub(crate) struct Orders {
    /// Our own channel: subscribed on every connection, for the probes, wanted or not.
    own: BusChannel,
    wanted: HashSet<BusChannel>,
    waiting: HashMap<BusChannel, Order>,
    /// The keys of `waiting`, in the order of the calls.
    queue: VecDeque<BusChannel>,
}

impl Orders {
    pub(crate) fn new(own: BusChannel) -> Self {
        Self {
            own,
            wanted: HashSet::new(),
            waiting: HashMap::new(),
            queue: VecDeque::new(),
        }
    }

    pub(crate) fn wants(&self, channel: &BusChannel) -> bool {
        self.wanted.contains(channel)
    }

    pub(crate) fn wanted(&self) -> usize {
        self.wanted.len()
    }

    /// Also for a channel that is subscribed: its confirmation is a fresh start. Without a
    /// connection nothing waits, because the next one begins with [`Orders::restart`].
    pub(crate) fn subscribe(&mut self, channel: BusChannel, connected: bool) {
        self.wanted.insert(channel.clone());
        if connected {
            self.push(channel, Order::Subscribe);
        }
    }

    pub(crate) fn unsubscribe(&mut self, channel: BusChannel, connected: bool) {
        self.wanted.remove(&channel);
        if connected && channel != self.own {
            self.push(channel, Order::Unsubscribe);
        }
    }

    /// A new connection has nothing: tell it everything, our own channel first.
    pub(crate) fn restart(&mut self) {
        self.waiting.clear();
        self.queue.clear();
        self.push(self.own.clone(), Order::Subscribe);
        self.renew();
    }

    /// Asks the connection that is there for a confirmation of everything wanted.
    pub(crate) fn renew(&mut self) {
        for channel in self.wanted.iter().cloned().collect::<Vec<_>>() {
            self.push(channel, Order::Subscribe);
        }
    }

    fn push(&mut self, channel: BusChannel, order: Order) {
        if self.waiting.insert(channel.clone(), order).is_none() {
            self.queue.push_back(channel);
        }
    }

    /// The order that is due, if any.
    pub(crate) fn due(&self) -> Option<Order> {
        self.waiting.get(self.queue.front()?).copied()
    }

    /// Takes the next command: the channels at the front that have the same order, at most
    /// `most`. Empty when nothing waits.
    pub(crate) fn take(&mut self, most: usize) -> Vec<BusChannel> {
        let order = self.due();
        let mut batch = Vec::new();
        while batch.len() < most && self.due().is_some() && self.due() == order {
            let channel = self.queue.pop_front().expect("an order is due");
            self.waiting.remove(&channel);
            batch.push(channel);
        }
        batch
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use hubbub_protocol::UserId;
    use proptest::prelude::*;

    use super::*;

    fn channel(number: i64) -> BusChannel {
        BusChannel::User(UserId::new(number).expect("from 1"))
    }

    fn orders() -> Orders {
        Orders::new(channel(1))
    }

    #[test]
    fn orders_keep_their_turn_and_only_the_last_per_channel_counts() {
        let mut orders = orders();
        orders.restart();
        assert_eq!(orders.take(512), [channel(1)]);
        orders.subscribe(channel(2), true);
        orders.subscribe(channel(3), true);
        orders.unsubscribe(channel(4), true);
        orders.unsubscribe(channel(2), true);
        orders.subscribe(channel(2), true);
        assert_eq!(orders.take(512), [channel(2), channel(3)]);
        assert_eq!(orders.due(), Some(Order::Unsubscribe));
        assert_eq!(orders.take(512), [channel(4)]);
        assert_eq!((orders.due(), orders.take(512)), (None, vec![]));
    }

    #[derive(Debug, Clone)]
    enum Step {
        Subscribe(i64),
        Unsubscribe(i64),
        Send(usize),
        Reconnect,
        Renew,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            (1..6i64).prop_map(Step::Subscribe),
            (1..6i64).prop_map(Step::Unsubscribe),
            (1..4usize).prop_map(Step::Send),
            Just(Step::Reconnect),
            Just(Step::Renew),
        ];
        proptest::collection::vec(step, 0..60)
    }

    proptest! {
        /// The model is Redis: the set of channels that the commands leave. Every call of
        /// `subscribe`, and every renewal, is followed by a SUBSCRIBE of that channel unless it
        /// is unsubscribed first.
        #[test]
        fn redis_ends_with_what_is_wanted_and_every_subscribe_is_confirmed(steps in steps()) {
            let mut orders = orders();
            let mut redis = BTreeSet::new();
            let mut wanted = BTreeSet::new();
            let mut unconfirmed = BTreeSet::new();
            orders.restart();
            let send = |orders: &mut Orders, redis: &mut BTreeSet<_>, open: &mut BTreeSet<_>, most| {
                let order = orders.due();
                for channel in orders.take(most) {
                    open.remove(&channel);
                    match order {
                        Some(Order::Subscribe) => redis.insert(channel),
                        _ => redis.remove(&channel),
                    };
                }
            };
            for step in steps {
                match step {
                    Step::Subscribe(n) => {
                        orders.subscribe(channel(n), true);
                        wanted.insert(channel(n));
                        unconfirmed.insert(channel(n));
                    }
                    Step::Unsubscribe(n) => {
                        orders.unsubscribe(channel(n), true);
                        wanted.remove(&channel(n));
                        unconfirmed.remove(&channel(n));
                    }
                    Step::Send(most) => send(&mut orders, &mut redis, &mut unconfirmed, most),
                    Step::Reconnect => {
                        redis.clear();
                        unconfirmed = wanted.clone();
                        orders.restart();
                    }
                    Step::Renew => {
                        unconfirmed.extend(wanted.iter().cloned());
                        orders.renew();
                    }
                }
                prop_assert_eq!(orders.queue.len(), orders.waiting.len());
                prop_assert_eq!(orders.wanted(), wanted.len());
            }
            while orders.due().is_some() {
                send(&mut orders, &mut redis, &mut unconfirmed, 2);
            }
            wanted.insert(channel(1));
            prop_assert_eq!(redis, wanted);
            prop_assert!(unconfirmed.is_empty(), "{:?}", unconfirmed);
        }
    }
}
