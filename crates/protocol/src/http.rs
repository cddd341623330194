//! Bodies of the HTTP API, as the API server writes and its clients read them.

use serde::{Deserialize, Serialize};

use crate::{Body, ChannelId, DeviceId, PodId, Seq, UserId};

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
