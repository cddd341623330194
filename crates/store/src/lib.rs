//! The store: Postgres. It answers. Core (users, channels, memberships, maps) and shards (messages).
use hubbub_protocol::{
    ChannelId, MessageId, MessageKey, PodId, RecordKind, Seq, UserId,
    http::{Channel, ChannelKind, ListPage, Member, Role, User},
};
use std::time::Duration;

#[derive(Debug, Clone)]
pub struct Config {
    pub core_url: String,
    pub shard_urls: Vec<String>,
    pub core_connections: u32,
    pub shard_connections: u32,
}

/// Which database did not answer is part of the error, so that the border can say `core_unavailable` or `shard_unavailable`.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("core database: {0}")]
    Core(#[source] sqlx::Error),
    #[error("shard {shard}: {error}")]
    Shard {
        shard: usize,
        #[source]
        error: sqlx::Error,
    },
    /// Another cluster, another partition count, a shard that says it is another one, pending migrations: start-up only. Names the remedy.
    #[error("{0}")]
    Refused(String),
    #[error("a channel of that name exists")]
    NameTaken,
    #[error("no such user")]
    NoUser,
}

#[derive(Debug, Clone, Default)]
pub struct Metrics {}
impl Metrics {
    pub fn register(&self, _registry: &mut prometheus_client::registry::Registry) {
        todo!()
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogIdentity {
    pub cluster_id: String,
    pub topic: String,
    pub partitions: u32,
    pub base: u64,
}

/// A stored record: the server frame without its seq.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    pub seq: Seq,
    pub key: MessageKey,
    pub body: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Membership {
    pub kind: ChannelKind,
    pub role: Role,
}

/// Which page of history; bounds exclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Window {
    Newest,
    Before(Seq),
    After(Seq),
    Around(Seq),
}
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    pub rows: Vec<Row>,
    pub has_more: bool,
    pub head: Seq,
}

/// What a sweep of one shard found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sweep {
    /// per partition, as seqs (next_offset + base)
    pub positions: Vec<(i32, Seq)>,
    /// (channel number, through) above the positions given
    pub heads: Vec<(i64, Seq)>,
}

/// A record for the consumer's transaction.
#[derive(Debug, Clone)]
pub struct NewRow {
    pub seq: Seq,
    pub channel: ChannelId,
    pub kind: RecordKind,
    pub key: MessageKey,
    pub ts_ms: i64,
    pub body: String,
}
/// One record of a batch, in log order.
#[derive(Debug, Clone)]
pub enum Incoming {
    Row(NewRow),
    /// can never be stored; channel only if it could be read from the record (its head advances too)
    Dead {
        seq: Seq,
        channel: Option<ChannelId>,
        payload: Option<Vec<u8>>,
        key: Option<Vec<u8>>,
        ts_ms: i64,
        error: String,
    },
}
/// Per channel touched: what to announce.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Touched {
    pub channel: ChannelId,
    pub from: Seq,
    pub through: Seq,
    pub seqs: Vec<Seq>,
}
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    pub touched: Vec<Touched>,
    pub rows: u64,
    pub duplicates: u64,
    pub dead: u64,
}
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The compare-and-set gave 0 rows: somebody else owns the partition. Forget everything and start from `log_position`.
    #[error("another consumer has moved the position")]
    Zombie,
    /// SQLSTATE class 22 or 23 on the batch: bisect it; on a batch of one: it is a dead letter.
    #[error("record refused by the database: {0}")]
    Data(String),
    #[error(transparent)]
    Store(#[from] Error),
}

/// Cheap handle; pools inside; every statement has a deadline.
#[derive(Debug, Clone)]
pub struct Store {}
impl Store {
    /// Connects lazily to the shards, reads the maps and identities; refuses what does not fit. A shard that is away is no error (it is checked when it is back).
    pub async fn open(_config: &Config, _metrics: &Metrics) -> Result<Self, Error> {
        todo!()
    }
    pub fn log_identity(&self) -> &LogIdentity {
        todo!()
    }
    pub fn shards(&self) -> usize {
        todo!()
    }
    pub fn shard_of_partition(&self, _partition: i32) -> usize {
        todo!()
    }
    pub fn shard_of(&self, _channel: ChannelId) -> usize {
        todo!()
    }
    // --- users and channels (core)
    pub async fn user_by_subject(&self, _subject: &str) -> Result<Option<User>, Error> {
        todo!()
    }
    /// Creates it if absent (`--provision-users`, seeding).
    pub async fn provision_user(&self, _subject: &str, _name: &str) -> Result<User, Error> {
        todo!()
    }
    pub async fn user(&self, _user: UserId) -> Result<Option<User>, Error> {
        todo!()
    }
    pub async fn create_channel(
        &self,
        _name: &str,
        _kind: ChannelKind,
        _creator: UserId,
    ) -> Result<Channel, Error> {
        todo!()
    }
    /// The channel if `viewer` may see it (member, or public).
    pub async fn channel(
        &self,
        _channel: ChannelId,
        _viewer: UserId,
    ) -> Result<Option<Channel>, Error> {
        todo!()
    }
    pub async fn channel_by_name(
        &self,
        _name: &str,
        _viewer: UserId,
    ) -> Result<Option<Channel>, Error> {
        todo!()
    }
    /// The viewer's channels and the public ones, by number; `after` = last number of the previous page.
    pub async fn channels(
        &self,
        _viewer: UserId,
        _after: i64,
        _limit: usize,
    ) -> Result<ListPage<Channel>, Error> {
        todo!()
    }
    // --- memberships (core, primary)
    pub async fn membership(
        &self,
        _channel: ChannelId,
        _user: UserId,
    ) -> Result<Option<Membership>, Error> {
        todo!()
    }
    /// Those of `users` that are members: one statement, when a feed reopens.
    pub async fn members_among(
        &self,
        _channel: ChannelId,
        _users: &[UserId],
    ) -> Result<Vec<UserId>, Error> {
        todo!()
    }
    pub async fn members(
        &self,
        _channel: ChannelId,
        _after: i64,
        _limit: usize,
    ) -> Result<ListPage<Member>, Error> {
        todo!()
    }
    /// true = changed.
    pub async fn add_member(
        &self,
        _channel: ChannelId,
        _user: UserId,
        _role: Role,
    ) -> Result<bool, Error> {
        todo!()
    }
    pub async fn set_added_seq(
        &self,
        _channel: ChannelId,
        _user: UserId,
        _seq: Seq,
    ) -> Result<(), Error> {
        todo!()
    }
    pub async fn remove_member(&self, _channel: ChannelId, _user: UserId) -> Result<bool, Error> {
        todo!()
    }
    // --- messages (shards, primary)
    pub async fn page(
        &self,
        _channel: ChannelId,
        _window: Window,
        _limit: usize,
    ) -> Result<Page, Error> {
        todo!()
    }
    pub async fn head(&self, _channel: ChannelId) -> Result<Seq, Error> {
        todo!()
    }
    /// heads of many channels of one shard, one statement (at_least waiters); absent = 0
    pub async fn heads(
        &self,
        _shard: usize,
        _channels: &[ChannelId],
    ) -> Result<Vec<(ChannelId, Seq)>, Error> {
        todo!()
    }
    /// Rows with these seqs, ascending; absent ones are absent.
    pub async fn rows(&self, _channel: ChannelId, _seqs: &[Seq]) -> Result<Vec<Row>, Error> {
        todo!()
    }
    /// Rows in (from, through], ascending, at most `limit`.
    pub async fn range(
        &self,
        _channel: ChannelId,
        _from: Seq,
        _through: Seq,
        _limit: usize,
    ) -> Result<Vec<Row>, Error> {
        todo!()
    }
    /// One statement: log positions and the heads above `since` (positions of the last sweep, as seqs).
    pub async fn sweep(&self, _shard: usize, _since: &[(i32, Seq)]) -> Result<Sweep, Error> {
        todo!()
    }
    // --- the consumer
    pub async fn positions(&self, _partitions: &[i32]) -> Result<Vec<(i32, i64)>, Error> {
        todo!()
    }
    /// The transaction: compare-and-set of the position from `expected` to `next_offset`, insert, heads, counts, dead letters.
    /// A partition without a row yet has `expected` 0. `before_commit` runs between the insert and the commit (failpoint).
    pub async fn write_batch(
        &self,
        _partition: i32,
        _expected: i64,
        _next_offset: i64,
        _batch: &[Incoming],
        _before_commit: impl FnOnce() + Send,
    ) -> Result<Written, WriteError> {
        todo!()
    }
    // --- admin
    pub async fn admin_status(&self) -> Result<AdminStatus, Error> {
        todo!()
    }
}
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct AdminStatus {
    pub partitions: Vec<PartitionStatus>,
}
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct PartitionStatus {
    pub partition: i32,
    pub shard: usize,
    pub next_offset: i64,
    pub rows: i64,
    pub duplicates: i64,
    pub dead: i64,
}

/// `hubbub admin init`: creates databases, applies migrations under an advisory lock, writes shard_map, shard identities and log_identity. Idempotent.
/// Refuses a different cluster id or partition count with the remedy.
pub async fn init(_config: &Config, _identity: &LogIdentity) -> Result<(), Error> {
    todo!()
}
/// `hubbub admin new-log`: base above every stored seq, positions to 0, new cluster id.
pub async fn new_log(_config: &Config, _identity: &LogIdentity) -> Result<LogIdentity, Error> {
    todo!()
}
/// Deadline of every read.
pub const READ_DEADLINE: Duration = Duration::from_secs(5);
#[doc(hidden)]
pub type Unused = (PodId, MessageId);
