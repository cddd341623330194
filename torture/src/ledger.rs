//! What was said in this run, for those who see only an id.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicU64, Ordering},
};

use hubbub_protocol::MessageId;
use parking_lot::Mutex;

/// Every message of every writer, and how many have their last answer.
#[derive(Debug, Default)]
pub struct Ledger {
    sums: Mutex<HashMap<MessageId, u32>>,
    said: AtomicU64,
    settled: AtomicU64,
    abandoned: AtomicU64,
}

impl Ledger {
    /// A message is about to be sent for the first time.
    pub fn say(&self, id: MessageId, sum: u32) {
        self.sums.lock().insert(id, sum);
        self.said.fetch_add(1, Ordering::Relaxed);
    }

    /// It has its last answer.
    pub fn settle(&self) {
        self.settled.fetch_add(1, Ordering::Relaxed);
    }

    /// It will not be sent again, although nobody knows what became of it.
    pub fn abandon(&self) {
        self.abandoned.fetch_add(1, Ordering::Relaxed);
        self.settle();
    }

    /// The sum of a message's text; `None` for what is no message of this run.
    #[must_use]
    pub fn sum_of(&self, id: MessageId) -> Option<u32> {
        self.sums.lock().get(&id).copied()
    }

    /// Messages said, and those of them that wait for their last answer.
    #[must_use]
    pub fn counts(&self) -> (u64, u64) {
        let settled = self.settled.load(Ordering::Relaxed);
        let said = self.said.load(Ordering::Relaxed);
        (said, said.saturating_sub(settled))
    }

    /// Messages that were given up.
    #[must_use]
    pub fn abandoned(&self) -> u64 {
        self.abandoned.load(Ordering::Relaxed)
    }
}
