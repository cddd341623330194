//! What is recorded of a run: one JSON object a line, in the order of `at_us`.
//!
//! Everything that a process of the suite saw stands here as it saw it: the writers' sends and
//! answers, the devices' frames as on the wire and as the client crate handed them on, the faults,
//! the final reads. Times are microseconds from the start of the run, of one monotonic clock.

use hubbub_protocol::{ChannelId, MessageId, Seq, UserId};
use serde::{Deserialize, Serialize};

/// One line of a history.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// When, microseconds from the start of the run.
    pub at_us: u64,
    /// What.
    pub event: Event,
}

/// A device: its user's subject and a number, `reader-3.2`. One device has one client, which
/// makes one connection after the other.
pub type Device = String;

/// What a record is, as far as the checker must know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Something that was said: these are invoked and answered.
    Message,
    /// A record of another kind (membership), which takes a seq like any other.
    Other,
}

/// The identity of a record and what it says.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Record {
    /// Where.
    pub channel: ChannelId,
    /// Its place.
    pub seq: Seq,
    /// Who sent it.
    pub user: UserId,
    /// Its identity, with channel and user.
    pub id: MessageId,
    /// CRC-32 (IEEE) of the text; 0 for other kinds.
    pub sum: u32,
    /// What it is.
    pub kind: Kind,
}

/// How the client crate says that a record came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Via {
    /// Live, or as a repair that followed shortly after.
    Live,
    /// As part of a catch-up.
    CatchUp,
}

/// A change of a membership.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// The user is added.
    Add,
    /// The user is removed.
    Remove,
}

/// Which way history was paged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Paging {
    /// From the first message on (`after`).
    Forward,
    /// From the newest back (`before`); recorded in ascending order all the same.
    Backward,
}

/// The stretches of a run, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// The workload runs and devices join; no fault yet.
    Calm,
    /// Faults come and go.
    Faults,
    /// All faults are over; the workload goes on.
    Healed,
    /// The workload has ended: every send has its last answer.
    Quiet,
    /// The final reads and samples follow; devices are still connected.
    Final,
}

/// The kinds of faults.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultKind {
    /// An edge is killed (SIGKILL) and started again.
    EdgeKill,
    /// An edge is frozen (SIGSTOP) and goes on.
    EdgeFreeze,
    /// An edge is told to end (SIGTERM), drains, and is started again.
    EdgeDrain,
    /// An edge aborts itself between the log's acknowledgement and the publish.
    EdgeCrashAfterAck,
    /// A consumer is killed and started again.
    ConsumerKill,
    /// A consumer is frozen for longer than its session lasts, and goes on as a zombie.
    ConsumerFreeze,
    /// A consumer aborts itself between its commit and the announcement.
    ConsumerCrashAfterCommit,
    /// A consumer is added, or one leaves in order.
    ConsumerScale,
    /// Redis is killed and started again, empty.
    RedisKill,
    /// Redis is frozen and goes on.
    RedisFreeze,
    /// Redis kills the connections that are subscribed.
    PubsubKill,
    /// One way of some processes' links to Redis carries nothing.
    RedisBlackHole,
    /// Publishes and announcements get lost with some probability.
    BusLossy,
    /// Kafka is killed and started again.
    KafkaDown,
    /// The links to Kafka become slow.
    KafkaSlow,
    /// A shard's Postgres is stopped at once and started again.
    ShardKill,
    /// A shard's tables are locked.
    ShardLock,
    /// A shard's Postgres is frozen and goes on.
    ShardFreeze,
    /// HAProxy reads its configuration again.
    HaproxyReload,
    /// HAProxy is killed and started again.
    HaproxyKill,
    /// A client's connection is reset.
    ClientReset,
    /// A client's connection goes silent, both ways.
    ClientSilent,
    /// A client's connection is torn in the middle of a frame.
    ClientTorn,
    /// A client reads slowly while its channel is busy.
    ClientSlow,
    /// A record that nobody can read is put into the log.
    PoisonRecord,
    /// An API server is killed and started again.
    ApiKill,
    /// A process runs with a wall clock that is wrong and jumps.
    ClockJump,
}

/// A fault of the schedule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// From 1.
    pub number: u32,
    /// What.
    pub kind: FaultKind,
    /// To whom: names of processes, links (`edge-1>redis`) or devices, separated by spaces.
    pub target: String,
    /// When it starts, milliseconds from the start of the phase `faults`.
    pub start_ms: u64,
    /// How long it lasts.
    pub lasts_ms: u64,
    /// What the author of the kind expects to happen, for the report.
    pub hypothesis: String,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// A stretch of the run begins.
    Phase(Phase),

    // Writers. One `op` is one attempt; a message that is sent again has another `op`.
    /// An attempt begins.
    Invoke {
        /// Number of the attempt, unique in the run.
        op: u64,
        /// The message; `seq` is 0, nobody knows it yet.
        record: Record,
        /// The message that this one answers, if its writer had received it.
        answers: Option<MessageId>,
        /// It is a resend, and says so (`retry:true`).
        retry: bool,
    },
    /// The server said `ok`.
    Ok {
        /// The attempt.
        op: u64,
        /// The seq; absent for a resend.
        seq: Option<Seq>,
    },
    /// The server said that the message never reached the log.
    Rejected {
        /// The attempt.
        op: u64,
        /// The error's code.
        code: String,
    },
    /// Nobody knows: an answer that says so, or none before the connection was lost.
    Unknown {
        /// The attempt.
        op: u64,
        /// The error's code, or what happened.
        code: String,
    },

    // Devices.
    /// A connection is up.
    Opened {
        /// Whose.
        device: Device,
        /// The user.
        user: UserId,
        /// Counts the device's connections, from 1.
        connection: u64,
        /// The pod, as `hello` names it.
        pod: String,
    },
    /// A connection is over.
    Closed {
        /// Whose.
        device: Device,
        /// Which.
        connection: u64,
        /// The close code, if the server sent one.
        code: Option<u16>,
    },
    /// A `join` was sent.
    JoinAsked {
        /// Whose.
        device: Device,
        /// On which connection.
        connection: u64,
        /// Where.
        channel: ChannelId,
        /// The cursor.
        since: Option<Seq>,
        /// Strictly by seq.
        ordered: bool,
    },
    /// A `join` was answered with `ok:true`.
    Joined {
        /// Whose.
        device: Device,
        /// On which connection.
        connection: u64,
        /// Where.
        channel: ChannelId,
        /// The cursor that was asked for.
        since: Option<Seq>,
        /// The join point, if it is known.
        head: Option<Seq>,
        /// Whether everything after `since` follows.
        recovered: bool,
        /// Strictly by seq.
        ordered: bool,
    },
    /// The device listens no more: it said `leave`, or the server said `left`.
    Left {
        /// Whose.
        device: Device,
        /// On which connection.
        connection: u64,
        /// Where.
        channel: ChannelId,
        /// Whether the server said it.
        evicted: bool,
    },
    /// A `replay` frame.
    Replay {
        /// Whose.
        device: Device,
        /// On which connection.
        connection: u64,
        /// Where.
        channel: ChannelId,
        /// What follows starts above this and may repeat.
        since: Seq,
    },
    /// A record as it came on the wire, before any deduplication.
    Wire {
        /// Whose.
        device: Device,
        /// On which connection.
        connection: u64,
        /// What.
        record: Record,
    },
    /// A `synced` frame.
    Synced {
        /// Whose.
        device: Device,
        /// On which connection.
        connection: u64,
        /// Where.
        channel: ChannelId,
        /// Everything through this has been sent on this connection before.
        seq: Seq,
    },
    /// A record as the client crate handed it on.
    Given {
        /// Whose.
        device: Device,
        /// What.
        record: Record,
        /// How it came.
        via: Via,
    },
    /// The client crate said that a record which it had given has a lower seq.
    Moved {
        /// Whose.
        device: Device,
        /// What; `seq` is the one that counts.
        record: Record,
        /// The seq that was given.
        from: Seq,
    },

    // Memberships.
    /// A change is asked for.
    MembershipAsked {
        /// Number of the attempt, unique in the run, of one sequence with the writers'.
        op: u64,
        /// Where.
        channel: ChannelId,
        /// Who.
        user: UserId,
        /// What.
        change: Change,
    },
    /// It was answered; without this line nobody knows.
    MembershipAnswered {
        /// The attempt.
        op: u64,
        /// Whether it was done.
        done: bool,
    },

    // Faults.
    /// A fault begins.
    FaultStarted(Fault),
    /// It is over and healed.
    FaultEnded {
        /// Which.
        number: u32,
    },
    /// Somebody noticed it: without such a line the fault was vacuous.
    FaultSeen {
        /// Which.
        number: u32,
        /// What was noticed: `3 sockets cut`, `4 sends unknown`.
        effect: String,
    },

    // Final reads, and what was sampled.
    /// A record of the log, read with a consumer of the checker's own.
    Log {
        /// Partition.
        partition: i32,
        /// Kafka offset.
        offset: i64,
        /// What; absent for one that nobody can read.
        record: Option<Record>,
    },
    /// A row of a shard.
    Row {
        /// The partition that it belongs to.
        partition: i32,
        /// What.
        record: Record,
    },
    /// All of a channel's history as one API server gave it; only messages of kind `message` and
    /// `other` that history shows, ascending.
    Page {
        /// The API server.
        server: String,
        /// Where.
        channel: ChannelId,
        /// Which way it was paged.
        paging: Paging,
        /// Rows a page.
        limit: u32,
        /// What was read.
        entries: Vec<(Seq, MessageId)>,
    },
    /// The consumer's own counts of a partition.
    Counts {
        /// Partition.
        partition: i32,
        /// The offset that it reads next.
        next_offset: i64,
        /// Rows.
        rows: u64,
        /// Copies dropped.
        duplicates: u64,
        /// Dead letters.
        dead: u64,
    },
    /// A dead letter in a shard.
    Dead {
        /// Partition.
        partition: i32,
        /// Kafka offset.
        offset: i64,
    },
    /// A figure of a process: `rss_bytes`, `descriptors`, or a metric by its name and labels.
    Gauge {
        /// Process.
        process: String,
        /// Its pid: another pid is another process.
        pid: u32,
        /// Which figure.
        name: String,
        /// How much.
        value: f64,
    },
    /// A line of a process's log at level ERROR, or a panic.
    LogLine {
        /// Process.
        process: String,
        /// `panic` or `error`.
        level: String,
        /// The line.
        text: String,
    },
    /// The delivery status of a direct message on a device, as shown to its sender.
    Status {
        /// The sender's device that saw it.
        device: Device,
        /// The channel.
        channel: ChannelId,
        /// The recipient's device.
        of: Device,
        /// Delivered through this seq.
        delivered: Seq,
        /// Read through this seq.
        read: Seq,
    },
}
