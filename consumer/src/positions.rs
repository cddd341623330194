use std::collections::HashMap;

use hubbub_log::Positions;
use hubbub_store::Store;
use tokio::{runtime::Handle, sync::oneshot};

/// Which topic's positions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Of {
    Records,
    Marks,
}

/// The positions in the store, for the log's blocking question.
#[derive(Debug)]
pub(crate) struct StorePositions {
    of: Of,
    store: Store,
    runtime: Handle,
}

impl StorePositions {
    /// Must be called within the runtime that the store's connections live in.
    pub(crate) fn new(of: Of, store: Store) -> Self {
        Self {
            of,
            store,
            runtime: Handle::current(),
        }
    }
}

impl Positions for StorePositions {
    fn positions(&self, partitions: &[i32]) -> Result<HashMap<i32, i64>, String> {
        // The store ends every call within its own deadline.
        let (of, store, partitions) = (self.of, self.store.clone(), partitions.to_vec());
        let read = answer(&self.runtime, async move {
            match of {
                Of::Records => store.positions(&partitions).await,
                Of::Marks => store.marks_positions(&partitions).await,
            }
        });
        let read = read.ok_or("this process ends")?;
        let read = read.map_err(|error| error.to_string())?;
        // 0 is the position of a partition that was never written: it has none yet.
        Ok(read.into_iter().filter(|(_, at)| *at > 0).collect())
    }
}

/// Waits for a future of `runtime` on a thread that is not one of its own; `None` if the runtime
/// ends meanwhile. (`Handle::block_on` would poll it here all the same, and its timers panic.)
fn answer<T: Send + 'static>(
    runtime: &Handle,
    future: impl Future<Output = T> + Send + 'static,
) -> Option<T> {
    let (tell, told) = oneshot::channel();
    runtime.spawn(async move {
        // Nobody listens any more if the thread is gone.
        tell.send(future.await).ok();
    });
    told.blocking_recv().ok()
}

#[cfg(test)]
mod tests {
    use std::{future::pending, time::Duration};

    use tokio::{runtime::Runtime, time::sleep};

    use super::*;

    #[test]
    fn answer_is_given_while_the_runtime_lives() {
        let runtime = Runtime::new().expect("a runtime");
        assert_eq!(answer(runtime.handle(), async { 5 }), Some(5));
    }

    #[test]
    fn question_under_way_when_the_runtime_ends_has_no_answer_and_no_panic() {
        let runtime = Runtime::new().expect("a runtime");
        let handle = runtime.handle().clone();
        let (asked, begun) = oneshot::channel();
        let asker = std::thread::spawn(move || {
            answer(&handle, async move {
                asked.send(()).ok();
                // As the store does: a timer that is there when the runtime ends.
                tokio::select! {
                    () = sleep(Duration::from_secs(3_600)) => {}
                    () = pending() => {}
                }
            })
        });
        begun.blocking_recv().expect("the question is under way");
        runtime.shutdown_background();
        assert_eq!(asker.join().expect("no panic"), None);
    }
}
