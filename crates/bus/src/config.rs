use std::fmt;

use hubbub_protocol::PodId;

/// Events that wait in the inbox: some 4 MB of usual messages, half a second of a busy pod.
const INBOX_EVENTS: usize = 4_096;
/// Publishes that wait: as much as Redis takes in some 10 ms when pipelined.
const PUBLISH_QUEUE: usize = 4_096;

/// Where the bus is, and who we are on it.
#[derive(Clone)]
pub struct Config {
    /// `redis://[user:password@]host:port`.
    pub url: String,
    /// The same server for the subscriber's connection, where that goes another way (a proxy).
    pub subscribe_url: String,
    /// Names the connections (`CLIENT LIST`) and the channel `pod-<id>` of the probes. Unique
    /// among running processes.
    pub pod: PodId,
    /// Events in the inbox; past it: drop, count, Lost and subscribe again. From 1.
    pub inbox_events: usize,
    /// Publishes waiting; past it `offer` refuses. From 1.
    pub publish_queue: usize,
}

impl Config {
    /// The usual bounds.
    pub fn new(url: &str, pod: PodId) -> Self {
        Self {
            url: url.to_owned(),
            subscribe_url: url.to_owned(),
            pod,
            inbox_events: INBOX_EVENTS,
            publish_queue: PUBLISH_QUEUE,
        }
    }
}

/// Without the URLs, which may hold a password.
impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("pod", &self.pod)
            .field("inbox_events", &self.inbox_events)
            .field("publish_queue", &self.publish_queue)
            .finish_non_exhaustive()
    }
}
