//! The producer behind an appender, its thread, and its replacement after a fatal error.
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use parking_lot::{Mutex, RwLock};
use rdkafka::{
    ClientContext, Message as _, Timestamp,
    config::{FromClientConfigAndContext as _, RDKafkaLogLevel},
    error::{KafkaError, RDKafkaErrorCode},
    message::DeliveryResult,
    producer::{
        BaseProducer, BaseRecord, NoCustomPartitioner, Producer as _, ProducerContext, PurgeConfig,
    },
};
use tokio::time::Instant;

use crate::{
    Appended, Config, Error, Metrics, Rejected, Report, Reports,
    admin::check_count,
    appender::Outstanding,
    bursts::Bursts,
    client::{log_error, log_line},
    config::PRODUCER_RECORDS,
};

/// How long one poll serves reports before the thread looks at its orders and for a fatal error.
/// Whole milliseconds and a tenth: rdkafka asks for what is left in whole ones, and in a poll to
/// which nothing comes it would spin through what is left after them.
const POLL: Duration = Duration::from_micros(400_100);
/// Reports whose room is kept.
const ROOM: usize = 256;
/// How long a producer that is given up may take to report what it holds.
const LAST_REPORTS: Duration = Duration::from_secs(1);

/// Takes reports, and counts them as done once their senders can know.
pub(crate) type OnReports<T> = Arc<dyn Fn(Reports<'_, T>) + Send + Sync>;

/// What rides along with a record.
pub(crate) struct Tagged<T> {
    tag: T,
    handed_over: Instant,
}

impl<T> Tagged<T> {
    pub(crate) fn new(tag: T) -> Self {
        Self {
            tag,
            handed_over: Instant::now(),
        }
    }

    pub(crate) fn into_tag(self) -> T {
        self.tag
    }
}

/// The reports that wait for those of the same burst. They are taken and handed on by one thread
/// alone.
struct Held<T> {
    /// Also taken for the length of a hand-over: bursts have the order of the records in the
    /// producer, and a report that comes before its record is in its burst waits.
    bursts: Mutex<Bursts>,
    reports: Mutex<Vec<(T, Report)>>,
    outstanding: Arc<Outstanding>,
    on_reports: OnReports<T>,
}

impl<T> Held<T> {
    fn take(&self, partition: i32, tag: T, report: Report) {
        self.reports.lock().push((tag, report));
        if self.bursts.lock().done(partition) {
            self.hand_on();
        }
    }

    fn hand_on(&self) {
        // Not under the lock, and with its room given back: nobody else adds any meanwhile.
        let mut reports = std::mem::take(&mut *self.reports.lock());
        if !reports.is_empty() {
            (self.on_reports)(reports.drain(..));
        }
        reports.shrink_to(ROOM);
        *self.reports.lock() = reports;
    }
}

struct Context<T: Send + 'static> {
    config: Config,
    metrics: Metrics,
    held: Arc<Held<T>>,
}

impl<T: Send + 'static> ClientContext for Context<T> {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        log_line(level, facility, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        log_error(&error, reason);
    }
}

impl<T: Send + 'static> ProducerContext<NoCustomPartitioner> for Context<T> {
    // The lock is never contended: it makes a tag that is only `Send` fit for rdkafka's `Sync`.
    type DeliveryOpaque = Box<Mutex<Tagged<T>>>;

    fn delivery(&self, result: &DeliveryResult<'_>, tagged: Self::DeliveryOpaque) {
        let tagged = tagged.into_inner();
        let report = self.report(result);
        self.metrics.append(match report {
            Report::Appended(_) => "appended",
            Report::Rejected(_) => "rejected",
            Report::Unknown(_) => "unknown",
        });
        let waited = tagged.handed_over.elapsed();
        self.metrics.append_seconds.observe(waited.as_secs_f64());
        let partition = match result {
            Ok(record) | Err((_, record)) => record.partition(),
        };
        self.held.take(partition, tagged.tag, report);
    }
}

impl<T: Send + 'static> Context<T> {
    fn report(&self, result: &DeliveryResult<'_>) -> Report {
        match result {
            Ok(record) => landed(&self.config, record.offset(), record.timestamp()),
            Err((error, _)) => Report::Unknown(error.to_string()),
        }
    }
}

/// What a success report says. Without an offset (a repeated batch whose first answer was lost
/// may come so) or a time the record is in the log, but nobody knows where.
fn landed(config: &Config, offset: i64, timestamp: Timestamp) -> Report {
    match (offset, timestamp.to_millis()) {
        (0.., Some(ts_ms)) => Report::Appended(Appended {
            seq: config.seq(offset),
            ts_ms,
        }),
        _ => Report::Unknown(format!(
            "acknowledged without a position (offset {offset}, {timestamp:?})"
        )),
    }
}

/// A producer that is replaced when it fails for good, with the thread that serves its reports.
pub(crate) struct Producer<T: Send + 'static> {
    shared: Arc<Shared<T>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

struct Shared<T: Send + 'static> {
    config: Config,
    metrics: Metrics,
    held: Arc<Held<T>>,
    /// Written only when a producer is replaced, by the thread that serves its reports; read for
    /// the length of one `send`.
    current: RwLock<Arc<BaseProducer<Context<T>>>>,
    stop: AtomicBool,
}

impl<T: Send + 'static> Producer<T> {
    pub(crate) fn start(
        config: Config,
        metrics: Metrics,
        outstanding: Arc<Outstanding>,
        on_reports: OnReports<T>,
    ) -> Result<Self, Error> {
        let held = Arc::new(Held {
            bursts: Mutex::new(Bursts::new(config.partitions)),
            reports: Mutex::default(),
            outstanding,
            on_reports,
        });
        let first = create(&config, &metrics, &held)?;
        let shared = Arc::new(Shared {
            config,
            metrics,
            held,
            current: RwLock::new(Arc::new(first)),
            stop: AtomicBool::new(false),
        });
        let thread = thread::Builder::new()
            .name("log-producer".to_owned())
            .spawn({
                let shared = Arc::clone(&shared);
                move || shared.run()
            })
            .map_err(|error| Error::Thread(error.to_string()))?;
        Ok(Self {
            shared,
            thread: Mutex::new(Some(thread)),
        })
    }

    pub(crate) fn outstanding(&self) -> &Outstanding {
        &self.shared.held.outstanding
    }

    /// Never waits (but for the microseconds of a replacement).
    pub(crate) fn send(
        &self,
        partition: i32,
        key: &str,
        payload: &[u8],
        tagged: Tagged<T>,
    ) -> Result<(), (Tagged<T>, Rejected)> {
        let (shared, handed_over) = (&self.shared, tagged.handed_over);
        let outstanding = &shared.held.outstanding;
        // Reports wait for their queue's task, too, of which librdkafka's bound knows nothing.
        if outstanding.records() >= PRODUCER_RECORDS as u64 {
            return Err((tagged, Rejected::Full));
        }
        let record = BaseRecord::with_opaque_to(&shared.config.topic, Box::new(Mutex::new(tagged)))
            .partition(partition)
            .key(key)
            .payload(payload);
        // Before the hand-over: the report may come before `send` returns.
        outstanding.add();
        let sent = {
            let mut bursts = shared.held.bursts.lock();
            let sent = shared.current.read().send(record);
            if sent.is_ok() {
                bursts.add(partition, handed_over);
            }
            sent
        };
        sent.map_err(|(error, record)| {
            outstanding.done(1);
            let rejected = match error {
                KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull) => Rejected::Full,
                other => Rejected::Invalid(other.to_string()),
            };
            (record.delivery_opaque.into_inner(), rejected)
        })
    }

    /// Blocks up to `deadline`.
    pub(crate) fn check_topic(&self, deadline: Duration) -> Result<(), Error> {
        let config = &self.shared.config;
        // Not under the lock: a replacement, and with it every append, would wait for the answer.
        let current = Arc::clone(&self.shared.current.read());
        let metadata = current
            .client()
            .fetch_metadata(Some(&config.topic), deadline)?;
        check_count(config, &metadata)
    }
}

impl<T: Send + 'static> Drop for Producer<T> {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        let Some(thread) = self.thread.lock().take() else {
            return;
        };
        // The last handle may go inside `on_report`, on the thread itself.
        if thread.thread().id() != thread::current().id() && thread.join().is_err() {
            tracing::error!("the log's producer thread panicked");
        }
    }
}

impl<T: Send + 'static> Shared<T> {
    fn run(&self) {
        while !self.stop.load(Ordering::Acquire) {
            self.current.read().poll(POLL);
            // A burst whose rest is late.
            self.held.hand_on();
            let waiting = i64::try_from(self.held.outstanding.records()).unwrap_or(i64::MAX);
            self.metrics.queue.set(waiting);
            let fatal = self.current.read().client().fatal_error();
            if let Some((code, reason)) = fatal {
                self.replace(code, &reason);
            }
        }
        give_up(&self.current.read(), &self.held);
    }

    /// Puts a new producer in the place of one that failed for good. Every record of the old one
    /// has its report before the new one takes its first, so the order of reports holds.
    fn replace(&self, code: RDKafkaErrorCode, reason: &str) {
        tracing::error!(kafka.code = ?code, "the log's producer failed for good and is replaced: {reason}");
        give_up(&self.current.read(), &self.held);
        match create(&self.config, &self.metrics, &self.held) {
            Ok(new) => {
                let old = std::mem::replace(&mut *self.current.write(), Arc::new(new));
                drop(old);
                self.metrics.producers_replaced.inc();
            }
            // Appends stay rejected and the next turn tries again.
            Err(error) => tracing::error!(%error, "cannot start a new producer"),
        }
    }
}

fn create<T: Send + 'static>(
    config: &Config,
    metrics: &Metrics,
    held: &Arc<Held<T>>,
) -> Result<BaseProducer<Context<T>>, Error> {
    let context = Context {
        config: config.clone(),
        metrics: metrics.clone(),
        held: Arc::clone(held),
    };
    Ok(BaseProducer::from_config_and_context(
        &config.producer(),
        context,
    )?)
}

/// Serves the reports of all that the producer holds; what is in flight may be in the log, so
/// these reports are `Unknown`.
fn give_up<T: Send + 'static>(producer: &BaseProducer<Context<T>>, held: &Held<T>) {
    producer.purge(PurgeConfig::default().queue().inflight());
    if let Err(error) = producer.flush(LAST_REPORTS) {
        tracing::warn!(%error, "a producer ended without all of its reports");
    }
    held.hand_on();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn success_without_a_position_is_unknown() {
        let config = Config {
            brokers: String::new(),
            topic: "messages".to_owned(),
            partitions: 1,
            base: 1_000,
            client_id: String::new(),
        };
        let at = |offset, time| landed(&config, offset, time);
        let Report::Appended(appended) = at(7, Timestamp::LogAppendTime(99)) else {
            panic!("an offset and a time are a position");
        };
        assert_eq!((appended.seq.0, appended.ts_ms), (1_008, 99));
        for (offset, time) in [
            (-1, Timestamp::LogAppendTime(99)),
            (-1_001, Timestamp::LogAppendTime(99)),
            (7, Timestamp::NotAvailable),
        ] {
            assert!(matches!(at(offset, time), Report::Unknown(_)), "{offset}");
        }
    }

    #[test]
    fn reports_of_a_burst_are_handed_on_together_or_when_the_rest_is_late() {
        let calls = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&calls);
        let outstanding = Arc::<Outstanding>::default();
        let told = Arc::clone(&outstanding);
        let held = Held {
            bursts: Mutex::new(Bursts::new(2)),
            reports: Mutex::default(),
            outstanding,
            on_reports: Arc::new(move |reports: Reports<'_, u32>| {
                let tags: Vec<_> = reports.map(|(tag, _)| tag).collect();
                told.done(tags.len() as u64);
                sink.lock().push(tags);
            }),
        };
        let now = Instant::now();
        for _ in 0..4 {
            held.outstanding.add();
            held.bursts.lock().add(1, now);
        }
        let report = |tag| held.take(1, tag, Report::Unknown(String::new()));
        (1..=3).for_each(report);
        assert_eq!(calls.lock().len(), 0);
        assert_eq!(held.outstanding.records(), 4, "nobody has heard of them");
        held.hand_on();
        held.hand_on();
        assert_eq!(held.outstanding.records(), 1);
        report(4);
        assert_eq!(*calls.lock(), [vec![1, 2, 3], vec![4]]);
        assert_eq!(held.outstanding.records(), 0);
    }
}
