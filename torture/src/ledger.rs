//! What was said in this run, for those who see only an id.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicU64, Ordering},
};

use hubbub_checker::history::Kind;
use hubbub_protocol::MessageId;
use parking_lot::Mutex;

use crate::writer::End;

/// What a record is and says, as it was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct What {
    /// CRC-32 of the text or the reaction.
    pub sum: u32,
    /// What it is, and about which message.
    pub kind: Kind,
}

/// Every message of every writer, and how many have their last answer.
#[derive(Debug, Default)]
pub struct Ledger {
    said_by_id: Mutex<HashMap<MessageId, What>>,
    said: AtomicU64,
    settled: AtomicU64,
    abandoned: AtomicU64,
}

impl Ledger {
    /// A message is about to be sent for the first time.
    pub fn say(&self, id: MessageId, what: What) {
        self.said_by_id.lock().insert(id, what);
        self.said.fetch_add(1, Ordering::Relaxed);
    }

    /// It will not be sent again.
    pub fn end(&self, end: End) {
        match end {
            End::Stored(_) | End::Refused => self.settle(),
            End::Abandoned => self.abandon(),
        }
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

    /// What was sent under an id; `None` for what is of no writer of this run.
    #[must_use]
    pub fn what(&self, id: MessageId) -> Option<What> {
        self.said_by_id.lock().get(&id).copied()
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
