//! Bodies of the HTTP API, as the API server writes and its clients read them.

use serde::{Deserialize, Serialize};

use crate::{Body, ChannelId, DeviceId, PodId, Seq, UserId, UserPresence};

/// What kind of conversation a channel is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChannelKind {
    /// Everybody may find and enter it.
    Public,
    /// Its members alone see it; an admin adds others.
    Private,
    /// Between two users.
    Direct,
}

/// What a member may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Read, send, leave.
    Member,
    /// Also add and remove others.
    Admin,
}

/// A channel, as its members see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Channel {
    /// Public id.
    pub id: ChannelId,
    /// Kind of conversation.
    pub kind: ChannelKind,
    /// Unique name; `None` for a direct channel.
    pub name: Option<String>,
    /// Who created it.
    pub created_by: UserId,
    /// When, milliseconds since 1970.
    pub created_ms: i64,
    /// Whether the caller is a member.
    pub is_member: bool,
    /// The caller's role, if a member.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    /// The other user of a direct channel (oneself, in the channel with oneself).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub with: Option<UserId>,
}

/// `POST /channels`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewChannel {
    /// 1 to 80 bytes, no control characters, unique.
    pub name: String,
    /// Public or private; public if absent.
    #[serde(default)]
    pub kind: Option<ChannelKind>,
}

/// A page of a list. `next` goes into `?cursor=` for the following page.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListPage<T> {
    /// The rows.
    pub items: Vec<T>,
    /// Where the following page starts; `None` on the last one.
    pub next: Option<String>,
}

/// A user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// Public id.
    pub id: UserId,
    /// Display name.
    pub name: String,
    /// Address of a picture.
    pub picture: Option<String>,
    /// What the user says about themselves at the moment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    /// Counts the changes of this identity.
    pub version: i64,
}

/// A member of a channel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Who.
    pub user: User,
    /// What they may do.
    pub role: Role,
    /// The seq of the record that added them; 0 for the channel's creator.
    pub added_seq: Seq,
}

/// A page of history (`getMessages`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessagePage {
    /// The records, ascending by seq.
    pub messages: Vec<Entry>,
    /// Whether more lie beyond the page, in the direction that was asked.
    pub has_more: bool,
    /// The channel's last processed seq in the store; 0 = nothing yet.
    pub head: Seq,
}

/// A record in history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Where it is in the channel.
    pub seq: Seq,
    /// What it says.
    #[serde(flatten)]
    pub body: Body,
    /// The versions before the one shown, oldest first; only of edited messages, and only where
    /// `versions=1` asked for them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub versions: Vec<Version>,
}

/// What a message said before an edit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    /// Seq of the record that said so: the message itself, or an earlier edit.
    pub seq: Seq,
    /// What it said.
    pub text: String,
    /// When the log took that record, milliseconds.
    pub ts_ms: i64,
    /// Who wrote that record.
    pub user: UserId,
}

/// A page of a thread (`GET /channels/{id}/messages/{seq}/replies`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ThreadPage {
    /// What the thread hangs below.
    pub root: Entry,
    /// The replies, ascending by seq.
    pub messages: Vec<Entry>,
    /// Whether more follow.
    pub has_more: bool,
    /// The channel's last processed seq in the store.
    pub head: Seq,
}

/// `PUT` and `DELETE /channels/{id}/members/{user}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MembershipReply {
    /// Whether this call changed anything.
    pub changed: bool,
    /// The seq of the record that says so, if it was changed and the log's answer is known.
    pub seq: Option<Seq>,
}

/// A socket that listens to a channel (`GET /channels/{id}/users`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listener {
    /// The socket's connection id.
    pub socket: String,
    /// Whose it is.
    pub user: UserId,
    /// On which device.
    pub device: DeviceId,
    /// The edge that holds it.
    pub pod: PodId,
}

/// `GET /channels/{id}/users`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listeners {
    /// The sockets that listen, over all pods that answered.
    pub users: Vec<Listener>,
    /// Whether every pod with a lease answered, in full.
    pub complete: bool,
    /// The pods that did not, or not in full.
    pub missing: Vec<PodId>,
}

/// A socket as `GET /{room}/users` tells it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoomUser {
    /// The socket's connection id.
    pub id_socket: String,
    /// Whose it is.
    pub id_user: UserId,
}

/// `PATCH /users/{id}`: what is absent stays.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdentityPatch {
    /// Display name, 1 to 80 bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Address of a picture; empty for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub picture: Option<String>,
    /// Status; empty for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
}

/// The reply to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdentityReply {
    /// The user after the change.
    #[serde(flatten)]
    pub user: User,
    /// Channels of the user whose log has the `identity_change`.
    pub announced: u64,
    /// Channels of the user.
    pub channels: u64,
}

/// `GET /users?ids=`: those that exist.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Users {
    /// In the order of their ids.
    pub users: Vec<User>,
}

/// `POST /direct`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewDirect {
    /// The other user, or oneself.
    pub user: UserId,
}

/// The reply to it: the same whoever asks first, and however often.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Direct {
    /// The direct channel.
    pub channel: ChannelId,
}

/// How far a device came, in one channel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceReceipt {
    /// Whose device.
    pub user: UserId,
    /// Which device.
    pub device: DeviceId,
    /// Everything through this seq reached the device.
    pub delivered: Seq,
    /// Everything through this seq was read.
    pub read: Seq,
}

/// `GET /channels/{id}/receipts`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipts {
    /// Ascending by user and device.
    pub receipts: Vec<DeviceReceipt>,
}

/// What became of a message on its way to a device. Ordered: it only ever grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeliveryStatus {
    /// Accepted, and above the channel's head in the store.
    None,
    /// In the channel.
    Sent,
    /// It reached the device.
    Delivered,
    /// The user saw it there.
    Read,
}

/// What became of a message on its way to one device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceStatus {
    /// Whose device.
    pub user: UserId,
    /// Which device; absent for a member of whom no device ever marked anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<DeviceId>,
    /// How far it came.
    pub status: DeliveryStatus,
}

/// `GET /channels/{id}/messages/{seq}/status`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageStatus {
    /// Ascending by user and device.
    pub devices: Vec<DeviceStatus>,
}

/// How much of a channel a user has not read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnreadChannel {
    /// The channel.
    pub channel: ChannelId,
    /// The greatest `read` of the user's devices; 0 = nothing was marked.
    pub read: Seq,
    /// Messages above it (replies and deleted ones included, other records not).
    pub unread: u64,
    /// The channel's last processed seq in the store.
    pub head: Seq,
    /// When the log took the channel's last record, milliseconds; 0 = none yet.
    pub last_ts_ms: i64,
}

/// `GET /unread`: every channel of the user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unread {
    /// Ascending by channel id.
    pub channels: Vec<UnreadChannel>,
    /// Channels of the user that cannot be counted now, because their shard cannot be read;
    /// ascending, absent when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<ChannelId>,
}

/// `GET /users/{id}/presence`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Presence {
    /// The user's best state over the pods that answered.
    #[serde(flatten)]
    pub user: UserPresence,
    /// Whether every pod with a lease answered.
    pub complete: bool,
}
