//! Sizes and rates that a client can meet; an error names the one it broke.

/// A WebSocket message, whole, in bytes (RFC 6455 close code 1009 above it).
pub const FRAME_BYTES: usize = 64 * 1024;
/// The text of a message, in UTF-8 bytes.
pub const TEXT_BYTES: usize = 16 * 1024;
/// A request id given as a string, in bytes.
pub const REQUEST_ID_BYTES: usize = 64;
/// A channel's name, in bytes.
pub const CHANNEL_NAME_BYTES: usize = 80;
/// A user's name, in bytes.
pub const USER_NAME_BYTES: usize = 80;
/// Rows on one page of history.
pub const PAGE_ROWS: usize = 200;
/// Rows on one page of history when the request names no limit.
pub const PAGE_ROWS_DEFAULT: usize = 50;
/// Bytes of the frames of a history page, about: one that has more has fewer rows than were asked
/// for, at least one. The earlier versions beside them have as much again.
pub const PAGE_BYTES: usize = 1024 * 1024;
/// Seqs that a `stored` announcement lists; past it the edges fetch the range.
pub const STORED_SEQS: usize = 500;
/// Nesting of a JSON document that a client sends.
pub const JSON_DEPTH: usize = 16;
/// Channels that one socket may be joined to.
pub const JOINS_PER_SOCKET: usize = 1_000;
/// A reaction, in UTF-8 bytes.
pub const REACTION_BYTES: usize = 64;
/// Different reactions to one message; further ones have no effect.
pub const REACTIONS_PER_MESSAGE: usize = 64;
/// Users who give one reaction to one message; further ones have no effect.
pub const USERS_PER_REACTION: usize = 500;
/// Edits of one message; further ones have no effect. It bounds what a deletion has to take away.
pub const EDITS_PER_MESSAGE: u32 = 100;
/// Earlier versions that a page of history shows of one message: the newest.
pub const VERSIONS_PER_MESSAGE: u32 = 20;
/// Earlier versions on one page of history, those of its newest messages first.
pub const VERSIONS_PER_PAGE: u32 = 1_000;
/// Users named as taking part in a thread: the first ones.
pub const REPLY_USERS: usize = 20;
/// Users whose presence one socket may watch.
pub const WATCHED_USERS: usize = 200;
/// Users in one `GET /users?ids=`.
pub const HYDRATED_USERS: usize = 100;
/// Direct channels to which an edge joins a device by itself: those with the latest activity.
pub const DIRECT_JOINS: usize = 200;
/// Sockets that one pod names in its answer to [`crate::Question::Who`].
pub const WHO_SOCKETS: usize = 10_000;
/// Devices of a user whose marks one channel keeps. A further one takes the place of the one that
/// is furthest behind, so that a new device is always counted.
pub const DEVICES_PER_MEMBER: u32 = 32;
/// Above this many members `GET /channels/{id}/receipts` shows one's own devices only.
pub const RECEIPT_MEMBERS: usize = 50;
/// A user's status, in bytes.
pub const USER_STATUS_BYTES: usize = 140;
/// Address of a user's picture, in bytes.
pub const USER_PICTURE_BYTES: usize = 2_048;
/// Rows of one message of the dashboard on the bus: some 35 KB.
pub const REPORT_ROWS: usize = 500;
/// How long a pod reports after the last word of who watches, in milliseconds.
pub const WATCH_LEASE_MS: u64 = 10_000;
/// Rows of channels, and of pods, in one event of the dashboard.
pub const DASHBOARD_ROWS: usize = 200;
/// The same when the request names no number.
pub const DASHBOARD_ROWS_DEFAULT: usize = 50;
