//! What the records of the log become, without I/O: rows, dead letters, and smaller pieces of a
//! batch that the store refused.
use std::collections::VecDeque;

use hubbub_log::LogRecord;
use hubbub_protocol::{ChannelId, Record, RecordError, partition_of};
use hubbub_store::{Incoming, NewRow};

/// Records of one partition in log order, for one transaction.
#[derive(Debug, Clone, Default)]
pub(crate) struct Piece {
    pub(crate) records: Vec<Incoming>,
    /// The same as they came, for a dead letter that keeps its record whole.
    came: Vec<LogRecord>,
}

impl Piece {
    /// Reads what came from the log. Nothing fails: what can never be stored is a dead letter.
    pub(crate) fn read(partition: i32, partitions: u32, came: Vec<LogRecord>) -> Self {
        let read = |record| read(partition, partitions, record);
        let records = came.iter().map(read).collect();
        Self { records, came }
    }

    /// The position after the last record; `None` if there is none.
    pub(crate) fn next_offset(&self) -> Option<i64> {
        self.came.last().map(|record| record.next_offset)
    }

    fn split(mut self) -> (Self, Self) {
        let half = self.records.len() / 2;
        let rest = Self {
            records: self.records.split_off(half),
            came: self.came.split_off(half),
        };
        (self, rest)
    }
}

fn read(partition: i32, partitions: u32, record: &LogRecord) -> Incoming {
    let decoded = match &record.payload {
        Some(payload) => Record::decode(payload),
        // Reads as what it is: a payload without a record.
        None => Record::decode(&[]),
    };
    let belongs = |read: Record| {
        let channel = read.channel();
        if partition_of(channel, partitions) == partition {
            Ok(read)
        } else {
            Err(RecordError::Partition(channel))
        }
    };
    match decoded.and_then(belongs) {
        Ok(read) => Incoming::Row(NewRow::read(record.seq, record.ts_ms, read)),
        Err(error) => dead(record, error.to_string()),
    }
}

/// The record whole, as it came.
fn dead(from: &LogRecord, error: String) -> Incoming {
    Incoming::Dead {
        seq: from.seq,
        channel: channel_of(from),
        payload: from.payload.clone(),
        key: from.key.clone(),
        ts_ms: from.ts_ms,
        error,
    }
}

/// The channel that a broken record names, in its payload or else in its key.
fn channel_of(record: &LogRecord) -> Option<ChannelId> {
    #[derive(serde::Deserialize)]
    struct Peek {
        channel: ChannelId,
    }
    let payload = record.payload.as_deref().unwrap_or_default();
    let named = serde_json::from_slice::<Peek>(payload).map(|peek| peek.channel);
    let key = || {
        std::str::from_utf8(record.key.as_deref()?)
            .ok()?
            .parse()
            .ok()
    };
    named.ok().or_else(key)
}

/// A batch on its way into the store, in order: as one piece unless the store refuses something
/// in it.
#[derive(Debug)]
pub(crate) struct Pieces {
    waiting: VecDeque<Piece>,
}

impl Pieces {
    pub(crate) fn new(batch: Piece) -> Self {
        let waiting = VecDeque::from([batch]);
        Self { waiting }
    }

    pub(crate) fn next(&mut self) -> Option<Piece> {
        self.waiting.pop_front()
    }

    /// The store could not be reached: the piece comes next again.
    pub(crate) fn again(&mut self, piece: Piece) {
        self.waiting.push_front(piece);
    }

    /// The store did not finish the piece in time: its halves come next, or a single record again.
    /// So a batch that is too much for one transaction is written in several.
    pub(crate) fn too_slow(&mut self, piece: Piece) {
        if piece.records.len() > 1 {
            self.halves(piece);
        } else {
            self.again(piece);
        }
    }

    fn halves(&mut self, piece: Piece) {
        let (first, second) = piece.split();
        self.waiting.push_front(second);
        self.waiting.push_front(first);
    }

    /// The store refused something in the piece: its halves come next, or, of a single record, its
    /// dead letter. So a poison record among n costs about 2 log2(n) transactions. Says whether a
    /// dead letter was made; a dead letter that is refused comes again as it is.
    pub(crate) fn refused(&mut self, piece: Piece, reason: &str) -> bool {
        if piece.records.len() > 1 {
            self.halves(piece);
            return false;
        }
        let mut piece = piece;
        let mut made = false;
        for (record, came) in piece.records.iter_mut().zip(&piece.came) {
            if matches!(record, Incoming::Row(_)) {
                *record = dead(came, reason.to_owned());
                made = true;
            }
        }
        self.again(piece);
        made
    }
}

#[cfg(test)]
mod tests {
    use hubbub_protocol::{ChannelLetter, MessageId, Seq, UserId};
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

    const PARTITIONS: u32 = 4;

    fn channel(number: i64) -> ChannelId {
        ChannelId::new(ChannelLetter::Channel, number).expect("from 1")
    }

    fn message(channel: ChannelId) -> Vec<u8> {
        let user = UserId::new(1).expect("from 1");
        let id = MessageId(Uuid::from_u128(7));
        Record::message(channel, user, id, "hi".to_owned()).encode()
    }

    fn record(offset: i64, key: Option<&[u8]>, payload: Option<Vec<u8>>) -> LogRecord {
        LogRecord {
            seq: Seq(u64::try_from(offset).expect("from 0") + 1),
            next_offset: offset + 1,
            ts_ms: 99,
            key: key.map(<[u8]>::to_vec),
            payload,
        }
    }

    fn only(piece: &Piece) -> &Incoming {
        assert_eq!(piece.records.len(), 1);
        &piece.records[0]
    }

    #[test]
    fn good_record_becomes_its_row() {
        let partition = partition_of(channel(5), PARTITIONS);
        let piece = Piece::read(
            partition,
            PARTITIONS,
            vec![record(6, None, Some(message(channel(5))))],
        );
        assert_eq!(piece.next_offset(), Some(7));
        let Incoming::Row(row) = only(&piece) else {
            panic!("a row: {piece:?}");
        };
        assert_eq!((row.seq, row.channel, row.ts_ms), (Seq(7), channel(5), 99));
        assert!(
            row.body.starts_with("{\"type\":\"message\""),
            "{}",
            row.body
        );
        assert!(row.body.contains("\"ts_ms\":99"), "{}", row.body);
    }

    #[test]
    fn poison_is_kept_whole_with_the_channel_that_it_names() {
        let home = channel(5);
        let partition = partition_of(home, PARTITIONS);
        let key = home.to_string();
        // key, payload, the channel that can be read from them
        type Case<'a> = (Option<&'a [u8]>, Option<Vec<u8>>, Option<ChannelId>);
        let cases: [Case<'_>; 6] = [
            (None, None, None),
            (None, Some(b"junk".to_vec()), None),
            (Some(key.as_bytes()), Some(vec![0xff; 9]), Some(home)),
            (Some(&[0xff]), Some(Vec::new()), None),
            (
                None,
                Some(br#"{"kind":"confetti","channel":"C000000005"}"#.to_vec()),
                Some(home),
            ),
            (None, Some("[".repeat(10_000).into_bytes()), None),
        ];
        for (key, payload, expected) in cases {
            let came = record(0, key, payload);
            let piece = Piece::read(partition, PARTITIONS, vec![came.clone()]);
            let Incoming::Dead {
                channel,
                payload,
                key,
                error,
                ..
            } = only(&piece)
            else {
                panic!("a dead letter: {piece:?}");
            };
            assert_eq!((payload, key), (&came.payload, &came.key));
            assert_eq!(*channel, expected, "{came:?}");
            assert!(!error.is_empty());
        }
    }

    #[test]
    fn record_that_the_store_refuses_is_kept_as_it_came() {
        let home = channel(5);
        let partition = partition_of(home, PARTITIONS);
        let came = record(3, Some(b"any key"), Some(message(home)));
        let piece = Piece::read(partition, PARTITIONS, vec![came.clone()]);
        let mut pieces = Pieces::new(Piece::default());
        assert!(pieces.refused(piece, "refused"), "a dead letter is made");
        let piece = pieces.next().expect("it comes next");
        assert_eq!(piece.next_offset(), Some(4));
        let Incoming::Dead {
            channel,
            payload,
            key,
            error,
            ..
        } = only(&piece)
        else {
            panic!("a dead letter: {piece:?}");
        };
        assert_eq!((payload, key), (&came.payload, &came.key));
        assert_eq!((*channel, error.as_str()), (Some(home), "refused"));
        assert!(!pieces.refused(piece, "again"), "it is one already");
    }

    #[test]
    fn direct_channel_keeps_its_letter_whole_or_broken() {
        let direct = ChannelId::new(ChannelLetter::Direct, 5).expect("from 1");
        let partition = partition_of(direct, PARTITIONS);
        let key = direct.to_string().into_bytes();
        let came = |payload| vec![record(0, Some(&key), Some(payload))];
        let piece = Piece::read(partition, PARTITIONS, came(message(direct)));
        let Incoming::Row(row) = only(&piece) else {
            panic!("a row: {piece:?}");
        };
        assert_eq!(row.channel, direct);
        let piece = Piece::read(partition, PARTITIONS, came(b"junk".to_vec()));
        let Incoming::Dead { channel, .. } = only(&piece) else {
            panic!("a dead letter: {piece:?}");
        };
        assert_eq!(*channel, Some(direct));
    }

    #[test]
    fn record_of_another_partition_is_a_dead_letter() {
        let foreign = channel(5);
        let partition = (partition_of(foreign, PARTITIONS) + 1) % 4;
        let came = vec![record(0, None, Some(message(foreign)))];
        let piece = Piece::read(partition, PARTITIONS, came);
        let Incoming::Dead { channel, error, .. } = only(&piece) else {
            panic!("a dead letter: {piece:?}");
        };
        assert_eq!(*channel, Some(foreign));
        assert!(
            error.contains("does not belong to this partition"),
            "{error}"
        );
    }

    proptest! {
        /// A store that is too slow for some sizes gets each record once, in order, and none is
        /// buried.
        #[test]
        fn batch_that_is_too_slow_is_written_in_smaller_ones(
            count in 1..300_usize, most in 1..300_usize
        ) {
            let home = channel(5);
            let partition = partition_of(home, PARTITIONS);
            let records = (0..).take(count);
            let records = records.map(|offset| record(offset, None, Some(message(home))));
            let mut pieces = Pieces::new(Piece::read(partition, PARTITIONS, records.collect()));
            let mut stored = Vec::new();
            let mut tries = 0;
            while let Some(piece) = pieces.next() {
                tries += 1;
                if piece.records.len() > most {
                    pieces.too_slow(piece);
                    continue;
                }
                prop_assert!(piece.records.iter().all(|r| matches!(r, Incoming::Row(_))));
                stored.extend(piece.records.iter().map(|record| record.seq().0));
            }
            prop_assert!(stored.into_iter().eq(1..=count as u64));
            prop_assert!(tries < 2 * count.max(1), "{tries} transactions");
        }

        /// A store that refuses some records ends with each record once, in order, the refused
        /// ones as dead letters and no other, in few transactions.
        #[test]
        fn bisection_buries_the_poison_and_nothing_else(
            poison in prop::collection::vec(prop::bool::weighted(0.05), 1..300)
        ) {
            let home = channel(5);
            let partition = partition_of(home, PARTITIONS);
            let records = (0..).take(poison.len());
            let records = records.map(|offset| record(offset, None, Some(message(home))));
            let mut pieces = Pieces::new(Piece::read(partition, PARTITIONS, records.collect()));
            let (mut position, mut stored, mut buried, mut tries) = (0, Vec::new(), Vec::new(), 0);
            while let Some(piece) = pieces.next() {
                tries += 1;
                let at = |record: &Incoming| usize::try_from(record.seq().0).expect("small") - 1;
                let bad = |record: &&Incoming| matches!(record, Incoming::Row(_)) && poison[at(record)];
                if piece.records.iter().any(|record| bad(&record)) {
                    pieces.refused(piece, "refused");
                    continue;
                }
                let next = piece.next_offset().expect("a piece has records");
                prop_assert_eq!(next, position + i64::try_from(piece.records.len()).expect("small"));
                position = next;
                for record in &piece.records {
                    match record {
                        Incoming::Row(_) => stored.push(at(record)),
                        Incoming::Dead { .. } => buried.push(at(record)),
                    }
                }
            }
            let all = 0..poison.len();
            let (bad, good): (Vec<usize>, Vec<usize>) = all.partition(|at| poison[*at]);
            prop_assert!(tries <= 1 + bad.len() * 2 * 10, "{tries} transactions");
            prop_assert_eq!(buried, bad);
            prop_assert_eq!(stored, good);
        }
    }
}
