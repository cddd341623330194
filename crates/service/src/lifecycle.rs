//! The life of a process: two tokens, soft then hard; no task without a name; one exit path.
use std::{
    collections::BTreeMap,
    fmt::Display,
    future::Future,
    panic::AssertUnwindSafe,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::FutureExt;
use parking_lot::Mutex;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::Notify,
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// How long a task may take to be dropped once it is cut: it can only be late if it blocks its
/// thread, and then the process must not wait for it.
const CUT: Duration = Duration::from_secs(1);

/// What the failure of a task means for the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnError {
    /// It is logged as an error; the process goes on.
    Log,
    /// It is logged and the process drains (exit code 1).
    Stop,
}

/// How a lifecycle ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// A task whose failure stops the process failed.
    pub failed: bool,
    /// The tasks that still ran when the grace was over.
    pub cut: Vec<&'static str>,
}

impl Outcome {
    /// 0, or 1 if a Stop task failed or tasks were cut.
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(u8::from(self.failed || !self.cut.is_empty()))
    }
}

/// Cheap handle; clones share one lifecycle. A test makes as many as it likes.
#[derive(Debug, Clone)]
pub struct Lifecycle {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// A child of `hard`, so that hard implies soft.
    soft: CancellationToken,
    hard: CancellationToken,
    tracker: TaskTracker,
    /// Which tasks run now; the guard in each task takes it out again.
    running: Mutex<Running>,
    /// Told whenever a task that the drain waits for is gone.
    gone: Notify,
    failed: AtomicBool,
}

#[derive(Debug, Default)]
struct Running {
    next: u64,
    /// Tasks that a drain waits for.
    awaited: BTreeMap<u64, &'static str>,
}

tokio::task_local! {
    /// Number of the lifecycle's task that runs now.
    static TASK: u64;
}

/// Takes a task out of `running`, however it ended.
struct Registration {
    shared: Arc<Shared>,
    number: u64,
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.shared.running.lock().awaited.remove(&self.number);
        self.shared.gone.notify_one();
    }
}

impl Default for Lifecycle {
    fn default() -> Self {
        Self::new()
    }
}

impl Lifecycle {
    /// A lifecycle in which nothing runs yet.
    pub fn new() -> Self {
        let hard = CancellationToken::new();
        Self {
            shared: Arc::new(Shared {
                soft: hard.child_token(),
                hard,
                tracker: TaskTracker::new(),
                running: Mutex::default(),
                gone: Notify::new(),
                failed: AtomicBool::new(false),
            }),
        }
    }

    /// Cancelled when the drain begins. Cancelling the returned token ends nothing but its own
    /// children.
    pub fn soft(&self) -> CancellationToken {
        self.shared.soft.child_token()
    }

    /// Cancelled when whatever still runs must end at once. Implies soft.
    pub fn hard(&self) -> CancellationToken {
        self.shared.hard.child_token()
    }

    /// Runs a future as a named task; a panic counts as an error. The task is dropped at `hard`.
    /// [`Lifecycle::finish`] waits for it.
    pub fn spawn<E: Display + Send + 'static>(
        &self,
        name: &'static str,
        on_error: OnError,
        future: impl Future<Output = Result<(), E>> + Send + 'static,
    ) {
        self.run(name, on_error, true, future);
    }

    /// Like [`Lifecycle::spawn`] for a task that goes on until `hard` by design, so that a drain
    /// can be watched or hurried: `finish` neither waits for it nor counts it as cut.
    pub fn spawn_until_hard<E: Display + Send + 'static>(
        &self,
        name: &'static str,
        on_error: OnError,
        future: impl Future<Output = Result<(), E>> + Send + 'static,
    ) {
        self.run(name, on_error, false, future);
    }

    fn run<E: Display + Send + 'static>(
        &self,
        name: &'static str,
        on_error: OnError,
        awaited: bool,
        future: impl Future<Output = Result<(), E>> + Send + 'static,
    ) {
        let registration = self.register(name, awaited);
        let lifecycle = self.clone();
        let hard = self.hard();
        let number = registration.number;
        self.shared.tracker.spawn(async move {
            let registration = registration;
            let future = AssertUnwindSafe(TASK.scope(number, future)).catch_unwind();
            // Waits for the end of the task, or for hard. Biased: a task that is spawned after
            // hard must not begin.
            let result = tokio::select! {
                biased;
                () = hard.cancelled() => return,
                result = future => result,
            };
            match result {
                Ok(Ok(())) => {}
                Ok(Err(error)) => lifecycle.task_failed(name, on_error, &error),
                Err(panic) => lifecycle.task_failed(name, on_error, &panic_text(&*panic)),
            }
            drop(registration);
        });
    }

    fn register(&self, name: &'static str, awaited: bool) -> Registration {
        let mut running = self.shared.running.lock();
        let number = running.next;
        running.next += 1;
        if awaited {
            running.awaited.insert(number, name);
        }
        Registration {
            shared: self.shared.clone(),
            number,
        }
    }

    fn task_failed(&self, name: &'static str, on_error: OnError, error: &dyn Display) {
        tracing::error!(task.name = name, %error, "task failed");
        if on_error == OnError::Stop {
            self.shared.failed.store(true, Ordering::Release);
            self.begin_drain("a task failed");
        }
    }

    /// Begins the drain, as the first SIGTERM does. Only the first reason is logged.
    pub fn begin_drain(&self, reason: &str) {
        if !self.shared.soft.is_cancelled() {
            tracing::info!(reason, "drain begins");
        }
        self.shared.soft.cancel();
    }

    /// Ends everything now, as the second SIGTERM does.
    pub fn stop_now(&self) {
        self.shared.hard.cancel();
    }

    /// Cancels soft at the first SIGTERM or SIGINT and hard at the second. Runs until hard. The
    /// task of this lifecycle that calls it is no longer waited for by [`Lifecycle::finish`].
    /// Fails if the handlers cannot be installed.
    pub async fn watch_signals(&self) -> std::io::Result<()> {
        let mut term = signal(SignalKind::terminate())?;
        let mut int = signal(SignalKind::interrupt())?;
        if let Ok(number) = TASK.try_with(|number| *number) {
            self.shared.running.lock().awaited.remove(&number);
            self.shared.gone.notify_one();
        }
        loop {
            // Waits for either signal, or for hard.
            let name = tokio::select! {
                _ = term.recv() => "SIGTERM",
                _ = int.recv() => "SIGINT",
                () = self.shared.hard.cancelled() => return Ok(()),
            };
            if self.shared.soft.is_cancelled() {
                tracing::warn!(signal = name, "stop at once");
                self.stop_now();
            } else {
                self.begin_drain(name);
            }
        }
    }

    /// Waits until soft is cancelled and all tasks are over, at most `grace` after soft; then hard
    /// (and names in a log line the tasks that were still running). Returns the exit code (0, or 1
    /// if a Stop task failed or tasks were cut).
    pub async fn finish(&self, grace: Duration) -> ExitCode {
        self.finished(grace).await.exit_code()
    }

    /// [`Lifecycle::finish`] for callers that want to see what happened.
    pub async fn finished(&self, grace: Duration) -> Outcome {
        self.shared.soft.cancelled().await;
        // Waits for the end of all tasks, or for hard, or for the end of the grace.
        tokio::select! {
            () = self.all_gone() => {}
            () = self.shared.hard.cancelled() => {}
            () = tokio::time::sleep(grace) => {}
        }
        let cut: Vec<_> = self
            .shared
            .running
            .lock()
            .awaited
            .values()
            .copied()
            .collect();
        if !cut.is_empty() {
            tracing::error!(tasks = ?cut, "cut tasks that did not end within the grace");
        }
        self.shared.hard.cancel();
        self.shared.tracker.close();
        if timeout(CUT, self.shared.tracker.wait()).await.is_err() {
            tracing::error!("a task blocks its thread and is left behind");
        }
        let failed = self.shared.failed.load(Ordering::Acquire);
        Outcome { failed, cut }
    }

    async fn all_gone(&self) {
        // `notify_one` leaves a permit when nobody waits, so a task that goes between the look
        // and the wait is not missed; only one `finish` runs in a process.
        while !self.shared.running.lock().awaited.is_empty() {
            self.shared.gone.notified().await;
        }
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("panic: {}", text.unwrap_or("of an unknown type"))
}

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, future::pending};

    use super::*;

    /// Never reached unless a test fails.
    const GRACE: Duration = Duration::from_secs(30);
    const SHORT: Duration = Duration::from_millis(50);

    fn clean() -> Outcome {
        Outcome {
            failed: false,
            cut: vec![],
        }
    }

    #[tokio::test]
    async fn drain_waits_for_tasks_and_exits_zero() {
        let life = Lifecycle::new();
        let soft = life.soft();
        let done = Arc::new(AtomicBool::new(false));
        let flag = done.clone();
        life.spawn("worker", OnError::Stop, async move {
            soft.cancelled().await;
            tokio::time::sleep(SHORT).await;
            flag.store(true, Ordering::Release);
            Ok::<_, Infallible>(())
        });
        life.begin_drain("test");
        assert_eq!(life.finished(GRACE).await, clean());
        assert!(done.load(Ordering::Acquire));
        assert!(life.hard().is_cancelled());
        assert_eq!(
            format!("{:?}", life.finish(GRACE).await),
            format!("{:?}", ExitCode::SUCCESS)
        );
    }

    #[tokio::test]
    async fn tasks_that_outlast_the_grace_are_cut_and_named() {
        let life = Lifecycle::new();
        let dropped = CancellationToken::new();
        let guard = dropped.clone().drop_guard();
        life.spawn("endless", OnError::Log, async move {
            let _guard = guard;
            pending::<Result<(), Infallible>>().await
        });
        life.spawn("short", OnError::Log, async { Ok::<_, Infallible>(()) });
        life.begin_drain("test");
        let begun = tokio::time::Instant::now();
        let outcome = life.finished(SHORT).await;
        assert_eq!(outcome.cut, ["endless"]);
        assert!(begun.elapsed() >= SHORT && begun.elapsed() < GRACE);
        assert!(dropped.is_cancelled(), "the future was dropped");
        assert_eq!(
            format!("{:?}", outcome.exit_code()),
            format!("{:?}", ExitCode::FAILURE)
        );
    }

    #[tokio::test]
    async fn error_and_panic_of_a_stop_task_drain_the_process() {
        for panics in [false, true] {
            let life = Lifecycle::new();
            life.spawn("broken", OnError::Stop, async move {
                assert!(!panics, "boom");
                Err("broken")
            });
            let outcome = life.finished(GRACE).await;
            assert!(outcome.failed && outcome.cut.is_empty(), "{outcome:?}");
        }
    }

    #[tokio::test]
    async fn error_of_a_log_task_changes_nothing() {
        let life = Lifecycle::new();
        life.spawn("flaky", OnError::Log, async { Err("flaky") });
        life.all_gone().await;
        assert!(!life.soft().is_cancelled());
        life.begin_drain("test");
        assert_eq!(life.finished(GRACE).await, clean());
    }

    #[tokio::test]
    async fn tasks_until_hard_live_through_the_drain_and_are_not_cut() {
        let life = Lifecycle::new();
        let hard_seen = CancellationToken::new();
        let guard = hard_seen.clone().drop_guard();
        life.spawn_until_hard("ops", OnError::Log, async move {
            let _guard = guard;
            pending::<Result<(), Infallible>>().await
        });
        let watcher = life.clone();
        life.spawn("signals", OnError::Stop, async move {
            watcher.watch_signals().await
        });
        let (soft, seen) = (life.soft(), hard_seen.clone());
        life.spawn("drain", OnError::Stop, async move {
            soft.cancelled().await;
            tokio::time::sleep(SHORT).await;
            if seen.is_cancelled() {
                return Err("ops ended before hard");
            }
            Ok(())
        });
        life.begin_drain("test");
        assert_eq!(life.finished(GRACE).await, clean());
        assert!(hard_seen.is_cancelled());
    }

    #[tokio::test]
    async fn hard_implies_soft_and_a_late_task_never_begins() {
        let life = Lifecycle::new();
        life.stop_now();
        assert!(life.soft().is_cancelled());
        let begun = Arc::new(AtomicBool::new(false));
        let flag = begun.clone();
        life.spawn("late", OnError::Log, async move {
            flag.store(true, Ordering::Release);
            Ok::<_, Infallible>(())
        });
        life.finished(GRACE).await;
        assert!(!begun.load(Ordering::Acquire));
    }
}
