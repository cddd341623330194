use std::collections::HashMap;

use hubbub_log::Positions;
use hubbub_store::Store;
use tokio::runtime::Handle;

/// The positions in the store, for the log's blocking question.
#[derive(Debug)]
pub(crate) struct StorePositions {
    store: Store,
    runtime: Handle,
}

impl StorePositions {
    /// Must be called within the runtime that the store's connections live in.
    pub(crate) fn new(store: Store) -> Self {
        Self {
            store,
            runtime: Handle::current(),
        }
    }
}

impl Positions for StorePositions {
    fn positions(&self, partitions: &[i32]) -> Result<HashMap<i32, i64>, String> {
        // The store ends every call within its own deadline.
        let read = self.runtime.block_on(self.store.positions(partitions));
        let read = read.map_err(|error| error.to_string())?;
        // 0 is the position of a partition that was never written: it has none yet.
        Ok(read.into_iter().filter(|(_, at)| *at > 0).collect())
    }
}
