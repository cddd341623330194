//! A topic per test, an appender that collects its reports, and members that keep their
//! positions as the store would: by compare-and-set.
use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use hubbub_log::{
    Appender, Config, Consumer, ConsumerConfig, ConsumerEvent, ConsumerHandle, LogRecord, Metrics,
    Misfit, Positions, Report, create_topic,
};
use hubbub_protocol::{ChannelId, ChannelLetter, partition_of};
use parking_lot::Mutex;
use tokio::{sync::mpsc, task::JoinSet, time::Instant};
use uuid::Uuid;

pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

pub(crate) fn config(brokers: String, partitions: u32) -> Config {
    Config {
        brokers,
        topic: format!("messages-{}", Uuid::new_v4().simple()),
        partitions,
        base: 0,
        client_id: "test".to_owned(),
    }
}

/// A topic of the test's own in the shared Kafka.
pub(crate) async fn fresh(partitions: u32) -> anyhow::Result<Config> {
    let brokers = hubbub_stack::shared_servers().await?.kafka_brokers.clone();
    let config = config(brokers, partitions);
    create_topic(&config, 1).await?;
    Ok(config)
}

pub(crate) fn channel(number: i64) -> ChannelId {
    ChannelId::new(ChannelLetter::Channel, number).expect("from 1")
}

/// A channel that lives in this partition.
pub(crate) fn channel_in(partition: i32, partitions: u32) -> ChannelId {
    let mut numbers = (1..).map(channel);
    numbers
        .find(|channel| partition_of(*channel, partitions) == partition)
        .expect("murmur2 reaches every partition")
}

/// Waits for something to hold.
pub(crate) async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !holds() {
        assert!(Instant::now() < deadline, "not within {DEADLINE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The reports of an appender, in the order in which they came.
pub(crate) type Reports = Arc<Mutex<Vec<(usize, Report)>>>;

pub(crate) fn appender(config: &Config, metrics: &Metrics) -> (Appender<usize>, Reports) {
    let reports = Reports::default();
    let sink = Arc::clone(&reports);
    let on_report = move |tag, report| sink.lock().push((tag, report));
    let appender = Appender::start(config, metrics, on_report).expect("starts without a broker");
    (appender, reports)
}

/// Appends `count` numbered records to a channel and waits for all reports.
pub(crate) async fn append_some(config: &Config, channel: ChannelId, count: usize) {
    let (appender, reports) = appender(config, &Metrics::default());
    for number in 0..count {
        let sent = appender.append(channel, number.to_string().into_bytes(), number);
        assert!(sent.is_ok());
    }
    appender.flush(DEADLINE).await.expect("all are reported");
    let reports = reports.lock();
    let good = |(_, report): &&(usize, Report)| matches!(report, Report::Appended(_));
    assert_eq!(reports.iter().filter(good).count(), count, "{reports:?}");
}

/// What a store would hold: positions, and the offsets that were written.
#[derive(Debug, Default)]
pub(crate) struct Book {
    pub(crate) positions: HashMap<i32, i64>,
    pub(crate) rows: BTreeMap<i32, Vec<i64>>,
    pub(crate) refused_writes: usize,
    /// Partitions whose position cannot be read.
    pub(crate) away: HashSet<i32>,
    pub(crate) asked: usize,
}

pub(crate) type Books = Arc<Mutex<Book>>;

impl Book {
    /// Whether the position was moved.
    fn write(&mut self, partition: i32, expected: i64, batch: &[LogRecord]) -> bool {
        let position = self.positions.entry(partition).or_insert(0);
        if *position != expected {
            self.refused_writes += 1;
            return false;
        }
        *position = batch.last().expect("a batch has records").next_offset;
        let rows = self.rows.entry(partition).or_default();
        rows.extend(batch.iter().map(|record| record.next_offset - 1));
        true
    }

    pub(crate) fn count(&self) -> usize {
        self.rows.values().map(Vec::len).sum()
    }

    /// Every offset of every partition once and in order.
    pub(crate) fn is_dense(&self) -> bool {
        let dense = |rows: &Vec<i64>| rows.iter().copied().eq((0..).take(rows.len()));
        self.rows.values().all(dense)
    }
}

#[derive(Debug)]
pub(crate) struct FromBook(pub(crate) Books);

impl Positions for FromBook {
    fn positions(&self, partitions: &[i32]) -> Result<HashMap<i32, i64>, String> {
        let mut book = self.0.lock();
        book.asked += 1;
        if partitions.iter().any(|p| book.away.contains(p)) {
            return Err("the shard is away".to_owned());
        }
        let known = |p: &i32| Some((*p, *book.positions.get(p)?));
        Ok(partitions.iter().filter_map(known).collect())
    }
}

pub(crate) fn consumer_config(log: &Config, group: &str, batch_records: usize) -> ConsumerConfig {
    ConsumerConfig {
        log: log.clone(),
        group: group.to_owned(),
        session_timeout: Duration::from_millis(3_000),
        heartbeat: Duration::from_millis(1_000),
        batch_records,
        misfit: Misfit::Refuse,
    }
}

/// A member whose partitions are all written to the book.
#[derive(Debug)]
pub(crate) struct Reader {
    consumer: Consumer,
    events: JoinSet<()>,
    pub(crate) held: Arc<Mutex<BTreeSet<i32>>>,
    pub(crate) refused: Arc<Mutex<Vec<(i32, String)>>>,
    pub(crate) metrics: Metrics,
}

impl Reader {
    pub(crate) fn start(log: &Config, group: &str, books: &Books) -> Self {
        Self::start_with(consumer_config(log, group, 50), books)
    }

    /// A member whose session lasts longer or shorter than the others'.
    pub(crate) fn start_for(log: &Config, session: Duration, books: &Books) -> Self {
        let config = ConsumerConfig {
            session_timeout: session,
            heartbeat: Duration::from_millis(300),
            ..consumer_config(log, &log.topic, 50)
        };
        Self::start_with(config, books)
    }

    fn start_with(config: ConsumerConfig, books: &Books) -> Self {
        let metrics = Metrics::default();
        let positions = Arc::new(FromBook(Arc::clone(books)));
        let (consumer, events) = Consumer::start(config, &metrics, positions).expect("starts");
        let (held, refused) = (Arc::default(), Arc::default());
        let task = serve(
            events,
            consumer.handle(),
            Arc::clone(books),
            Arc::clone(&held),
            Arc::clone(&refused),
        );
        Self {
            consumer,
            events: JoinSet::from_iter([task]),
            held,
            refused,
            metrics,
        }
    }

    pub(crate) fn restart(&self, partition: i32) {
        self.consumer.restart(partition);
    }

    pub(crate) async fn stop(self) {
        self.consumer.stop().await;
        // The events end with the thread; a failed assertion in a task fails the test here.
        self.events.join_all().await;
    }
}

async fn serve(
    mut events: mpsc::Receiver<ConsumerEvent>,
    handle: ConsumerHandle,
    books: Books,
    held: Arc<Mutex<BTreeSet<i32>>>,
    refused: Arc<Mutex<Vec<(i32, String)>>>,
) {
    let mut tasks = JoinSet::new();
    while let Some(event) = events.recv().await {
        match event {
            ConsumerEvent::Assigned {
                partition,
                next_offset,
                mut records,
            } => {
                held.lock().insert(partition);
                let (books, handle) = (Arc::clone(&books), handle.clone());
                tasks.spawn(async move {
                    let mut position = next_offset;
                    while let Some(batch) = records.recv().await {
                        if !books.lock().write(partition, position, &batch) {
                            return handle.restart(partition);
                        }
                        position = batch.last().expect("not empty").next_offset;
                        handle.commit_for_lag_tools(partition, position);
                    }
                });
            }
            ConsumerEvent::Revoked { partition, done } => {
                held.lock().remove(&partition);
                drop(done);
            }
            ConsumerEvent::Refused { partition, error } => refused.lock().push((partition, error)),
        }
    }
    while tasks.join_next().await.is_some() {}
}
