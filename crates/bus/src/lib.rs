//! The bus: Redis pub/sub, leases and questions. It forgets: everything here may be lost.
use bytes::Bytes;
use hubbub_protocol::{Answer, BusChannel, PodId, Question};
use std::{collections::BTreeMap, time::Duration};
use tokio_util::sync::CancellationToken;

#[derive(Debug, Clone)]
pub struct Config {
    /// redis://host:port
    pub url: String,
    /// CLIENT SETNAME and the pod channel of the deaf probe
    pub pod: PodId,
    /// events; past it: drop, count, Lost + subscribe again
    pub inbox_events: usize,
    /// publishes waiting; past it `offer` refuses
    pub publish_queue: usize,
}
impl Config {
    pub fn new(_url: &str, _pod: PodId) -> Self {
        todo!()
    }
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("publish queue is full")]
    Full,
    #[error("redis did not answer in time")]
    Timeout,
    #[error("redis: {0}")]
    Redis(#[from] redis::RedisError),
}

/// Metrics of this crate; registered by the binary.
#[derive(Debug, Clone, Default)]
pub struct Metrics {}
impl Metrics {
    pub fn register(&self, _registry: &mut prometheus_client::registry::Registry) {
        todo!()
    }
}

/// Publishes, pipelined on one connection, in the order of the calls. Cheap handle.
#[derive(Debug, Clone)]
pub struct Publisher {}
impl Publisher {
    /// The actor must be run (spawned by the binary); it reconnects with jitter for ever.
    pub fn new(_config: &Config, _metrics: &Metrics) -> (Self, PublisherTask) {
        todo!()
    }
    /// Queues; never waits. A publish that fails later is counted and forgotten.
    pub fn offer(&self, _to: &BusChannel, _payload: Bytes) -> Result<(), Error> {
        todo!()
    }
    /// Publishes and waits for Redis's answer (deadline inside): number of receivers.
    pub async fn publish(&self, _to: &BusChannel, _payload: Bytes) -> Result<u64, Error> {
        todo!()
    }
    /// Waits until all that was offered so far was written or failed (drain).
    pub async fn flush(&self) {
        todo!()
    }
}
#[derive(Debug)]
pub struct PublisherTask {}
impl PublisherTask {
    pub async fn run(self, _stop: CancellationToken) -> Result<(), Error> {
        todo!()
    }
}

/// What the subscriber's inbox holds, in the order in which the connection gave it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    Message {
        channel: BusChannel,
        payload: Bytes,
    },
    /// Redis confirmed a SUBSCRIBE of this channel: the first, or a later one after a gap.
    Subscribed(BusChannel),
    /// The connection was lost, deaf, or the inbox overflowed: every wanted channel will be subscribed
    /// again, each with its own `Subscribed`.
    Lost,
}
/// Says what is wanted. Never waits; orders go through one ordered stream. Cheap handle.
#[derive(Debug, Clone)]
pub struct Subscriber {}
impl Subscriber {
    pub fn new(_config: &Config, _metrics: &Metrics) -> (Self, Inbox, SubscriberTask) {
        todo!()
    }
    pub fn subscribe(&self, _channel: BusChannel) {
        todo!()
    }
    pub fn unsubscribe(&self, _channel: BusChannel) {
        todo!()
    }
    /// Whether the connection is up and has heard itself within the probe's deadline.
    pub fn is_connected(&self) -> bool {
        todo!()
    }
}
/// The bounded inbox. One task drains it.
#[derive(Debug)]
pub struct Inbox {}
impl Inbox {
    /// Waits for at least one event and moves all that are there to `into`. Cancel-safe.
    pub async fn recv_all(&mut self, _into: &mut Vec<Event>) {
        todo!()
    }
}
#[derive(Debug)]
pub struct SubscriberTask {}
impl SubscriberTask {
    pub async fn run(self, _stop: CancellationToken) -> Result<(), Error> {
        todo!()
    }
}

/// Leases of pods: keys `pod:<id>` that expire 5 s after the last renewal.
#[derive(Debug, Clone)]
pub struct Leases {}
pub const LEASE: Duration = Duration::from_secs(5);
impl Leases {
    pub fn new(_publisher: &Publisher) -> Self {
        todo!()
    }
    /// SET pod:<id> EX 5.
    pub async fn renew(&self, _pod: &PodId) -> Result<(), Error> {
        todo!()
    }
    pub async fn release(&self, _pod: &PodId) -> Result<(), Error> {
        todo!()
    }
    /// All pods with a lease, by SCAN; never cached.
    pub async fn pods(&self) -> Result<Vec<PodId>, Error> {
        todo!()
    }
}

/// Asks all pods and collects their answers (the asker subscribes to its own `pod-<id>`).
#[derive(Debug, Clone)]
pub struct Asker {}
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Survey {
    pub answers: BTreeMap<PodId, Answer>,
    pub missing: Vec<PodId>,
}
impl Asker {
    pub fn new(_publisher: Publisher, _leases: Leases, _me: PodId) -> Self {
        todo!()
    }
    /// Hands over a `PodMessage::Reply` from the inbox. Late ones are dropped and counted.
    pub fn on_reply(&self, _request: uuid::Uuid, _pod: PodId, _answer: Answer) {
        todo!()
    }
    /// One question; expected set = leases; answers until `deadline`.
    pub async fn ask(&self, _question: Question, _deadline: Duration) -> Result<Survey, Error> {
        todo!()
    }
    /// Asks every 250 ms until each pod that has a lease has answered; a pod whose lease vanished is no longer
    /// expected. At most `deadline`, then `missing` is not empty.
    pub async fn ask_until_all(
        &self,
        _question: Question,
        _deadline: Duration,
    ) -> Result<Survey, Error> {
        todo!()
    }
}

/// What is live in Redis now, for `hubbub pubsub`.
#[derive(Debug)]
pub struct Inspect {}
impl Inspect {
    pub async fn connect(_url: &str) -> Result<Self, Error> {
        todo!()
    }
    pub async fn channels(&mut self, _pattern: &str) -> Result<Vec<String>, Error> {
        todo!()
    }
    pub async fn numsub(&mut self, _channels: &[String]) -> Result<Vec<(String, u64)>, Error> {
        todo!()
    }
    /// Prints through `on`: (channel, payload) until it returns false.
    pub async fn tail(
        self,
        _pattern: &str,
        _on: impl FnMut(&str, &[u8]) -> bool + Send,
    ) -> Result<(), Error> {
        todo!()
    }
}
