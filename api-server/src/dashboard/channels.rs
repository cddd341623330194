//! The channels that somebody has chosen: their records as they pass, and whether it is time to
//! ask again who listens.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use bytes::Bytes;
use hubbub_bus::Subscriber;
use hubbub_protocol::{
    BusChannel, ChannelEvent, ChannelId, ChannelLoad, PodId, events::LiveChannel,
};
use parking_lot::Mutex;
use tokio::{
    sync::{Notify, Semaphore},
    time::Instant,
};

/// Records that wait for one stream; past either bound they are dropped, and the reader is told
/// that some were missed.
const RECORDS: usize = 256;
const RECORD_BYTES: usize = 256 * 1024;

/// What has passed and was not written yet.
#[derive(Debug, Default)]
pub(super) struct Passed {
    /// Server frames, in the order in which they passed.
    pub(super) records: Vec<Bytes>,
    /// Some may have passed unseen before them.
    pub(super) missed: bool,
    pub(super) touched: Option<Touch>,
}

/// Who listens to a channel has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Touch {
    /// If one came and another went while something was said: the count alone does not tell.
    Perhaps,
    Surely,
}

#[derive(Debug, Default)]
struct Waiting {
    records: VecDeque<Bytes>,
    bytes: usize,
    missed: bool,
    touched: Option<Touch>,
}

/// Of one stream.
#[derive(Debug, Default)]
struct Mailbox {
    waiting: Mutex<Waiting>,
    news: Notify,
}

impl Mailbox {
    fn change(&self, f: impl FnOnce(&mut Waiting)) {
        f(&mut self.waiting.lock());
        self.news.notify_one();
    }
}

impl Waiting {
    fn touch(&mut self, touch: Touch) {
        self.touched = self.touched.max(Some(touch));
    }

    fn miss(&mut self) {
        self.records.clear();
        self.bytes = 0;
        self.missed = true;
    }

    fn put(&mut self, record: &Bytes) {
        if self.records.len() >= RECORDS || self.bytes + record.len() > RECORD_BYTES {
            self.miss();
        }
        self.bytes += record.len();
        self.records.push_back(record.clone());
    }
}

#[derive(Debug, Default)]
struct Chosen {
    /// Redis confirmed the subscription: what is published now comes.
    confirmed: bool,
    mailboxes: Vec<Arc<Mailbox>>,
    /// What each pod said of it last.
    reported: HashMap<PodId, ChannelLoad>,
    look: Arc<Look>,
}

impl Chosen {
    /// A pod's row: it is said where the sockets that listen or the messages have changed.
    fn on_row(&mut self, pod: &PodId, row: ChannelLoad) -> Touch {
        let before = self.reported.insert(pod.clone(), row);
        match before {
            Some(before)
                if before.connections == row.connections && before.messages != row.messages =>
            {
                Touch::Perhaps
            }
            _ => Touch::Surely,
        }
    }
}

/// Who listened to a channel when somebody asked last; of several who want to know it at the same
/// time one asks.
#[derive(Debug)]
pub(super) struct Look {
    /// Held by the one who asks.
    asks: Semaphore,
    /// When it was asked, and the answer.
    last: Mutex<Option<(Instant, Option<Arc<LiveChannel>>)>>,
}

impl Default for Look {
    fn default() -> Self {
        Self {
            asks: Semaphore::new(1),
            last: Mutex::default(),
        }
    }
}

impl Look {
    /// Who listens, as of `since` or later; `None` if the pods could not be asked. Waits for at most
    /// one `ask` of another caller and its own. Cancel-safe.
    pub(super) async fn at(
        &self,
        since: Instant,
        ask: impl Future<Output = Option<LiveChannel>>,
    ) -> Option<Arc<LiveChannel>> {
        let turn = self.asks.acquire().await;
        let last = self.last.lock().clone();
        if let Some((asked, live)) = last
            && asked >= since
        {
            return live;
        }
        let asked = Instant::now();
        let live = ask.await.map(Arc::new);
        *self.last.lock() = Some((asked, live.clone()));
        drop(turn);
        live
    }
}

/// The channels that somebody has chosen. Cheap handle.
#[derive(Clone)]
pub(super) struct Channels {
    chosen: Arc<Mutex<HashMap<ChannelId, Chosen>>>,
    subscriber: Subscriber,
}

/// A stream's place at a channel; given up when this is dropped.
pub(super) struct Attached {
    channel: ChannelId,
    mailbox: Arc<Mailbox>,
    look: Arc<Look>,
    channels: Channels,
}

impl Drop for Attached {
    fn drop(&mut self) {
        let mut all = self.channels.chosen.lock();
        if let Some(chosen) = all.get_mut(&self.channel) {
            chosen
                .mailboxes
                .retain(|mailbox| !Arc::ptr_eq(mailbox, &self.mailbox));
            if chosen.mailboxes.is_empty() {
                all.remove(&self.channel);
                // Under the lock, so that orders keep their order.
                let channel = BusChannel::Channel(self.channel);
                self.channels.subscriber.unsubscribe(channel);
            }
        }
    }
}

impl Attached {
    pub(super) fn channel(&self) -> ChannelId {
        self.channel
    }

    /// Who listens, for all who have chosen the channel.
    pub(super) fn look(&self) -> Arc<Look> {
        self.look.clone()
    }

    /// Waits until something has passed. Cancel-safe; one waiter.
    pub(super) async fn news(&self) {
        self.mailbox.news.notified().await;
    }

    /// Takes what has passed.
    pub(super) fn take(&self) -> Passed {
        let mut waiting = self.mailbox.waiting.lock();
        waiting.bytes = 0;
        Passed {
            records: waiting.records.drain(..).collect(),
            missed: std::mem::take(&mut waiting.missed),
            touched: std::mem::take(&mut waiting.touched),
        }
    }

    /// What was taken could not be shown.
    pub(super) fn miss(&self) {
        self.mailbox.waiting.lock().miss();
    }
}

impl Channels {
    pub(super) fn new(subscriber: Subscriber) -> Self {
        Self {
            chosen: Arc::default(),
            subscriber,
        }
    }

    /// Begins to collect what passes in a channel. The first touch says that from then on nothing
    /// passes unseen without a word.
    pub(super) fn attach(&self, channel: ChannelId) -> Attached {
        let mailbox: Arc<Mailbox> = Arc::default();
        let mut all = self.chosen.lock();
        let chosen = all.entry(channel).or_default();
        if chosen.mailboxes.is_empty() {
            self.subscriber.subscribe(BusChannel::Channel(channel));
        }
        if chosen.confirmed {
            mailbox.change(|waiting| waiting.touch(Touch::Surely));
        }
        chosen.mailboxes.push(mailbox.clone());
        Attached {
            channel,
            mailbox,
            look: chosen.look.clone(),
            channels: self.clone(),
        }
    }

    fn each(&self, channel: ChannelId, f: impl Fn(&mut Waiting)) {
        if let Some(chosen) = self.chosen.lock().get(&channel) {
            chosen
                .mailboxes
                .iter()
                .for_each(|mailbox| mailbox.change(&f));
        }
    }

    /// Something was published on a channel. Records alone are shown; a frame is one line.
    pub(super) fn on_payload(&self, channel: ChannelId, payload: &Bytes) {
        let is_line = std::str::from_utf8(payload).is_ok_and(|text| !text.contains(['\n', '\r']));
        if is_line && let Ok(ChannelEvent::Record { .. }) = ChannelEvent::decode(channel, payload) {
            self.each(channel, |waiting| waiting.put(payload));
        }
    }

    pub(super) fn on_subscribed(&self, channel: ChannelId) {
        if let Some(chosen) = self.chosen.lock().get_mut(&channel) {
            chosen.confirmed = true;
        }
        self.each(channel, |waiting| waiting.touch(Touch::Surely));
    }

    pub(super) fn on_lost(&self) {
        for chosen in self.chosen.lock().values_mut() {
            chosen.confirmed = false;
            for mailbox in &chosen.mailboxes {
                mailbox.change(Waiting::miss);
            }
        }
    }

    /// A pod said something of these.
    pub(super) fn on_rows(&self, pod: &PodId, rows: &[ChannelLoad]) {
        let mut all = self.chosen.lock();
        if all.is_empty() {
            return;
        }
        for row in rows {
            if let Some(chosen) = all.get_mut(&row.channel) {
                let touch = chosen.on_row(pod, *row);
                for mailbox in &chosen.mailboxes {
                    mailbox.change(|waiting| waiting.touch(touch));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use tokio::task::yield_now;

    use super::*;

    #[test]
    fn full_mailbox_is_emptied_and_says_so() {
        let mut waiting = Waiting::default();
        let small = Bytes::from_static(b"{}");
        for _ in 0..RECORDS {
            waiting.put(&small);
        }
        assert_eq!((waiting.records.len(), waiting.missed), (RECORDS, false));
        waiting.put(&small);
        assert_eq!((waiting.records.len(), waiting.missed), (1, true));
        waiting.put(&Bytes::from(vec![b' '; RECORD_BYTES]));
        assert_eq!(waiting.records.len(), 1);
        waiting.put(&small);
        assert_eq!((waiting.records.len(), waiting.bytes), (1, 2));
    }

    #[test]
    fn messages_alone_do_not_say_that_somebody_came() {
        let (mut chosen, pod) = (Chosen::default(), "edge-1".parse().expect("an id"));
        let row = |connections, messages| ChannelLoad {
            channel: "C000000001".parse().expect("an id"),
            connections,
            messages,
        };
        let mut said = |connections, messages| chosen.on_row(&pod, row(connections, messages));
        assert_eq!(said(3, 10), Touch::Surely, "nothing was known");
        assert_eq!(said(3, 11), Touch::Perhaps);
        assert_eq!(said(4, 12), Touch::Surely);
        assert_eq!(said(4, 12), Touch::Surely, "one came and one went");
        let mut waiting = Waiting::default();
        waiting.touch(Touch::Surely);
        waiting.touch(Touch::Perhaps);
        assert_eq!(waiting.touched, Some(Touch::Surely));
    }

    #[tokio::test]
    async fn one_asks_for_all_who_look_at_the_same_time() {
        let (look, asked) = (Look::default(), AtomicU32::new(0));
        let at = |since| {
            look.at(since, async {
                asked.fetch_add(1, Ordering::Relaxed);
                yield_now().await;
                None
            })
        };
        let now = Instant::now();
        tokio::join!(at(now), at(now), at(now));
        assert_eq!(asked.load(Ordering::Relaxed), 1);
        at(Instant::now()).await;
        assert_eq!(
            asked.load(Ordering::Relaxed),
            2,
            "what is older does not do"
        );
    }
}
