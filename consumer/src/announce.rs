//! What is announced after a commit.
use bytes::Bytes;
use hubbub_protocol::{BusChannel, Stored, limits};
use hubbub_store::Touched;

/// The announcement of one channel: where to and what. Above [`limits::STORED_SEQS`] rows it
/// carries the range alone, and the edges fetch it.
pub(crate) fn announcement(touched: Touched) -> (BusChannel, Bytes) {
    let seqs = (touched.seqs.len() <= limits::STORED_SEQS).then_some(touched.seqs);
    let stored = Stored {
        channel: touched.channel,
        from: touched.from,
        through: touched.through,
        seqs,
    };
    let to = BusChannel::Channel(touched.channel);
    (to, Bytes::from(stored.encode()))
}

#[cfg(test)]
mod tests {
    use hubbub_protocol::{ChannelEvent, Seq};

    use super::*;

    fn touched(rows: usize) -> Touched {
        let seqs: Vec<Seq> = (5..).map(Seq).take(rows).collect();
        Touched {
            channel: "C000000005".parse().expect("an id"),
            from: Seq(4),
            through: Seq(9_000),
            seqs,
        }
    }

    #[test]
    fn seqs_are_listed_up_to_the_bound() {
        for (rows, listed) in [(0, true), (1, true), (500, true), (501, false)] {
            let touched = touched(rows);
            let (to, payload) = announcement(touched.clone());
            assert_eq!(to.to_string(), "channel-C000000005");
            let event = ChannelEvent::decode(touched.channel, &payload).expect("decodes");
            let expected = ChannelEvent::Stored(Stored {
                channel: touched.channel,
                from: Seq(4),
                through: Seq(9_000),
                seqs: listed.then_some(touched.seqs),
            });
            assert_eq!(event, expected, "{rows} rows");
        }
    }
}
