//! What a user may do: post, create, join, leave, add, remove. Check, append, publish.
use hubbub_bus::{Asker, Publisher};
use hubbub_protocol::{ChannelId, ErrorBody, MessageReply, SendMessage, UserId, http};
use hubbub_store::Store;
use std::{sync::Arc, time::Duration};

/// The sender's deadline: after it the answer is `unknown` (design: `delivery.timeout.ms` overruns).
pub const SEND_DEADLINE: Duration = Duration::from_secs(5);

/// Proof that `user` was a member of `channel` when it was made: only this crate and an edge's member cache make one.
#[derive(Debug, Clone, Copy)]
pub struct Permit {
    channel: ChannelId,
    user: UserId,
}
impl Permit {
    /// By an edge whose open feed vouches for the membership.
    pub fn from_cache(channel: ChannelId, user: UserId) -> Self {
        Self { channel, user }
    }
    pub fn channel(&self) -> ChannelId {
        self.channel
    }
    pub fn user(&self) -> UserId {
        self.user
    }
}

/// Why something was not done. Translated once, at the border.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("channel not found")]
    ChannelNotFound,
    #[error("user not found")]
    UserNotFound,
    #[error("forbidden: {0}")]
    Forbidden(&'static str),
    #[error("name taken")]
    NameTaken,
    #[error("{message}")]
    Invalid {
        field: &'static str,
        message: String,
        limit: Option<u64>,
    },
    #[error("rate limited")]
    RateLimited { retry_after_ms: u64 },
    /// The record never reached the log.
    #[error("send rejected: {0}")]
    Rejected(String),
    /// It may be in the log.
    #[error("outcome unknown: {0}")]
    Unknown(String),
    #[error("pods did not confirm: {0:?}")]
    Unconfirmed(Vec<hubbub_protocol::PodId>),
    #[error(transparent)]
    Store(#[from] hubbub_store::Error),
    #[error(transparent)]
    Bus(#[from] hubbub_bus::Error),
}
impl Error {
    /// The error as the client sees it: never an inner message.
    pub fn body(&self) -> ErrorBody {
        todo!()
    }
}

#[derive(Debug, Clone, Default)]
pub struct Metrics {}
impl Metrics {
    pub fn register(&self, _registry: &mut prometheus_client::registry::Registry) {
        todo!()
    }
}

#[derive(Debug, Clone)]
pub struct Config {
    /// sends per second and user, and burst (kept per process)
    pub send_rate: f64,
    pub send_burst: f64,
}

/// Cheap handle.
#[derive(Clone)]
pub struct Chat {
    _inner: Arc<()>,
}
impl Chat {
    /// Starts the log's producer inside (`hubbub_log::Appender`); its reports publish and resolve in log order.
    pub fn start(
        _config: Config,
        _log: &hubbub_log::Config,
        _log_metrics: &hubbub_log::Metrics,
        _metrics: &Metrics,
        _store: Store,
        _publisher: Publisher,
    ) -> Result<Self, hubbub_log::Error> {
        todo!()
    }
    pub async fn warm_up(&self) -> Result<(), hubbub_log::Error> {
        todo!()
    }
    pub async fn flush(&self, _deadline: Duration) -> Result<(), hubbub_log::Error> {
        todo!()
    }
    /// Membership by the primary.
    pub async fn permit(&self, _channel: ChannelId, _user: UserId) -> Result<Permit, Error> {
        todo!()
    }
    /// Hands the message to the log at once (so that calls of one socket keep their order) and returns what will say how it went:
    /// `ok` only after the log acknowledged and the event was offered to the bus; `Unknown` after SEND_DEADLINE.
    pub fn post(&self, _permit: Permit, _send: SendMessage) -> Result<Posting, Error> {
        todo!()
    }
    pub async fn create_channel(
        &self,
        _user: UserId,
        _new: http::NewChannel,
    ) -> Result<http::Channel, Error> {
        todo!()
    }
    /// `actor` adds `member` (itself to a public channel; others as admin).
    pub async fn add_member(
        &self,
        _actor: UserId,
        _channel: ChannelId,
        _member: UserId,
    ) -> Result<http::MembershipReply, Error> {
        todo!()
    }
    /// Answered once every leased pod has confirmed that `member` gets nothing more (P8).
    pub async fn remove_member(
        &self,
        _asker: &Asker,
        _actor: UserId,
        _channel: ChannelId,
        _member: UserId,
    ) -> Result<http::MembershipReply, Error> {
        todo!()
    }
}
/// A send under way. Dropping it does not take the message back.
#[derive(Debug)]
pub struct Posting {}
impl Posting {
    pub async fn wait(self) -> Result<MessageReply, Error> {
        todo!()
    }
}
