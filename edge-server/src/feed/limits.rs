use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

/// Bounds of the feeds of one pod, and what they share. A clone is a handle to the same.
#[derive(Debug, Clone)]
pub struct Limits(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    frame_bytes: u64,
    frame_bytes_used: AtomicU64,
    requests: AtomicU64,
}

impl Limits {
    /// Takes the bytes of live frames that all feeds of the pod may hold until they are stored.
    pub fn new(frame_bytes: u64) -> Self {
        Self(Arc::new(Inner {
            frame_bytes,
            frame_bytes_used: AtomicU64::new(0),
            requests: AtomicU64::new(0),
        }))
    }

    /// Bytes of live frames held now.
    pub fn frame_bytes_used(&self) -> u64 {
        self.0.frame_bytes_used.load(Ordering::Relaxed)
    }
}
