//! Reports on their way from the producer's thread to a task. The thread wakes the task once for
//! all that comes until the task has been there: to wake another thread's runtime is a system
//! call, and what the task does for the first report alone it would do again for the others.

use std::{fmt, sync::Arc};

use parking_lot::Mutex;
use tokio::{sync::Notify, task::yield_now};
use tokio_util::sync::CancellationToken;

use crate::{Report, Reports, appender::Outstanding, producer::OnReports};

/// Reports that are handed on in one turn of the task.
const TURN: usize = 256;

/// The reports of an appender that was started with [`crate::Appender::start_queued`], at most
/// 10,000. Until [`ReportQueue::run`] has handed them on, their records count as outstanding, and
/// no others are taken beyond that number.
pub struct ReportQueue<T> {
    waiting: Arc<Waiting<T>>,
    outstanding: Arc<Outstanding>,
}

struct Waiting<T> {
    reports: Mutex<Vec<(T, Report)>>,
    some: Notify,
}

impl<T> fmt::Debug for ReportQueue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReportQueue").finish_non_exhaustive()
    }
}

impl<T: Send + 'static> ReportQueue<T> {
    pub(crate) fn new(outstanding: &Arc<Outstanding>) -> (Self, OnReports<T>) {
        let waiting = Arc::new(Waiting {
            reports: Mutex::default(),
            some: Notify::new(),
        });
        let queue = Self {
            waiting: Arc::clone(&waiting),
            outstanding: Arc::clone(outstanding),
        };
        let on_reports = move |reports: Reports<'_, T>| {
            let mut all = waiting.reports.lock();
            let first = all.is_empty();
            all.extend(reports);
            drop(all);
            if first {
                waiting.some.notify_one();
            }
        };
        (queue, Arc::new(on_reports))
    }

    /// Hands reports on, in log order within each partition, until `stop`, and then those that are
    /// there. `on_reports` must not block. Cancelled, it loses what it has not handed on.
    pub async fn run(self, stop: CancellationToken, mut on_reports: impl FnMut(Reports<'_, T>)) {
        let mut taken = Vec::new();
        loop {
            let stopped = tokio::select! {
                () = self.waiting.some.notified() => false,
                () = stop.cancelled() => true,
            };
            std::mem::swap(&mut *self.waiting.reports.lock(), &mut taken);
            while !taken.is_empty() {
                let count = taken.len().min(TURN);
                on_reports(taken.drain(..count));
                // Behind the callback: a flush that returns has seen every report.
                self.outstanding.done(count as u64);
                if !taken.is_empty() {
                    yield_now().await;
                }
            }
            taken.shrink_to(TURN);
            if stopped {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::Future,
        pin::pin,
        sync::atomic::{AtomicUsize, Ordering},
        task::{Context, Poll, Wake, Waker},
    };

    use super::*;

    #[derive(Default)]
    struct Wakes(AtomicUsize);

    impl Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Reports with these tags come from the producer's thread.
    fn come(on_reports: &OnReports<usize>, tags: std::ops::Range<usize>) {
        let mut reports: Vec<_> = tags
            .map(|tag| (tag, Report::Unknown(String::new())))
            .collect();
        on_reports(reports.drain(..));
    }

    #[test]
    fn task_is_woken_once_and_hands_on_in_order_and_by_turns() {
        let outstanding = Arc::<Outstanding>::default();
        (0..TURN + 2).for_each(|_| outstanding.add());
        let (queue, on_reports) = ReportQueue::new(&outstanding);
        let (stop, handed_on) = (CancellationToken::new(), Mutex::new(Vec::new()));
        let mut run = pin!(queue.run(stop.clone(), |reports: Reports<'_, usize>| {
            handed_on.lock().push((
                reports.map(|(tag, _)| tag).collect::<Vec<_>>(),
                outstanding.records(),
            ));
        }));
        let wakes = Arc::<Wakes>::default();
        let waker = Waker::from(Arc::clone(&wakes));
        let mut poll = || run.as_mut().poll(&mut Context::from_waker(&waker));
        assert_eq!(poll(), Poll::Pending);

        come(&on_reports, 0..TURN);
        come(&on_reports, TURN..TURN + 1);
        assert_eq!(wakes.0.load(Ordering::Relaxed), 1);
        // The first turn ends before the last report.
        assert_eq!(poll(), Poll::Pending);
        let first = ((0..TURN).collect::<Vec<_>>(), (TURN + 2) as u64);
        assert_eq!(*handed_on.lock(), [first]);
        assert_eq!(outstanding.records(), 2);
        assert_eq!(poll(), Poll::Pending);
        assert_eq!(handed_on.lock().pop(), Some((vec![TURN], 2)));
        assert_eq!(outstanding.records(), 1);

        // What is there when it stops is handed on as well.
        stop.cancel();
        come(&on_reports, TURN + 1..TURN + 2);
        assert_eq!(poll(), Poll::Ready(()));
        assert_eq!(handed_on.lock().pop(), Some((vec![TURN + 1], 1)));
        assert_eq!(outstanding.records(), 0);
    }
}
