//! What is left to be done after the lock is released.

use std::sync::Arc;

use hubbub_protocol::{ChannelId, UserId};

use crate::{feed::Request, socket::Socket};

/// What a turn under the lock left to be done outside of it.
#[derive(Debug, Default)]
pub(crate) struct Turn {
    /// Sockets with something to write.
    pub(crate) dirty: Vec<Arc<Socket>>,
    /// Questions to the store.
    pub(crate) requests: Vec<(ChannelId, Request)>,
    /// Users whose direct channels are to be read and joined: all of them, or one that is new.
    pub(crate) directs: Vec<(UserId, Option<ChannelId>)>,
}

impl Turn {
    /// Adds what another turn left to be done.
    pub(crate) fn merge(&mut self, other: Self) {
        self.dirty.extend(other.dirty);
        self.requests.extend(other.requests);
        self.directs.extend(other.directs);
    }
}
