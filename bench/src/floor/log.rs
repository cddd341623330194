use std::{os::fd::AsFd, sync::Arc, time::Duration};

use anyhow::{Context, anyhow};
use nix::sys::eventfd::{EfdFlags, EventFd};
use parking_lot::Mutex;
use rdkafka::{
    ClientConfig, ClientContext, Message as _,
    config::FromClientConfigAndContext as _,
    error::RDKafkaErrorCode,
    message::DeliveryResult,
    producer::{BaseRecord, NoCustomPartitioner, Producer as _, ProducerContext, ThreadedProducer},
};

/// Records that wait for their acknowledgement, at most.
const RECORDS: usize = 100_000;
/// For the brokers' first answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// A message that the log has, or has not.
#[derive(Debug)]
pub(super) struct Produced {
    /// Which socket sent it.
    pub(super) from: usize,
    /// Its channel and its payload.
    pub(super) channel: Box<[u8]>,
    pub(super) payload: Box<[u8]>,
    /// Why it is not in the log.
    pub(super) failed: Option<String>,
}

/// Reports that wait for the epoll's thread.
#[derive(Debug)]
struct Reports {
    waiting: Mutex<Vec<Produced>>,
    /// Written when the first report of a batch comes.
    wake: EventFd,
}

#[derive(Debug, Clone)]
struct OnReport(Arc<Reports>);

impl ClientContext for OnReport {}

impl ProducerContext<NoCustomPartitioner> for OnReport {
    type DeliveryOpaque = Box<Produced>;

    fn delivery(&self, result: &DeliveryResult<'_>, mut produced: Self::DeliveryOpaque) {
        if let Err((error, record)) = result {
            produced.failed = Some(format!("{error} ({:?})", record.key()));
        }
        let mut waiting = self.0.waiting.lock();
        waiting.push(*produced);
        if waiting.len() == 1 {
            self.0.wake.write(1).expect("a counter of so few has room");
        }
    }
}

/// A bare producer: what the application hands over is acknowledged by all replicas.
pub(super) struct Log {
    producer: ThreadedProducer<OnReport>,
    reports: Arc<Reports>,
    topic: String,
    taken: Vec<Produced>,
}

impl Log {
    /// The settings are those of Hubbub's own producer, as far as they cost anything.
    pub(super) fn connect(brokers: &str, topic: &str) -> anyhow::Result<Self> {
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        let wake = EventFd::from_flags(flags).context("create an event counter")?;
        let waiting = Mutex::new(Vec::new());
        let reports = Arc::new(Reports { waiting, wake });
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", brokers)
            .set("client.id", "floor")
            .set("acks", "all")
            .set("enable.idempotence", "true")
            .set("max.in.flight.requests.per.connection", "5")
            .set("linger.ms", "0")
            .set("socket.nagle.disable", "true")
            .set("partitioner", "murmur2_random")
            .set("compression.codec", "none")
            .set("queue.buffering.max.messages", RECORDS.to_string());
        let context = OnReport(Arc::clone(&reports));
        let producer: ThreadedProducer<OnReport> =
            ThreadedProducer::from_config_and_context(&config, context)
                .context("create a producer")?;
        let metadata = producer
            .client()
            .fetch_metadata(Some(topic), PATIENCE)
            .with_context(|| format!("ask {brokers} for its topics"))?;
        let found = metadata.topics().iter().find(|found| found.name() == topic);
        let partitions = found.map_or(0, |found| found.partitions().len());
        anyhow::ensure!(partitions > 0, "{brokers} has no topic {topic}");
        Ok(Self {
            producer,
            reports,
            topic: topic.to_owned(),
            taken: Vec::new(),
        })
    }

    /// What becomes readable when reports wait.
    pub(super) fn waker(&self) -> impl AsFd + '_ {
        &self.reports.wake
    }

    /// Hands a message over. Its channel is the record's key.
    pub(super) fn produce(
        &self,
        from: usize,
        channel: &[u8],
        payload: &[u8],
    ) -> anyhow::Result<()> {
        let produced = Box::new(Produced {
            from,
            channel: channel.into(),
            payload: payload.into(),
            failed: None,
        });
        let record = BaseRecord::with_opaque_to(&self.topic, produced)
            .key(channel)
            .payload(payload);
        match self.producer.send(record) {
            Ok(()) => Ok(()),
            Err((error, _)) if error.rdkafka_error_code() == Some(RDKafkaErrorCode::QueueFull) => {
                Err(anyhow!("more than {RECORDS} records wait for the log"))
            }
            Err((error, _)) => Err(error).context("produce"),
        }
    }

    /// The reports that wait, in the log's order per channel.
    pub(super) fn take(&mut self) -> anyhow::Result<&mut Vec<Produced>> {
        self.reports.wake.read().context("read the event counter")?;
        self.taken.clear();
        std::mem::swap(&mut self.taken, &mut *self.reports.waiting.lock());
        for produced in &self.taken {
            if let Some(why) = &produced.failed {
                return Err(anyhow!("the log has no message: {why}"));
            }
        }
        Ok(&mut self.taken)
    }
}
