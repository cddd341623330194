//! What is to happen.

/// What is to happen at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Due {
    Append {
        op: u64,
        message: usize,
        publish: bool,
    },
    Publish {
        message: usize,
        seq: u64,
    },
    Live {
        stream: usize,
        connection: u64,
        message: usize,
        seq: u64,
    },
    Answer {
        op: u64,
        seq: Option<u64>,
    },
    Commit {
        channel: usize,
    },
    Announce {
        stream: usize,
        connection: u64,
        through: u64,
    },
    Open {
        device: usize,
    },
    Rejoin {
        stream: usize,
        fresh: bool,
    },
    Attach {
        stream: usize,
    },
    Ask {
        op: u64,
        user: usize,
        channel: usize,
        remove: bool,
    },
    Removed {
        op: u64,
        user: usize,
        channel: usize,
    },
    Readded {
        op: u64,
        user: usize,
        channel: usize,
    },
    Act {
        step: usize,
    },
}
