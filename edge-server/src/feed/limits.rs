use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use hubbub_mutant::{Mutant, planted};

/// Rows on one page for readers, and of a repair (design section 4).
const PAGE_ROWS: usize = 100;
/// Message ids that a feed remembers: as many as a busy channel takes in the few seconds within
/// which an unmarked resend comes. Forgetting one costs a copy on screens, never a message.
const IDS: usize = 256;
/// How long pages may fail before readers that were promised them are closed, to come back and
/// be told `recovered:false`.
const PAGE_PATIENCE_MS: u64 = 10_000;
/// The tail of a feed: what a busy channel takes in the seconds that a crowd needs to come back.
const TAIL_ROWS: usize = 256;
const TAIL_BYTES: usize = 64 * 1024;

/// Bounds of the newest rows that feeds keep.
#[derive(Debug, Clone, Copy)]
pub(super) struct TailBounds {
    /// Of one feed.
    pub(super) rows: usize,
    /// Of one feed.
    pub(super) bytes: usize,
    /// Of all feeds of the pod.
    pub(super) all_bytes: u64,
}

/// Bounds of the feeds of one pod, and what they share. A clone is a handle to the same.
#[derive(Debug, Clone)]
pub struct Limits(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    page_rows: usize,
    ids: usize,
    page_patience_ms: u64,
    frame_bytes: u64,
    frame_bytes_used: AtomicU64,
    tail: TailBounds,
    tail_bytes_used: AtomicU64,
    /// The id of the last request of any feed.
    requests: AtomicU64,
}

impl Limits {
    /// Takes the bytes of live frames that all feeds of the pod may hold until they are stored;
    /// the newest rows may take as much again.
    pub fn new(frame_bytes: u64) -> Self {
        let tail = TailBounds {
            rows: TAIL_ROWS,
            bytes: TAIL_BYTES,
            // Planted: pages come from the store alone, which takes the time that the mistake needs.
            all_bytes: match planted(Mutant::ReaderGetsNoLive) {
                true => 0,
                false => frame_bytes,
            },
        };
        Self::with(frame_bytes, PAGE_ROWS, IDS, PAGE_PATIENCE_MS, tail)
    }

    pub(super) fn with(
        frame_bytes: u64,
        page_rows: usize,
        ids: usize,
        page_patience_ms: u64,
        tail: TailBounds,
    ) -> Self {
        Self(Arc::new(Inner {
            page_rows: page_rows.max(1),
            ids: ids.max(1),
            page_patience_ms,
            frame_bytes,
            frame_bytes_used: AtomicU64::new(0),
            tail,
            tail_bytes_used: AtomicU64::new(0),
            requests: AtomicU64::new(0),
        }))
    }

    /// Bytes of live frames held now.
    pub fn frame_bytes_used(&self) -> u64 {
        self.0.frame_bytes_used.load(Ordering::Relaxed)
    }

    /// Bytes of the newest rows held now.
    pub fn tail_bytes_used(&self) -> u64 {
        self.0.tail_bytes_used.load(Ordering::Relaxed)
    }

    pub(super) fn tail(&self) -> TailBounds {
        self.0.tail
    }

    pub(super) fn page_rows(&self) -> usize {
        self.0.page_rows
    }

    pub(super) fn ids(&self) -> usize {
        self.0.ids
    }

    pub(super) fn page_patience_ms(&self) -> u64 {
        self.0.page_patience_ms
    }

    /// Takes `bytes` of the bound; `false` = they do not fit.
    pub(super) fn take_frame(&self, bytes: usize) -> bool {
        take(&self.0.frame_bytes_used, bytes, self.0.frame_bytes)
    }

    /// Gives back what `take_frame` took.
    pub(super) fn give_back_frame(&self, bytes: usize) {
        self.0
            .frame_bytes_used
            .fetch_sub(bytes as u64, Ordering::Relaxed);
    }

    /// As [`Self::take_frame`], for a row of a tail.
    pub(super) fn take_tail(&self, bytes: usize) -> bool {
        take(&self.0.tail_bytes_used, bytes, self.0.tail.all_bytes)
    }

    /// Gives back what `take_tail` took.
    pub(super) fn give_back_tail(&self, bytes: usize) {
        self.0
            .tail_bytes_used
            .fetch_sub(bytes as u64, Ordering::Relaxed);
    }

    pub(super) fn next_request(&self) -> u64 {
        self.0.requests.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Every request made from now on has a higher id.
    pub(super) fn last_request(&self) -> u64 {
        self.0.requests.load(Ordering::Relaxed)
    }
}

fn take(used: &AtomicU64, bytes: usize, bound: u64) -> bool {
    let fits = |used: u64| used.checked_add(bytes as u64).filter(|sum| *sum <= bound);
    used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits)
        .is_ok()
}
