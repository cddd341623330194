//! The channels that somebody has chosen: their records as they pass, and whether it is time to
//! ask again who listens.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use bytes::Bytes;
use hubbub_bus::Subscriber;
use hubbub_protocol::{BusChannel, ChannelEvent, ChannelId};
use parking_lot::Mutex;
use tokio::sync::Notify;

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
    /// Who listens may have changed.
    pub(super) touched: bool,
}

#[derive(Debug, Default)]
struct Waiting {
    records: VecDeque<Bytes>,
    bytes: usize,
    missed: bool,
    touched: bool,
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
            mailbox.change(|waiting| waiting.touched = true);
        }
        chosen.mailboxes.push(mailbox.clone());
        Attached {
            channel,
            mailbox,
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
        self.each(channel, |waiting| waiting.touched = true);
    }

    pub(super) fn on_lost(&self) {
        for chosen in self.chosen.lock().values_mut() {
            chosen.confirmed = false;
            for mailbox in &chosen.mailboxes {
                mailbox.change(Waiting::miss);
            }
        }
    }

    /// Who listens to these may have changed.
    pub(super) fn touch(&self, channels: impl Iterator<Item = ChannelId>) {
        let all = self.chosen.lock();
        if all.is_empty() {
            return;
        }
        for chosen in channels.filter_map(|channel| all.get(&channel)) {
            for mailbox in &chosen.mailboxes {
                mailbox.change(|waiting| waiting.touched = true);
            }
        }
    }
}

#[cfg(test)]
mod tests {
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
}
