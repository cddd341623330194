use std::time::Duration;

use rdkafka::ClientConfig;

use hubbub_mutant::{Mutant, planted};
use hubbub_protocol::Seq;

/// Records that wait in the producer, at most; the next one is rejected at once.
pub(crate) const PRODUCER_RECORDS: usize = 10_000;
/// Bytes that wait in the producer, in KiB, at most.
const PRODUCER_KBYTES: usize = 32 * 1024;
/// When librdkafka gives a record up. It overruns this (by up to 6 s, measured), so whoever
/// promises an answer in time has a timer of its own.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(6);
/// How long a broker waits for news before it answers a fetch. Data is answered at once; a
/// partition that was resumed or assigned waits for the fetch that is under way.
const FETCH_WAIT: Duration = Duration::from_millis(50);
/// The longest session of a member, and how long its thread may be silent to librdkafka, which
/// takes no session that is longer (`max.poll.interval.ms`).
pub const SESSION_TIMEOUT_MAX: Duration = Duration::from_secs(30);
/// What librdkafka may hold of records that were fetched and not yet polled, in KiB.
const FETCHED_KBYTES: usize = 16 * 1024;

/// Where the log is.
#[derive(Debug, Clone)]
pub struct Config {
    /// `host:port`, comma separated.
    pub brokers: String,
    /// The topic of the records.
    pub topic: String,
    /// Its partition count, fixed for ever.
    pub partitions: u32,
    /// seq = offset + 1 + base
    pub base: u64,
    /// The name under which the brokers know this process.
    pub client_id: String,
}

impl Config {
    /// The topic of the marks that belongs to this one of records: as many partitions, the same
    /// keys. Its seqs mean nothing.
    pub fn marks(&self) -> Self {
        Self {
            topic: hubbub_protocol::marks_topic(&self.topic),
            base: 0,
            ..self.clone()
        }
    }

    pub(crate) fn seq(&self, offset: i64) -> Seq {
        Seq(u64::try_from(offset).unwrap_or(0) + 1 + self.base)
    }

    /// What every client of ours has in common: quick reconnects, bounded connection attempts.
    pub(crate) fn client(&self) -> ClientConfig {
        let mut client = ClientConfig::new();
        client
            .set("bootstrap.servers", &self.brokers)
            .set("client.id", &self.client_id)
            .set("reconnect.backoff.ms", "50")
            .set("reconnect.backoff.max.ms", "500")
            .set("retry.backoff.max.ms", "250")
            .set("socket.connection.setup.timeout.ms", "1500")
            // A broker that dies may answer before with metadata that names no leader: librdkafka
            // then forgets the broker and asks the bootstrap servers again only after this, by
            // default five minutes. Longer than a slow answer takes.
            .set("metadata.recovery.rebootstrap.trigger.ms", "3000")
            .set("socket.nagle.disable", "true")
            .set("socket.keepalive.enable", "true")
            // A broker that is silent for long is no reason to lose the answer of a later one.
            .set("socket.timeout.ms", "6000");
        client
    }

    pub(crate) fn producer(&self) -> ClientConfig {
        let mut client = self.client();
        client
            .set("acks", "all")
            .set("enable.idempotence", "true")
            .set("max.in.flight.requests.per.connection", "5")
            .set("linger.ms", linger_ms())
            .set(
                "delivery.timeout.ms",
                DELIVERY_TIMEOUT.as_millis().to_string(),
            )
            .set("queue.buffering.max.messages", PRODUCER_RECORDS.to_string())
            .set("queue.buffering.max.kbytes", PRODUCER_KBYTES.to_string())
            // librdkafka's own default is CRC32, which no other Kafka client agrees with.
            .set("partitioner", "murmur2_random")
            .set("compression.codec", "none");
        client
    }
}

/// The ack is in every live delivery's latency: never wait for company. Where a mistake is planted
/// that does not wait for the ack, records gather, and die with the process.
fn linger_ms() -> &'static str {
    if planted(Mutant::M1) { "300" } else { "0" }
}

/// What becomes of a partition whose log does not hold the position in the store: it was deleted
/// up to there, or lost and made anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Misfit {
    /// It is refused: somebody must look, since records may be lost or their seqs be taken.
    Refuse,
    /// It is read from its first record on. For records that may be applied twice and whose loss
    /// later ones make good.
    Begin,
}

/// How a consumer takes part in its group.
#[derive(Debug, Clone)]
pub struct ConsumerConfig {
    /// Where the log is.
    pub log: Config,
    /// The group whose members share the partitions.
    pub group: String,
    /// A member that is silent for so long is dead and its partitions move. A stock broker takes
    /// 6 s or more; at most [`SESSION_TIMEOUT_MAX`].
    pub session_timeout: Duration,
    /// How often a member says that it lives; at most a third of the session timeout.
    pub heartbeat: Duration,
    /// Records in one vector of a partition's queue, at most; from 1.
    pub batch_records: usize,
    /// Where the log does not hold the store's position.
    pub misfit: Misfit,
}

impl ConsumerConfig {
    /// With `member`, a name that no other member ever has (KIP-345, static membership). When Kafka
    /// was away for longer than a session, who comes back under it has its place again at once;
    /// without it the group waits a session for the ids of before. The name is of one client and no
    /// process has it again, so it never stands for two.
    pub(crate) fn client(&self, member: &str) -> ClientConfig {
        let mut client = self.log.client();
        client
            .set("group.id", &self.group)
            .set("group.instance.id", member)
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("partition.assignment.strategy", "cooperative-sticky")
            .set(
                "session.timeout.ms",
                self.session_timeout.as_millis().to_string(),
            )
            .set(
                "heartbeat.interval.ms",
                self.heartbeat.as_millis().to_string(),
            )
            .set(
                "max.poll.interval.ms",
                SESSION_TIMEOUT_MAX.as_millis().to_string(),
            )
            // A position that is not in the log is a refusal, never a silent start elsewhere.
            .set("auto.offset.reset", "error")
            .set("fetch.wait.max.ms", FETCH_WAIT.as_millis().to_string())
            .set("fetch.min.bytes", "1")
            .set("fetch.message.max.bytes", "1048576")
            .set("fetch.max.bytes", "8388608")
            .set("fetch.error.backoff.ms", "100")
            // The default of 1 s would be seen after every full queue.
            .set("fetch.queue.backoff.ms", "20")
            .set("queued.min.messages", "10000")
            .set("queued.max.messages.kbytes", FETCHED_KBYTES.to_string())
            .set("check.crcs", "true")
            // For the lag gauge alone.
            .set("statistics.interval.ms", "5000");
        client
    }
}
