//! The task of one partition of the marks: moves the cursors of a batch on and tells who moved.
use std::{future::Future, sync::Arc};

use bytes::Bytes;
use hubbub_bus::Publisher;
use hubbub_log::{ConsumerHandle, LogRecord};
use hubbub_protocol::{
    BusChannel, ChannelLetter, MarkRecord, Receipt, RecordError, UserEvent, partition_of,
};
use hubbub_store::Store;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::{
    metrics::{InFlight, Metrics},
    work::{Away, Ended, Part, Work, gather},
};

/// What the tasks of all partitions share.
#[derive(Debug)]
pub(crate) struct Marks {
    pub(crate) store: Store,
    pub(crate) publisher: Publisher,
    pub(crate) log: ConsumerHandle,
    pub(crate) metrics: Metrics,
}

impl Work for Arc<Marks> {
    fn run(
        &self,
        part: Part,
        mut records: mpsc::Receiver<Vec<LogRecord>>,
    ) -> impl Future<Output = Ended> + Send + 'static {
        let marks = Self::clone(self);
        async move {
            loop {
                // Waits for records, or for the order to stop. Biased: who was told to stop takes
                // no more. Dropping `gather` loses nothing: its only await is its first step.
                let batch = tokio::select! {
                    biased;
                    () = part.stop.cancelled() => return Ended::Over,
                    batch = gather(&mut records) => batch,
                };
                let Some(batch) = batch else {
                    return Ended::Over;
                };
                if let Err(ended) = marks.store(part.number, &part.stop, &batch).await {
                    return ended;
                }
            }
        }
    }
}

impl Marks {
    /// Tries until the shard has them. What fails may have been written: marks may come twice.
    async fn store(
        &self,
        partition: i32,
        stop: &CancellationToken,
        batch: &[LogRecord],
    ) -> Result<(), Ended> {
        let _in_flight = InFlight::new(&self.metrics);
        let Some(next_offset) = batch.last().map(|record| record.next_offset) else {
            return Ok(());
        };
        let marks = self.read(partition, batch);
        let mut away = Away::new(&self.metrics);
        let moved = loop {
            match self.store.write_marks(partition, next_offset, &marks).await {
                Ok(moved) => break moved,
                Err(error) => {
                    away.note(partition, &error);
                    away.wait(stop).await?;
                }
            }
        };
        away.back(partition);
        self.metrics.marks("moved", moved.len() as u64);
        fail::fail_point!("consumer::after_marks_before_receipts", |_| {
            std::process::abort()
        });
        for receipt in moved {
            self.tell(receipt);
        }
        self.log.commit_for_lag_tools(partition, next_offset);
        Ok(())
    }

    /// What cannot be read is counted and dropped: the device's next mark makes it good.
    fn read(&self, partition: i32, batch: &[LogRecord]) -> Vec<Receipt> {
        let partitions = self.store.log_identity().partitions;
        let mut marks = Vec::with_capacity(batch.len());
        for record in batch {
            match read(partition, partitions, record) {
                Ok(mark) => marks.push(mark),
                Err(error) => {
                    self.metrics.marks("dead", 1);
                    let offset = record.next_offset - 1;
                    tracing::warn!(
                        log.partition = partition,
                        log.offset = offset,
                        "mark dropped: {error}"
                    );
                }
            }
        }
        self.metrics.marks("read", marks.len() as u64);
        marks
    }

    /// Once, never waiting: receipts are live only, and a GET has the cursors.
    fn tell(&self, receipt: Receipt) {
        for (to, payload) in told(receipt) {
            let outcome = match self.publisher.offer(&to, payload) {
                Ok(()) => "offered",
                Err(error) => {
                    tracing::debug!(%error, bus.channel = %to, "receipt dropped");
                    "refused"
                }
            };
            self.metrics.receipt(outcome);
        }
    }
}

fn read(partition: i32, partitions: u32, record: &LogRecord) -> Result<Receipt, RecordError> {
    // Without a payload it reads as what it is: a payload without a mark.
    let payload = record.payload.as_deref().unwrap_or_default();
    let MarkRecord(mark) = MarkRecord::decode(payload)?;
    if partition_of(mark.channel, partitions) == partition {
        Ok(mark)
    } else {
        Err(RecordError::Partition(mark.channel))
    }
}

/// Who is told of a cursor that moved: in a direct channel both users, and everywhere the other
/// devices of the user. A channel of many would be told of every reader by every other.
fn told(receipt: Receipt) -> Vec<(BusChannel, Bytes)> {
    let mut told = Vec::with_capacity(2);
    if receipt.channel.letter == ChannelLetter::Direct {
        let to = BusChannel::Channel(receipt.channel);
        told.push((to, Bytes::from(receipt.frame())));
    }
    let to = BusChannel::User(receipt.user);
    let event = UserEvent::Receipt {
        channel: receipt.channel,
        device: receipt.device,
        delivered: receipt.delivered,
        read: receipt.read,
    };
    told.push((to, Bytes::from(event.encode())));
    told
}

#[cfg(test)]
mod tests {
    use hubbub_protocol::{ChannelEvent, Seq, UserId};

    use super::*;

    const PARTITIONS: u32 = 4;

    fn receipt(channel: &str) -> Receipt {
        Receipt {
            channel: channel.parse().expect("an id"),
            user: UserId::new(7).expect("from 1"),
            device: "phone".parse().expect("a device"),
            delivered: Seq(9),
            read: Seq(4),
        }
    }

    #[test]
    fn direct_channel_and_own_devices_are_told() {
        let told_of = |channel| {
            let names = told(receipt(channel));
            let name = |(to, _): &(BusChannel, Bytes)| to.to_string();
            names.iter().map(name).collect::<Vec<_>>()
        };
        assert_eq!(told_of("C000000005"), ["user-U000000007"]);
        let direct = ["channel-D000000005", "user-U000000007"];
        assert_eq!(told_of("D000000005"), direct);

        let receipt = receipt("D000000005");
        let told = told(receipt.clone());
        let event = ChannelEvent::decode(receipt.channel, &told[0].1);
        assert_eq!(event, Ok(ChannelEvent::Receipt(receipt.clone())));
        let event = UserEvent::decode(&told[1].1);
        let Ok(Some(UserEvent::Receipt { channel, read, .. })) = event else {
            panic!("a receipt: {event:?}");
        };
        assert_eq!((channel, read), (receipt.channel, Seq(4)));
    }

    #[test]
    fn only_marks_of_the_partition_are_read() {
        let mark = receipt("D000000005");
        let home = partition_of(mark.channel, PARTITIONS);
        let record = |payload: Option<Vec<u8>>| LogRecord {
            seq: Seq(1),
            next_offset: 1,
            ts_ms: 0,
            key: None,
            payload,
        };
        let good = record(Some(MarkRecord(mark.clone()).encode()));
        assert_eq!(read(home, PARTITIONS, &good).expect("a mark"), mark);
        assert!(read((home + 1) % 4, PARTITIONS, &good).is_err());
        assert!(read(home, PARTITIONS, &record(None)).is_err());
        assert!(read(home, PARTITIONS, &record(Some(b"junk".to_vec()))).is_err());
    }
}
