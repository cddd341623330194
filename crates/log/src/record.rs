use hubbub_protocol::Seq;
use rdkafka::Message;

use crate::Config;

/// A record as consumed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogRecord {
    /// Its position in its channel.
    pub seq: Seq,
    /// The position after it, for `log_position`.
    pub next_offset: i64,
    /// The broker's append time, milliseconds since 1970; 0 if the record has none.
    pub ts_ms: i64,
    /// The channel's public id, if one of ours wrote it.
    pub key: Option<Vec<u8>>,
    /// What was appended; `None` for a tombstone, which none of ours writes.
    pub payload: Option<Vec<u8>>,
}

impl LogRecord {
    pub(crate) fn read(config: &Config, message: &impl Message) -> Self {
        Self {
            seq: config.seq(message.offset()),
            next_offset: message.offset() + 1,
            ts_ms: message.timestamp().to_millis().unwrap_or(0),
            key: message.key().map(<[u8]>::to_vec),
            payload: message.payload().map(<[u8]>::to_vec),
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        let len = |part: &Option<Vec<u8>>| part.as_ref().map_or(0, Vec::len);
        len(&self.key) + len(&self.payload)
    }
}
