//! What the application knows of other devices' cursors.

use std::collections::HashMap;

use hubbub_protocol::{ChannelId, DeviceId, Receipt, Seq, UserId};

/// Devices whose cursors are remembered: those of a user's own in a thousand channels. Past it all
/// are forgotten, and one receipt that comes late may be told.
const REMEMBERED: usize = 16_384;

/// Cursors never go back, but a receipt may come late: it travels two ways, and a pod that was
/// held up tells it after another has told a newer one. No I/O.
#[derive(Debug, Default)]
pub(crate) struct Receipts {
    told: HashMap<(ChannelId, UserId, DeviceId), (Seq, Seq)>,
}

impl Receipts {
    /// The cursors as they are now, if the receipt moves one of them.
    pub(crate) fn news(&mut self, mut receipt: Receipt) -> Option<Receipt> {
        if self.told.len() >= REMEMBERED {
            self.told.clear();
        }
        let key = (receipt.channel, receipt.user, receipt.device.clone());
        let told = self.told.entry(key).or_default();
        receipt.merge(told.0, told.1);
        let now = (receipt.delivered, receipt.read);
        if *told == now {
            return None;
        }
        *told = now;
        Some(receipt)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn late_receipt_tells_nothing_and_half_a_one_the_whole() {
        let mut receipts = Receipts::default();
        let receipt = |device: &str, delivered, read| Receipt {
            channel: "D000000005".parse().expect("an id"),
            user: UserId::new(2).expect("from 1"),
            device: device.parse().expect("a device"),
            delivered: Seq(delivered),
            read: Seq(read),
        };
        let first = receipt("phone", 97, 90);
        assert_eq!(receipts.news(first.clone()), Some(first.clone()));
        assert_eq!(receipts.news(first), None, "it came two ways");
        assert_eq!(receipts.news(receipt("phone", 95, 90)), None, "it is late");
        let news = receipts.news(receipt("phone", 95, 92));
        assert_eq!(news, Some(receipt("phone", 97, 92)));
        let other = receipt("laptop", 3, 0);
        assert_eq!(receipts.news(other.clone()), Some(other));
    }
}
