//! How far a device came: the records of the topic of marks, and what is told of them.

use serde::{Deserialize, Serialize};

use crate::{ChannelId, DeviceId, RecordError, Seq, UserId};

/// The version that this build writes and the only one it reads.
const VERSION: u8 = 1;

/// How far one device of a member came in a channel: everything through `delivered` reached
/// the device, everything through `read` was shown to the user. 0 = nothing yet. The cursors
/// never go back: of two marks each cursor's greater one counts, whatever their order.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Receipt {
    /// Where.
    pub channel: ChannelId,
    /// Whose device.
    pub user: UserId,
    /// Which device.
    pub device: DeviceId,
    /// Everything through this seq reached the device.
    pub delivered: Seq,
    /// Everything through this seq was read.
    pub read: Seq,
}

impl Receipt {
    /// Both cursors as the greater ones of the two; what was read was delivered as well.
    pub fn merge(&mut self, delivered: Seq, read: Seq) {
        self.read = self.read.max(read);
        self.delivered = self.delivered.max(delivered).max(self.read);
    }

    /// The text frame, which is also the payload for `channel-<id>`.
    pub fn frame(&self) -> String {
        crate::ServerFrame::encode_tagged("receipt", self)
    }
}

/// A record of the topic of marks (JSON; the key is the channel's public id).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MarkRecord(pub Receipt);

#[derive(Serialize)]
struct Out<'a> {
    v: u8,
    #[serde(flatten)]
    mark: &'a Receipt,
}

#[derive(Deserialize)]
struct In {
    v: u8,
    channel: ChannelId,
    user: UserId,
    device: DeviceId,
    #[serde(default)]
    delivered: Seq,
    #[serde(default)]
    read: Seq,
}

impl MarkRecord {
    /// Reads a payload of the topic: `delivered` is at least `read` in what comes out.
    pub fn decode(payload: &[u8]) -> Result<Self, RecordError> {
        let raw: In = serde_json::from_slice(payload)?;
        if raw.v != VERSION {
            return Err(RecordError::Version(raw.v));
        }
        let mut mark = Receipt {
            channel: raw.channel,
            user: raw.user,
            device: raw.device,
            delivered: Seq::ZERO,
            read: Seq::ZERO,
        };
        mark.merge(raw.delivered, raw.read);
        if mark.delivered > Seq::MAX {
            return Err(RecordError::Seq(mark.delivered));
        }
        Ok(Self(mark))
    }

    /// The payload for the topic.
    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(&Out {
            v: VERSION,
            mark: &self.0,
        })
        .expect("a mark has only string keys")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn receipt(delivered: u64, read: u64) -> Receipt {
        Receipt {
            channel: "D000000005".parse().expect("an id"),
            user: UserId::new(1).expect("from 1"),
            device: "phone".parse().expect("a device"),
            delivered: Seq(delivered),
            read: Seq(read),
        }
    }

    #[test]
    fn mark_survives_the_log() {
        let mark = MarkRecord(receipt(9, 4));
        let payload = mark.encode();
        let expected = r#"{"v":1,"channel":"D000000005","user":"U000000001","device":"phone","delivered":9,"read":4}"#;
        assert_eq!(payload, expected.as_bytes());
        assert_eq!(MarkRecord::decode(&payload).expect("decodes"), mark);
    }

    #[test]
    fn what_was_read_was_delivered() {
        let payload = MarkRecord(receipt(0, 4)).encode();
        let MarkRecord(mark) = MarkRecord::decode(&payload).expect("decodes");
        assert_eq!(mark, receipt(4, 4));
    }

    #[test]
    fn strange_marks_are_errors() {
        for bad in [
            "",
            "{}",
            r#"{"v":2,"channel":"D000000005","user":"U000000001","device":"a","read":4}"#,
            r#"{"v":1,"channel":"D000000005","user":"U000000001","device":"a b","read":4}"#,
            r#"{"v":1,"channel":"D000000005","user":"U000000001","device":"a","read":-4}"#,
            r#"{"v":1,"channel":"D000000005","user":"U000000001","device":"a","read":9007199254740992}"#,
        ] {
            assert!(MarkRecord::decode(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn marks_in_any_order_end_alike(marks: Vec<(u8, u8)>, turn in 0..8_usize) {
            let mut all = marks.clone();
            let [mut one, mut other] = [receipt(0, 0), receipt(0, 0)];
            for (delivered, read) in &marks {
                one.merge(Seq(u64::from(*delivered)), Seq(u64::from(*read)));
            }
            let at = turn.min(all.len());
            all.rotate_left(at);
            for (delivered, read) in all.iter().chain(&marks) {
                other.merge(Seq(u64::from(*delivered)), Seq(u64::from(*read)));
            }
            prop_assert_eq!(one, other);
        }
    }
}
