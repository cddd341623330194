//! Bits that floors and client share: WebSocket frames, the client's payload, Redis's protocol,
//! an epoll, clocks, and lines of JSON.

pub mod clock;
pub mod frame;
pub mod handshake;
pub mod lines;
pub mod payload;
pub mod poll;
pub mod pump;
pub mod resp;
