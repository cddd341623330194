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
/// Seqs that a `stored` announcement lists; past it the edges fetch the range.
pub const STORED_SEQS: usize = 500;
/// Nesting of a JSON document that a client sends.
pub const JSON_DEPTH: usize = 16;
/// Channels that one socket may be joined to.
pub const JOINS_PER_SOCKET: usize = 1_000;
