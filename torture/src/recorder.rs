//! Writes the history: one clock, one queue, one thread that encodes.

use std::{
    fs::File,
    io::{BufWriter, Write},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::JoinHandle,
};

use anyhow::{Context, Result};
use hubbub_checker::{Entry, Event};
use parking_lot::Mutex;
use tokio::time::Instant;

/// Entries on their way to the file. A full queue makes the callers wait: nothing is dropped.
const QUEUE: usize = 65_536;
const BUFFER_BYTES: usize = 1024 * 1024;

/// Sees every event as it is recorded; must be quick.
pub type Observer = Arc<dyn Fn(&Event) + Send + Sync>;

/// The way into the history. Cheap to clone.
#[derive(Clone)]
pub struct Recorder {
    shared: Arc<Shared>,
}

struct Shared {
    began: Instant,
    /// Stamped under this lock, so that the file is in the order of time. `None` once closed.
    queue: Mutex<Option<SyncSender<Entry>>>,
    ops: AtomicU64,
    observers: Vec<Observer>,
}

/// The history's file, still being written.
#[derive(Debug)]
pub struct Recording {
    thread: JoinHandle<Result<u64>>,
}

impl Recorder {
    /// Starts a history in `path`; time starts now.
    ///
    /// # Errors
    /// When the file cannot be made.
    pub fn start(path: &Path, observers: Vec<Observer>) -> Result<(Self, Recording)> {
        let file = File::create(path).with_context(|| format!("create {}", path.display()))?;
        let (queue, inbox) = sync_channel(QUEUE);
        let thread = std::thread::Builder::new()
            .name("history".to_owned())
            .spawn(move || write(file, &inbox))
            .context("start the history's thread")?;
        let shared = Shared {
            began: Instant::now(),
            queue: Mutex::new(Some(queue)),
            ops: AtomicU64::new(1),
            observers,
        };
        let recorder = Self {
            shared: Arc::new(shared),
        };
        Ok((recorder, Recording { thread }))
    }

    /// Notes what happened just now. After the end it is not part of the history any more.
    pub fn record(&self, event: Event) {
        for observer in &self.shared.observers {
            observer(&event);
        }
        let queue = self.shared.queue.lock();
        if let Some(queue) = queue.as_ref() {
            let entry = Entry {
                at_us: self.now_us(),
                event,
            };
            // The thread ends early only when the disk fails; `finish` says so.
            queue.send(entry).ok();
        }
    }

    /// A number for an attempt, unique in the run.
    #[must_use]
    pub fn next_op(&self) -> u64 {
        self.shared.ops.fetch_add(1, Ordering::Relaxed)
    }

    /// Microseconds since the start.
    #[must_use]
    pub fn now_us(&self) -> u64 {
        u64::try_from(self.shared.began.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// Ends the history and waits until it is written; returns how many lines it has.
    ///
    /// # Errors
    /// When it could not be written.
    pub fn finish(&self, recording: Recording) -> Result<u64> {
        drop(self.shared.queue.lock().take());
        let written = recording.thread.join();
        written.map_err(|_| anyhow::anyhow!("the history's thread panicked"))?
    }
}

impl std::fmt::Debug for Recorder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recorder").finish_non_exhaustive()
    }
}

fn write(file: File, inbox: &Receiver<Entry>) -> Result<u64> {
    let mut out = BufWriter::with_capacity(BUFFER_BYTES, file);
    let mut lines = 0;
    while let Ok(entry) = inbox.recv() {
        serde_json::to_writer(&mut out, &entry).context("write the history")?;
        out.write_all(b"\n").context("write the history")?;
        lines += 1;
    }
    out.flush().context("write the history")?;
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;
    use hubbub_checker::history::Phase;

    #[tokio::test]
    async fn history_is_in_the_order_of_time_whoever_records() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("history.jsonl");
        let (recorder, recording) = Recorder::start(&path, Vec::new()).expect("starts");
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let recorder = recorder.clone();
                std::thread::spawn(move || {
                    for _ in 0..1_000 {
                        let number = recorder.next_op() as u32;
                        recorder.record(Event::FaultEnded { number });
                    }
                })
            })
            .collect();
        for thread in threads {
            thread.join().expect("records");
        }
        assert_eq!(recorder.finish(recording).expect("writes"), 4_000);
        recorder.record(Event::Phase(Phase::Final));
        let read = crate::files::read_history(&path).expect("reads");
        assert_eq!(read.len(), 4_000);
        assert!(read.is_sorted_by_key(|entry| entry.at_us));
    }
}
