use std::{collections::HashMap, sync::Arc, time::Duration};

use hubbub_log::{
    Config, Consumer, ConsumerConfig, ConsumerEvent, LogRecord, Metrics, Misfit, create_topic,
    watermarks,
};
use hubbub_stack::{Kafka, Port, Purpose};
use prometheus_client::{encoding::text::encode, registry::Registry};
use rdkafka::{
    ClientConfig, Offset, TopicPartitionList,
    admin::{AdminClient, AdminOptions},
    client::DefaultClientContext,
    consumer::{BaseConsumer, Consumer as _},
};
use tokio::{
    sync::mpsc,
    time::{Instant, timeout},
};
use uuid::Uuid;

use crate::support::{
    Books, DEADLINE, FromBook, Reader, append_some, appender, channel, channel_in, config,
    consumer_config, eventually, fresh,
};

fn value(metrics: &Metrics, name: &str) -> f64 {
    let mut registry = Registry::default();
    metrics.register(&mut registry);
    let mut text = String::new();
    encode(&mut text, &registry).expect("a String takes every write");
    let line = text.lines().find(|line| line.starts_with(name));
    let number = line.and_then(|line| line.rsplit(' ').next());
    number.map_or(0.0, |number| number.parse().expect("a number"))
}

#[tokio::test(flavor = "multi_thread")]
async fn consumer_goes_on_from_the_stored_position() -> anyhow::Result<()> {
    let log = fresh(2).await?;
    let books = Books::default();
    append_some(&log, channel_in(0, 2), 100).await;
    let reader = Reader::start(&log, &log.topic, &books);
    eventually("the first hundred", || books.lock().count() == 100).await;
    reader.stop().await;
    append_some(&log, channel_in(0, 2), 50).await;
    append_some(&log, channel_in(1, 2), 50).await;
    let reader = Reader::start(&log, &log.topic, &books);
    eventually("all two hundred", || books.lock().count() == 200).await;
    assert!(books.lock().is_dense());
    assert_eq!(books.lock().refused_writes, 0);
    reader.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn members_join_and_leave_and_nothing_is_lost_or_doubled() -> anyhow::Result<()> {
    let log = fresh(8).await?;
    let books = Books::default();
    let (appender, _) = appender(&log, &Metrics::default());
    appender.warm_up().await?;
    let first = Reader::start(&log, &log.topic, &books);
    eventually("the first member has all", || first.held.lock().len() == 8).await;
    let mut sent = 0;
    let mut append = |count: usize| {
        for _ in 0..count {
            let to = channel(i64::try_from(sent % 64).expect("small") + 1);
            assert!(appender.append(to, vec![b'x'; 100], sent).is_ok());
            sent += 1;
        }
        sent
    };
    append(500);
    let second = Reader::start(&log, &log.topic, &books);
    eventually("the two share", || {
        append(5);
        first.held.lock().len() == 4 && second.held.lock().len() == 4
    })
    .await;
    append(500);
    second.stop().await;
    eventually("the first has all again", || {
        append(5);
        first.held.lock().len() == 8
    })
    .await;
    let total = append(100);
    appender.flush(DEADLINE).await?;
    eventually("every record is stored", || books.lock().count() == total).await;
    assert!(books.lock().is_dense(), "{:?}", books.lock().rows);
    first.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn member_that_leaves_keeps_no_place() -> anyhow::Result<()> {
    // Longer than a test waits: what it sees does not come from a session that ends.
    let session = Duration::from_secs(30);
    let log = fresh(4).await?;
    let books = Books::default();
    let first = Reader::start_for(&log, session, &books);
    eventually("the first member has all", || first.held.lock().len() == 4).await;
    let second = Reader::start_for(&log, session, &books);
    eventually("the two share", || {
        first.held.lock().len() == 2 && second.held.lock().len() == 2
    })
    .await;
    first.stop().await;
    eventually("the second has all", || second.held.lock().len() == 4).await;
    second.stop().await;
    Ok(())
}

/// Joins a group under the name of its only member, which the broker then refuses as the older of
/// two: to librdkafka that is an error for good.
fn fence(log: &Config) -> anyhow::Result<BaseConsumer> {
    let mut client = ClientConfig::new();
    client
        .set("bootstrap.servers", &log.brokers)
        .set("group.id", &log.topic)
        .set("partition.assignment.strategy", "cooperative-sticky");
    let looker: BaseConsumer = client.create()?;
    let member = loop {
        let groups = looker.fetch_group_list(Some(&log.topic), Duration::from_secs(5))?;
        let members = groups.groups().iter().flat_map(|group| group.members());
        if let Some(member) = members.map(|member| member.id().to_owned()).next() {
            break member;
        }
    };
    let name = &member[..member.len() - "-".len() - Uuid::nil().to_string().len()];
    let other: BaseConsumer = client.set("group.instance.id", name).create()?;
    other.subscribe(&[&log.topic])?;
    Ok(other)
}

#[tokio::test(flavor = "multi_thread")]
async fn member_whose_client_fails_for_good_begins_anew() -> anyhow::Result<()> {
    // Long enough not to be lost by itself.
    let session = Duration::from_secs(3);
    let log = fresh(2).await?;
    let books = Books::default();
    let reader = Reader::start_for(&log, session, &books);
    let mut rows = 0;
    let mut more = async |what| {
        append_some(&log, channel_in(0, 2), 10).await;
        rows += 10;
        eventually(what, || books.lock().count() == rows).await;
    };
    let lost = || value(&reader.metrics, r#"log_rebalances_total{kind="lost"}"#);
    for _ in 0..2 {
        let began = Instant::now();
        while began.elapsed() <= session {
            more("rows of a client that lives for a session").await;
        }
        let before = lost();
        let other = fence(&log)?;
        eventually("the client fails", || {
            drop(other.poll(Duration::from_millis(10)));
            lost() > before
        })
        .await;
        more("rows of the next client").await;
        drop(other);
    }
    assert!(books.lock().is_dense());
    reader.stop().await;
    Ok(())
}

/// The events of one member by hand, for tests that read slowly or not at all.
struct Hand {
    consumer: Consumer,
    events: mpsc::Receiver<ConsumerEvent>,
    metrics: Metrics,
}

impl Hand {
    fn start(log: &hubbub_log::Config, books: &Books, batch_records: usize) -> Self {
        let metrics = Metrics::default();
        let config = consumer_config(log, &log.topic, batch_records);
        let positions = Arc::new(FromBook(Arc::clone(books)));
        let (consumer, events) = Consumer::start(config, &metrics, positions).expect("starts");
        Self {
            consumer,
            events,
            metrics,
        }
    }

    async fn next(&mut self) -> ConsumerEvent {
        let event = timeout(DEADLINE, self.events.recv()).await;
        event.expect("an event in time").expect("the thread lives")
    }

    async fn assigned(&mut self) -> (i32, i64, mpsc::Receiver<Vec<LogRecord>>) {
        match self.next().await {
            ConsumerEvent::Assigned {
                partition,
                next_offset,
                records,
            } => (partition, next_offset, records),
            other => panic!("not assigned: {other:?}"),
        }
    }
}

async fn read(records: &mut mpsc::Receiver<Vec<LogRecord>>, count: usize) -> Vec<i64> {
    let mut offsets = Vec::new();
    while offsets.len() < count {
        let batch = timeout(DEADLINE, records.recv()).await;
        let batch = batch.expect("records in time").expect("the queue lives");
        offsets.extend(batch.iter().map(|record| record.next_offset - 1));
    }
    offsets
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_partition_pauses_alone() -> anyhow::Result<()> {
    let log = fresh(2).await?;
    let books = Books::default();
    let mut member = Hand::start(&log, &books, 10);
    let mut queues = HashMap::new();
    for _ in 0..2 {
        let (partition, next_offset, records) = member.assigned().await;
        assert_eq!(next_offset, 0);
        queues.insert(partition, records);
    }
    let (mut slow, mut quick) = (queues.remove(&0).expect("0"), queues.remove(&1).expect("1"));
    append_some(&log, channel_in(0, 2), 2_000).await;
    let metrics = member.metrics.clone();
    eventually("a pause", || {
        value(&metrics, "log_consume_pauses_total") >= 1.0
    })
    .await;
    append_some(&log, channel_in(1, 2), 500).await;
    let all: Vec<i64> = (0..500).collect();
    assert_eq!(read(&mut quick, 500).await, all, "the neighbour goes on");
    let handed = value(&metrics, "log_consumed_total");
    assert!(
        handed <= 500.0 + 50.0,
        "the slow queue is bounded: {handed}"
    );
    let all: Vec<i64> = (0..2_000).collect();
    assert_eq!(
        read(&mut slow, 2_000).await,
        all,
        "and the slow one misses nothing"
    );
    drop(member.events);
    member.consumer.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn log_that_does_not_fit_the_store_is_refused_and_neighbours_go_on() -> anyhow::Result<()> {
    let log = fresh(3).await?;
    for partition in 0..3 {
        append_some(&log, channel_in(partition, 3), 10).await;
    }
    // Partition 0 ends below its position; 1 has lost its beginning and has none; 2 is well.
    let admin: AdminClient<DefaultClientContext> = ClientConfig::new()
        .set("bootstrap.servers", &log.brokers)
        .create()?;
    let mut gone = TopicPartitionList::new();
    gone.add_partition_offset(&log.topic, 1, Offset::Offset(4))?;
    admin.delete_records(&gone, &AdminOptions::new()).await?;
    assert_eq!(watermarks(&log).await?[1].low, 4);
    let books = Books::default();
    books.lock().positions.insert(0, 50);
    let reader = Reader::start(&log, &log.topic, &books);
    eventually("two refusals", || reader.refused.lock().len() == 2).await;
    eventually("the neighbour's rows", || books.lock().count() == 10).await;
    let mut refused = reader.refused.lock().clone();
    refused.sort();
    assert_eq!((refused[0].0, refused[1].0), (0, 1));
    assert!(
        refused[0]
            .1
            .contains("ends at offset 10 and the store's position is 50")
    );
    assert!(refused[1].1.contains("begins at offset 4"));
    assert!(
        refused
            .iter()
            .all(|(_, e)| e.contains("hubbub admin new-log")),
        "{refused:?}"
    );
    eventually("the gauge", || {
        value(&reader.metrics, "log_consume_refused") == 2.0
    })
    .await;

    // Mended (here: by hand), a restart takes the partition up again.
    books.lock().positions.insert(0, 0);
    reader.restart(0);
    eventually("the mended partition", || books.lock().count() == 20).await;
    reader.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn log_that_may_begin_anew_is_read_from_what_there_is() -> anyhow::Result<()> {
    let log = fresh(2).await?;
    for partition in 0..2 {
        append_some(&log, channel_in(partition, 2), 10).await;
    }
    // Partition 0 ends below its position, 1 begins above it.
    let admin: AdminClient<DefaultClientContext> = ClientConfig::new()
        .set("bootstrap.servers", &log.brokers)
        .create()?;
    let mut gone = TopicPartitionList::new();
    gone.add_partition_offset(&log.topic, 1, Offset::Offset(4))?;
    admin.delete_records(&gone, &AdminOptions::new()).await?;
    let books = Books::default();
    books.lock().positions.extend([(0, 50), (1, 2)]);
    let config = ConsumerConfig {
        misfit: Misfit::Begin,
        ..consumer_config(&log, &log.topic, 10)
    };
    let positions = Arc::new(FromBook(Arc::clone(&books)));
    let (consumer, mut events) = Consumer::start(config, &Metrics::default(), positions)?;
    let mut starts = HashMap::new();
    while starts.len() < 2 {
        let event = timeout(DEADLINE, events.recv()).await?;
        match event.expect("the thread lives") {
            ConsumerEvent::Assigned {
                partition,
                next_offset,
                mut records,
            } => {
                let first = read(&mut records, 1).await[0];
                assert_eq!(first, next_offset);
                starts.insert(partition, first);
            }
            // A queue that was dropped here is started again, and not counted twice.
            ConsumerEvent::Revoked { .. } => {}
            other => panic!("not assigned: {other:?}"),
        }
    }
    assert_eq!((starts[&0], starts[&1]), (0, 4));
    drop(events);
    consumer.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn unreadable_position_delays_its_own_partition_only() -> anyhow::Result<()> {
    let log = fresh(2).await?;
    for partition in 0..2 {
        append_some(&log, channel_in(partition, 2), 20).await;
    }
    let books = Books::default();
    books.lock().away.insert(0);
    let reader = Reader::start(&log, &log.topic, &books);
    eventually("the neighbour's rows", || books.lock().count() == 20).await;
    let asked = books.lock().asked;
    eventually("more questions", || books.lock().asked >= asked + 3).await;
    assert_eq!(books.lock().rows.get(&0), None);
    books.lock().away.clear();
    eventually("all rows", || books.lock().count() == 40).await;
    assert!(books.lock().is_dense());
    reader.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn restarted_partition_begins_at_the_stored_position() -> anyhow::Result<()> {
    let log = fresh(1).await?;
    append_some(&log, channel(1), 100).await;
    let books = Books::default();
    let mut member = Hand::start(&log, &books, 10);
    let (_, _, mut records) = member.assigned().await;
    read(&mut records, 30).await;
    books.lock().positions.insert(0, 17);
    member.consumer.restart(0);
    let (_, next_offset, mut again) = member.assigned().await;
    assert_eq!(next_offset, 17);
    let rest: Vec<i64> = (17..100).collect();
    assert_eq!(read(&mut again, 83).await, rest);
    let ended = async { while records.recv().await.is_some() {} };
    timeout(DEADLINE, ended).await.expect("the old queue ends");

    // A task that just goes away is as good as a restart.
    drop(again);
    let (_, next_offset, mut again) = member.assigned().await;
    assert_eq!(next_offset, 17);
    assert_eq!(read(&mut again, 83).await, rest);
    drop(member.events);
    member.consumer.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn partition_that_was_paused_is_read_again_after_a_restart() -> anyhow::Result<()> {
    let log = fresh(1).await?;
    append_some(&log, channel(1), 200).await;
    let books = Books::default();
    let mut member = Hand::start(&log, &books, 10);
    let (_, _, unread) = member.assigned().await;
    paused(&member, 1).await;
    member.consumer.restart(0);
    let (_, _, mut again) = member.assigned().await;
    let all: Vec<i64> = (0..200).collect();
    assert_eq!(read(&mut again, 200).await, all);
    drop((unread, member.events));
    member.consumer.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn partition_that_was_paused_and_lent_is_read_again_when_it_returns() -> anyhow::Result<()> {
    let log = fresh(2).await?;
    for partition in 0..2 {
        append_some(&log, channel_in(partition, 2), 200).await;
    }
    let books = Books::default();
    let mut member = Hand::start(&log, &books, 10);
    let mut unread = HashMap::new();
    for _ in 0..2 {
        let (partition, _, records) = member.assigned().await;
        unread.insert(partition, records);
    }
    paused(&member, 2).await;
    let mut borrower = Hand::start(&log, &books, 10);
    let lent = match member.next().await {
        ConsumerEvent::Revoked { partition, done } => {
            drop(done);
            partition
        }
        other => panic!("not revoked: {other:?}"),
    };
    assert_eq!(borrower.assigned().await.0, lent);
    drop(borrower.events);
    borrower.consumer.stop().await;
    let (returned, _, mut again) = member.assigned().await;
    assert_eq!(returned, lent);
    let all: Vec<i64> = (0..200).collect();
    assert_eq!(read(&mut again, 200).await, all);
    drop((unread, member.events));
    member.consumer.stop().await;
    Ok(())
}

async fn paused(member: &Hand, times: u32) {
    let metrics = &member.metrics;
    eventually("pauses", || {
        value(metrics, "log_consume_pauses_total") >= f64::from(times)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn leaving_waits_for_the_tasks_but_not_for_ever() -> anyhow::Result<()> {
    let log = fresh(1).await?;
    let books = Books::default();
    let mut member = Hand::start(&log, &books, 10);
    let (_, _, mut records) = member.assigned().await;
    let began = Instant::now();
    let stopping = member.consumer.stop();
    let revoked = async {
        let mut held = None;
        while let Some(event) = member.events.recv().await {
            if let ConsumerEvent::Revoked { done, .. } = event {
                held = Some(done);
            }
        }
        held
    };
    let ((), held) = tokio::join!(stopping, revoked);
    assert!(held.is_some(), "the partition was revoked");
    assert!(records.recv().await.is_none(), "its queue has ended");
    let took = began.elapsed();
    let bounds = Duration::from_secs(2)..Duration::from_secs(8);
    assert!(
        bounds.contains(&took),
        "a task that hangs costs 2 s, not {took:?}"
    );
    Ok(())
}

/// librdkafka leaves after the answer to a rebalance only.
#[tokio::test(flavor = "multi_thread")]
async fn member_that_leaves_in_the_middle_of_a_rebalance_is_closed() -> anyhow::Result<()> {
    let log = fresh(2).await?;
    let books = Books::default();
    let mut member = Hand::start(&log, &books, 10);
    let mut held = Vec::new();
    for _ in 0..2 {
        held.push(member.assigned().await.2);
    }
    let mut other = Hand::start(&log, &books, 10);
    let task = match member.next().await {
        ConsumerEvent::Revoked { done, .. } => done,
        event => panic!("not revoked: {event:?}"),
    };
    let began = Instant::now();
    drop(member.events);
    member.consumer.stop().await;
    let took = began.elapsed();
    assert!(took < Duration::from_secs(8), "closed after {took:?}");
    drop((task, held));
    let mut taken = [other.assigned().await.0, other.assigned().await.0];
    taken.sort_unstable();
    assert_eq!(taken, [0, 1]);
    drop(other.events);
    other.consumer.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn broker_that_restarts_costs_nothing_and_one_that_is_gone_does_not_hold_the_stop()
-> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let (broker, controller) = (Port::free()?, Port::free()?);
    let kafka = Kafka::launch(dir.path(), broker, controller, Purpose::ThrowAway).await?;
    let log = config(kafka.brokers(), 2);
    create_topic(&log, 1).await?;
    let books = Books::default();
    let reader = Reader::start(&log, &log.topic, &books);
    append_some(&log, channel_in(0, 2), 100).await;
    eventually("rows before", || books.lock().count() == 100).await;
    kafka.kill().await;
    kafka.start().await?;
    append_some(&log, channel_in(1, 2), 100).await;
    eventually("rows after", || books.lock().count() == 200).await;
    assert!(books.lock().is_dense());
    kafka.kill().await;
    let began = Instant::now();
    reader.stop().await;
    let took = began.elapsed();
    assert!(took < Duration::from_secs(11), "stopped in {took:?}");
    Ok(())
}
