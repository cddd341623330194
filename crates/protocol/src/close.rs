/// Why a server closed a WebSocket. RFC 6455 codes first; 4000–4499 come back and resume,
/// 4500–4999 do not. docs/PROTOCOL.md has the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CloseCode {
    /// 1000: the client closed.
    Normal,
    /// 1002: a frame that RFC 6455 forbids.
    Protocol,
    /// 1003: a binary frame.
    Unsupported,
    /// 1007: text that is not UTF-8.
    Invalid,
    /// 1008: the rules of this server were broken.
    Policy,
    /// 1009: a message above `max_frame_bytes`.
    TooBig,
    /// 1011: an error of the server; it has been logged.
    Internal,
    /// 1012: the server restarts; come back after `goodbye.reconnect_after_ms`.
    Restart,
    /// 1013: the server has no room; come back later.
    Overload,
    /// 4000: no sign of life within the heartbeat.
    Dead,
    /// 4008: nothing could be sent for 60 s.
    Slow,
    /// 4009: the rate limit was broken three times; come back after `retry_after_ms`.
    Rate,
    /// 4401: the token expired; come back with a fresh one.
    TokenExpired,
    /// 4501: the token was revoked.
    Revoked,
    /// 4502: a newer socket took this one's place (device limit).
    Replaced,
}

impl CloseCode {
    /// Every code, for documents and metrics.
    pub const ALL: [Self; 15] = [
        Self::Normal,
        Self::Protocol,
        Self::Unsupported,
        Self::Invalid,
        Self::Policy,
        Self::TooBig,
        Self::Internal,
        Self::Restart,
        Self::Overload,
        Self::Dead,
        Self::Slow,
        Self::Rate,
        Self::TokenExpired,
        Self::Revoked,
        Self::Replaced,
    ];

    /// The number on the wire (RFC 6455, 7.4).
    pub fn code(self) -> u16 {
        match self {
            Self::Normal => 1000,
            Self::Protocol => 1002,
            Self::Unsupported => 1003,
            Self::Invalid => 1007,
            Self::Policy => 1008,
            Self::TooBig => 1009,
            Self::Internal => 1011,
            Self::Restart => 1012,
            Self::Overload => 1013,
            Self::Dead => 4000,
            Self::Slow => 4008,
            Self::Rate => 4009,
            Self::TokenExpired => 4401,
            Self::Revoked => 4501,
            Self::Replaced => 4502,
        }
    }

    /// The reason on the wire, which is also the metric's label.
    pub fn label(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::Protocol => "protocol",
            Self::Unsupported => "unsupported",
            Self::Invalid => "invalid",
            Self::Policy => "policy",
            Self::TooBig => "too_big",
            Self::Internal => "internal",
            Self::Restart => "restart",
            Self::Overload => "overload",
            Self::Dead => "dead",
            Self::Slow => "slow",
            Self::Rate => "rate",
            Self::TokenExpired => "token_expired",
            Self::Revoked => "revoked",
            Self::Replaced => "replaced",
        }
    }

    /// Whether a client that was closed with `code` should connect again: all but 1000, 1002,
    /// 1003, 1007, 1008, 1009 and 4500–4999.
    pub fn reconnects(code: u16) -> bool {
        !matches!(code, 1000 | 1002 | 1003 | 1007 | 1008 | 1009 | 4500..=4999)
    }
}
