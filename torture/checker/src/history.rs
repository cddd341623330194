//! What is recorded of a run: one JSON object a line, in the order of `at_us`.
//!
//! Everything that a process of the suite saw stands here as it saw it: the writers' sends and
//! answers, the devices' frames as on the wire and as the client crate handed them on, the faults,
//! the final reads. Times are microseconds from the start of the run, of one monotonic clock.

use std::collections::BTreeMap;

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
    /// Something that was said. This and all that names a message is invoked and answered.
    Message,
    /// A message in the thread below this one.
    Reply(Seq),
    /// Gives this message another text.
    Edit(Seq),
    /// Takes this message away.
    Delete(Seq),
    /// Gives this message a reaction.
    React(Seq),
    /// Takes a reaction to this message back.
    Unreact(Seq),
    /// A user has another identity.
    Identity,
    /// A record of another kind (membership), which takes a seq like any other.
    Other,
}

impl Kind {
    /// The message that it is about: the root, for a reply.
    #[must_use]
    pub fn about(self) -> Option<Seq> {
        match self {
            Self::Reply(seq)
            | Self::Edit(seq)
            | Self::Delete(seq)
            | Self::React(seq)
            | Self::Unreact(seq) => Some(seq),
            Self::Message | Self::Identity | Self::Other => None,
        }
    }

    /// Whether it is a message, in a thread or not.
    #[must_use]
    pub fn is_message(self) -> bool {
        matches!(self, Self::Message | Self::Reply(_))
    }

    /// Whether the writers of a run send it, so that every one has an attempt.
    #[must_use]
    pub fn is_sent(self) -> bool {
        !matches!(self, Self::Identity | Self::Other)
    }

    /// Whether history shows it without being asked for every kind of record.
    #[must_use]
    pub fn is_shown(self) -> bool {
        self.is_message() || self == Self::Other
    }
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
    /// CRC-32 (IEEE) of the text, or of the reaction; 0 for what has none, and for a text that was
    /// taken away. A message that comes from the store has the text that it has by then.
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

/// The thread below a message, as it is shown.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Thread {
    /// Replies that are not deleted.
    pub count: u64,
    /// The last reply, even if it was deleted.
    pub last: Seq,
    /// Who took part, as far as it is told.
    pub users: Vec<UserId>,
}

/// What edits, deletions, reactions and replies have made of a message, as somebody shows it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct State {
    /// CRC-32 of the text; 0 once it was deleted.
    pub sum: u32,
    /// Whether it was deleted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub deleted: bool,
    /// The edit whose text it is, and which edit of the message that is, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub edited: Option<(Seq, u32)>,
    /// The reactions by the time of their first: CRC-32 of each, and who gave it, first to last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reactions: Vec<(u32, Vec<UserId>)>,
    /// The thread below it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thread: Option<Thread>,
    /// What it said before, oldest first, as the record that said so and CRC-32; absent where
    /// nobody asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub versions: Option<Vec<(Seq, u32)>>,
}

/// How far a direct message came on its way to a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Delivery {
    /// Accepted, and not in the store yet.
    None,
    /// In the channel.
    Sent,
    /// It reached the device.
    Delivered,
    /// It was seen there.
    Read,
}

/// How far a device came in a channel.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Cursor {
    /// Whose.
    pub of: Device,
    /// Delivered through this seq.
    pub delivered: Seq,
    /// Read through this seq.
    pub read: Seq,
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

/// What listens to the system at a moment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Load {
    /// Pods that run.
    pub pods: u64,
    /// Sockets of all pods.
    pub sockets: u64,
    /// Sockets that listen to a channel; one without any is absent.
    pub connections: BTreeMap<ChannelId, u64>,
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

    // Direct channels and marks.
    /// A user was told which direct channel is that with another: answered to `POST /direct`, or
    /// by a `joined` frame.
    Direct {
        /// Who was told.
        user: UserId,
        /// With whom.
        with: UserId,
        /// The channel.
        channel: ChannelId,
    },
    /// A device says how far it came.
    MarkAsked {
        /// Number of the attempt, unique in the run, of one sequence with the writers'.
        op: u64,
        /// Where.
        channel: ChannelId,
        /// Which device came so far.
        cursor: Cursor,
        /// The answer comes only when the log has it (HTTP); over the WebSocket it says no more
        /// than that the mark is on its way.
        waits: bool,
    },
    /// It was answered with `ok`.
    MarkAnswered {
        /// The attempt.
        op: u64,
    },
    /// How far a message came on its way to each device, as a server answered it.
    Told {
        /// Who asked: one asker's answers come one after the other.
        asker: Device,
        /// The channel.
        channel: ChannelId,
        /// The message.
        seq: Seq,
        /// By device; of a user without any there is nothing.
        devices: Vec<(Device, Delivery)>,
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
    /// All of a channel's history as one API server gave it, ascending.
    Page {
        /// The API server.
        server: String,
        /// Where.
        channel: ChannelId,
        /// Which way it was paged.
        paging: Paging,
        /// Rows a page.
        limit: u32,
        /// Records of every kind were asked for, and not only what people read.
        #[serde(default)]
        every: bool,
        /// What was read.
        entries: Vec<(Seq, MessageId)>,
    },
    /// A message as it is at the end.
    Shown {
        /// The API server, or `sql` for what its row says.
        server: String,
        /// Where.
        channel: ChannelId,
        /// Which.
        seq: Seq,
        /// What became of it.
        state: State,
    },
    /// How far the devices of a channel came at the end.
    Cursors {
        /// The API server, or `sql`.
        server: String,
        /// Where.
        channel: ChannelId,
        /// All devices that ever marked anything.
        cursors: Vec<Cursor>,
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
    /// What the dashboard of an API server showed to somebody who went on looking, at a point where
    /// nothing changed: as soon as it was what there is, or when the time for that was over.
    Looked {
        /// The API server.
        server: String,
        /// What there was, told in other ways: by the pods' metrics, by who is in the channels.
        there: Load,
        /// What was shown.
        shown: Load,
    },
    /// How many watchers a pod still had, some time after the last had gone.
    Watched {
        /// The pod.
        pod: String,
        /// How many; 0 as soon as it knew.
        watchers: u64,
    },
    /// A request at a point where nothing was wrong, and whether it was answered within ten seconds.
    Asked {
        /// Of what, and where.
        request: String,
        /// With whatever.
        answered: bool,
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
    /// How far a device came, as another was told of it (a receipt, as its client hands it on).
    Status {
        /// The device that saw it.
        device: Device,
        /// The channel.
        channel: ChannelId,
        /// The device that came further.
        of: Device,
        /// Delivered through this seq.
        delivered: Seq,
        /// Read through this seq.
        read: Seq,
    },
}
