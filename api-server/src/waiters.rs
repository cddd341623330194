//! Requests that wait for a channel's head (`at_least`). However many wait, each shard is asked one
//! query every 20 ms, and none while nobody waits.
use std::{
    collections::{BTreeMap, HashMap},
    convert::Infallible,
    future::Future,
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use hubbub_protocol::{ChannelId, Seq};
use hubbub_store::Store;
use parking_lot::Mutex;
use prometheus_client::metrics::{counter::Counter, gauge::Gauge};
use tokio::{
    sync::{Notify, oneshot},
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

/// Requests that wait at once, over all shards; the next one is refused.
pub(crate) const WAITERS: usize = 1_000;
/// Pause between two questions to a shard.
const PAUSE: Duration = Duration::from_millis(20);
/// The longest pause while the shard does not answer.
const PAUSE_AWAY: Duration = Duration::from_millis(200);
/// Deadline of one question; the waiters themselves wait for 2 s.
const QUESTION: Duration = Duration::from_secs(1);

/// Who waits for what on one shard. Plain data; the caller holds the lock.
#[derive(Debug, Default)]
struct Waiting {
    next: u64,
    channels: HashMap<ChannelId, BTreeMap<u64, (Seq, oneshot::Sender<()>)>>,
}

impl Waiting {
    fn add(&mut self, channel: ChannelId, seq: Seq) -> (u64, oneshot::Receiver<()>) {
        let (sender, reached) = oneshot::channel();
        self.next += 1;
        self.channels
            .entry(channel)
            .or_default()
            .insert(self.next, (seq, sender));
        (self.next, reached)
    }

    fn remove(&mut self, channel: ChannelId, number: u64) {
        if let Some(waiting) = self.channels.get_mut(&channel) {
            waiting.remove(&number);
            if waiting.is_empty() {
                self.channels.remove(&channel);
            }
        }
    }

    /// Takes out those whose seq is reached, to be told when the lock is released.
    fn reached(&mut self, heads: &[(ChannelId, Seq)]) -> Vec<oneshot::Sender<()>> {
        let mut told = Vec::new();
        for (channel, head) in heads {
            let Some(waiting) = self.channels.get_mut(channel) else {
                continue;
            };
            for (_, (_, sender)) in waiting.extract_if(.., |_, (seq, _)| *seq <= *head) {
                told.push(sender);
            }
            if waiting.is_empty() {
                self.channels.remove(channel);
            }
        }
        told
    }
}

#[derive(Debug, Default)]
struct Shard {
    waiting: Mutex<Waiting>,
    /// Told when somebody begins to wait; keeps one permit while the poller is busy.
    wake: Notify,
}

/// All that wait. Cheap handle.
#[derive(Debug, Clone)]
pub(crate) struct Waiters {
    shards: Arc<[Shard]>,
    bound: usize,
    gauge: Gauge<u64, AtomicU64>,
    failures: Counter,
}

/// More wait already than the bound allows.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TooMany;

/// A place among those who wait; given back when dropped.
#[derive(Debug)]
pub(crate) struct Waiter {
    waiters: Waiters,
    shard: usize,
    channel: ChannelId,
    number: u64,
    reached: oneshot::Receiver<()>,
}

impl Waiters {
    pub(crate) fn new(
        shards: usize,
        bound: usize,
        gauge: Gauge<u64, AtomicU64>,
        failures: Counter,
    ) -> Self {
        Self {
            shards: (0..shards).map(|_| Shard::default()).collect(),
            bound,
            gauge,
            failures,
        }
    }

    /// Begins to wait until the head of `channel`, which lives on `shard`, is at least `seq`.
    pub(crate) fn wait_for(
        &self,
        shard: usize,
        channel: ChannelId,
        seq: Seq,
    ) -> Result<Waiter, TooMany> {
        // Counted first, so that the bound holds whatever the threads do.
        if self.gauge.inc() >= self.bound as u64 {
            self.gauge.dec();
            return Err(TooMany);
        }
        let place = &self.shards[shard];
        let (number, reached) = place.waiting.lock().add(channel, seq);
        place.wake.notify_one();
        Ok(Waiter {
            waiters: self.clone(),
            shard,
            channel,
            number,
            reached,
        })
    }

    /// Asks the store for the heads of one shard while somebody waits for one; until `stop`.
    pub(crate) async fn poll(
        self,
        shard: usize,
        store: Store,
        stop: CancellationToken,
    ) -> Result<(), Infallible> {
        let ask = |channels: Vec<ChannelId>| {
            let store = store.clone();
            async move {
                store
                    .heads(shard, &channels)
                    .await
                    .map_err(|e| e.to_string())
            }
        };
        // Waits for the end, or for ever.
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.poll_with(shard, ask) => {}
        }
        Ok(())
    }

    async fn poll_with<F>(&self, shard: usize, ask: impl Fn(Vec<ChannelId>) -> F)
    where
        F: Future<Output = Result<Vec<(ChannelId, Seq)>, String>>,
    {
        let place = &self.shards[shard];
        let mut pause = PAUSE;
        loop {
            let channels: Vec<_> = place.waiting.lock().channels.keys().copied().collect();
            if channels.is_empty() {
                place.wake.notified().await;
                continue;
            }
            let problem = match timeout(QUESTION, ask(channels)).await {
                Ok(Ok(heads)) => {
                    let told = place.waiting.lock().reached(&heads);
                    for sender in told {
                        // One that gave up in this moment is not there to be told.
                        sender.send(()).ok();
                    }
                    pause = PAUSE;
                    None
                }
                Ok(Err(error)) => Some(error),
                Err(_) => Some("no answer in time".to_owned()),
            };
            if let Some(error) = problem {
                self.failures.inc();
                tracing::debug!(shard, %error, "cannot read heads for those who wait");
                pause = (pause * 2)
                    .min(PAUSE_AWAY)
                    .mul_f64(rand::random_range(0.8..1.2));
            }
            sleep(pause).await;
        }
    }
}

impl Waiter {
    /// Waits until the head is there, at most `most`. Says whether it is.
    pub(crate) async fn wait(mut self, most: Duration) -> bool {
        matches!(timeout(most, &mut self.reached).await, Ok(Ok(())))
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        let place = &self.waiters.shards[self.shard];
        place.waiting.lock().remove(self.channel, self.number);
        self.waiters.gauge.dec();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use hubbub_protocol::ChannelLetter;
    use proptest::prelude::*;
    use tokio::time::Instant;

    use super::*;

    fn channel(number: i64) -> ChannelId {
        ChannelId::new(ChannelLetter::Channel, number).expect("from 1")
    }

    fn waiters(bound: usize) -> Waiters {
        Waiters::new(2, bound, Gauge::default(), Counter::default())
    }

    #[test]
    fn places_are_bounded_and_given_back() {
        let waiters = waiters(2);
        let first = waiters.wait_for(0, channel(1), Seq(5)).expect("free");
        let _second = waiters.wait_for(1, channel(2), Seq(5)).expect("free");
        assert_eq!(
            waiters.wait_for(0, channel(1), Seq(5)).expect_err("full"),
            TooMany
        );
        drop(first);
        assert!(waiters.shards[0].waiting.lock().channels.is_empty());
        let _third = waiters.wait_for(0, channel(1), Seq(5)).expect("free again");
        assert_eq!(waiters.gauge.get(), 2);
    }

    /// Lets whatever can run without a timer run.
    async fn settle() {
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn shard_is_asked_only_while_somebody_waits() {
        const QUESTIONS: usize = 10;
        let waiters = waiters(10);
        let asked = AtomicUsize::new(0);
        // The tenth answer is the one waited for.
        let ask = |channels: Vec<ChannelId>| {
            let n = asked.fetch_add(1, Ordering::Relaxed) + 1;
            let head = if n < QUESTIONS { Seq(4) } else { Seq(5) };
            std::future::ready(Ok(channels.into_iter().map(|c| (c, head)).collect()))
        };
        let scenario = async {
            settle().await;
            assert_eq!(asked.load(Ordering::Relaxed), 0, "asked for nobody");

            let begun = Instant::now();
            let waits = waiters.wait_for(0, channel(1), Seq(5)).expect("free");
            let too_high = waiters.wait_for(0, channel(1), Seq(6)).expect("free");
            assert!(waits.wait(Duration::from_secs(20)).await);
            assert_eq!(asked.load(Ordering::Relaxed), QUESTIONS);
            assert!(
                begun.elapsed() >= PAUSE * (QUESTIONS as u32 - 1),
                "asked too often"
            );

            assert!(!too_high.wait(PAUSE * 2).await, "6 is not there");
            assert_eq!(waiters.gauge.get(), 0);
            let left = asked.load(Ordering::Relaxed);
            timeout(PAUSE * 5, std::future::pending::<()>()).await.ok();
            assert_eq!(asked.load(Ordering::Relaxed), left, "asked for nobody");
        };
        // The poller never ends by itself.
        tokio::select! {
            () = waiters.poll_with(0, ask) => unreachable!("the poller ended"),
            () = scenario => {}
        }
    }

    #[tokio::test]
    async fn shard_that_is_away_does_not_end_the_wait() {
        let waiters = waiters(10);
        let tries = AtomicUsize::new(0);
        let ask = |channels: Vec<ChannelId>| {
            let answer = match tries.fetch_add(1, Ordering::Relaxed) {
                0..3 => Err("away".to_owned()),
                _ => Ok(channels.into_iter().map(|c| (c, Seq(9))).collect()),
            };
            std::future::ready(answer)
        };
        let waits = waiters.wait_for(0, channel(1), Seq(9)).expect("free");
        tokio::select! {
            () = waiters.poll_with(0, ask) => unreachable!("the poller ended"),
            reached = waits.wait(Duration::from_secs(20)) => assert!(reached),
        }
        assert_eq!(waiters.failures.get(), 3);
    }

    proptest! {
        /// Whoever waits is told exactly when a head at or above the seq was seen.
        #[test]
        fn those_reached_are_told_and_no_others(
            waits in prop::collection::vec((1_i64..4, 0_u64..20), 0..30),
            heads in prop::collection::vec((1_i64..4, 0_u64..20), 0..6),
        ) {
            let mut waiting = Waiting::default();
            let mut all: Vec<_> = waits
                .iter()
                .map(|(c, seq)| (*c, *seq, waiting.add(channel(*c), Seq(*seq)).1))
                .collect();
            let seen: Vec<_> = heads.iter().map(|(c, seq)| (channel(*c), Seq(*seq))).collect();
            for sender in waiting.reached(&seen) {
                prop_assert!(sender.send(()).is_ok());
            }
            let mut left = 0;
            for (c, seq, receiver) in &mut all {
                let expected = heads.iter().any(|(h, head)| h == c && *head >= *seq);
                prop_assert_eq!(receiver.try_recv().is_ok(), expected);
                left += usize::from(!expected);
            }
            let kept: usize = waiting.channels.values().map(BTreeMap::len).sum();
            prop_assert_eq!(kept, left);
            prop_assert!(waiting.channels.values().all(|w| !w.is_empty()));
        }
    }
}
