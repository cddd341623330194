use std::{collections::BTreeMap, sync::Arc, time::Duration};

use hubbub_log::{Appender, Metrics, Rejected, Report, Reports, create_topic, read_all};
use hubbub_protocol::partition_of;
use hubbub_stack::{Kafka, Port, Purpose};
use parking_lot::Mutex;
use prometheus_client::{encoding::text::encode, registry::Registry};
use rdkafka::{
    ClientConfig,
    producer::{BaseProducer, BaseRecord, Producer as _},
};
use tokio::{task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::support::{DEADLINE, appender, channel, config, eventually, fresh};

/// A broker that is back by then has the record before it is given up, after six seconds.
const IN_TIME: Duration = Duration::from_secs(4);

#[tokio::test(flavor = "multi_thread")]
async fn reports_come_in_log_order_with_the_brokers_time() -> anyhow::Result<()> {
    let config = fresh(8).await?;
    let metrics = Metrics::default();
    let (appender, reports) = appender(&config, &metrics);
    appender.warm_up().await?;
    for number in 0..2_000 {
        let to = channel(i64::try_from(number % 50)? + 1);
        let sent = appender.append(to, number.to_string().into_bytes(), number);
        assert!(sent.is_ok());
    }
    appender.flush(DEADLINE).await?;
    let mut log = BTreeMap::new();
    for (partition, record) in read_all(&config).await? {
        let number: usize = String::from_utf8(record.payload.expect("a payload"))?.parse()?;
        let to = channel(i64::try_from(number % 50)? + 1);
        assert_eq!(partition, partition_of(to, 8));
        assert_eq!(record.key, Some(to.to_string().into_bytes()));
        log.insert(number, (partition, record.seq, record.ts_ms));
    }
    assert_eq!(log.len(), 2_000);
    let mut last = BTreeMap::new();
    for (number, report) in reports.lock().iter() {
        let Report::Appended(appended) = report else {
            panic!("{number}: {report:?}");
        };
        let (partition, seq, ts_ms) = log[number];
        // The topic stamps records itself, so an equal time is the broker's own.
        assert_eq!((appended.seq, appended.ts_ms), (seq, ts_ms));
        let before = last.insert(partition, appended.seq);
        assert!(
            before < Some(appended.seq),
            "reports of {partition} in order"
        );
        assert!(ts_ms > 1_577_836_800_000, "a time after 2020");
    }
    let mut registry = Registry::default();
    metrics.register(&mut registry);
    let mut text = String::new();
    encode(&mut text, &registry)?;
    assert!(
        text.contains("log_appends_total{outcome=\"appended\"} 2000"),
        "{text}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn partition_agrees_with_kafkas_own_partitioner() -> anyhow::Result<()> {
    let config = fresh(32).await?;
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", &config.brokers)
        .set("partitioner", "murmur2_random")
        .create()?;
    for number in 1..=500 {
        let key = channel(number * 7_919).to_string();
        let record = BaseRecord::to(&config.topic).key(&key).payload(&key);
        producer.send(record).map_err(|(error, _)| error)?;
    }
    producer.flush(DEADLINE)?;
    let records = read_all(&config).await?;
    assert_eq!(records.len(), 500);
    for (partition, record) in records {
        let key = String::from_utf8(record.key.expect("a key"))?;
        assert_eq!(partition, partition_of(key.parse()?, 32), "{key}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn reports_that_nobody_takes_are_bounded() -> anyhow::Result<()> {
    let config = fresh(1).await?;
    let (appender, queue) = Appender::start_queued(&config, &Metrics::default())?;
    let append = |number| appender.append(channel(1), vec![b'x'], number);
    for number in 0..10_000 {
        assert!(append(number).is_ok(), "{number}");
    }
    let no_more = append(10_000);
    assert!(
        matches!(no_more, Err((10_000, Rejected::Full))),
        "{no_more:?}"
    );
    let handed_on = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&handed_on);
    let (stop, mut running) = (CancellationToken::new(), JoinSet::new());
    let tell = move |reports: Reports<'_, usize>| {
        let good = |report| matches!(report, Report::Appended(_));
        sink.lock()
            .extend(reports.map(|(tag, report)| (tag, good(report))));
    };
    running.spawn(queue.run(stop.clone(), tell));
    appender.flush(DEADLINE).await?;
    assert!(append(10_000).is_ok(), "there is room again");
    appender.flush(DEADLINE).await?;
    stop.cancel();
    running.join_next().await.expect("one task")?;
    assert!(
        (0..=10_000)
            .map(|tag| (tag, true))
            .eq(handed_on.lock().drain(..))
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn full_queue_rejects_at_once_and_a_drop_reports_what_waits() -> anyhow::Result<()> {
    // Held, so that nobody else answers on it.
    let port = Port::free()?;
    let nobody = config(port.addr().to_string(), 1);
    let (by_count, reports) = appender(&nobody, &Metrics::default());
    let began = Instant::now();
    let mut accepted = 0;
    let rejected = loop {
        match by_count.append(channel(1), vec![b'x'; 100], accepted) {
            Ok(()) => accepted += 1,
            Err((tag, rejected)) => break (tag, rejected),
        }
    };
    assert!(matches!(rejected, (10_000, Rejected::Full)), "{rejected:?}");
    assert!(
        began.elapsed() < Duration::from_secs(2),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(by_count.outstanding(), 10_000);
    assert!(by_count.flush(Duration::from_millis(10)).await.is_err());
    drop(by_count);
    let reports = reports.lock();
    assert_eq!(reports.len(), 10_000);
    assert!(reports.iter().all(|(_, r)| matches!(r, Report::Unknown(_))));

    let (by_bytes, _) = appender(&nobody, &Metrics::default());
    let sizes = (0..100).map(|tag| by_bytes.append(channel(1), vec![b'x'; 900_000], tag));
    let accepted = sizes.take_while(Result::is_ok).count();
    assert!(
        (36..=38).contains(&accepted),
        "32 MiB are {accepted} records"
    );
    let huge = by_bytes.append(channel(1), vec![b'x'; 2_000_000], 0);
    assert!(matches!(huge, Err((0, Rejected::Invalid(_)))), "{huge:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn broker_away_means_unknown_and_one_record_later() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let (broker, controller) = (Port::free()?, Port::free()?);
    let kafka = Kafka::launch(dir.path(), broker, controller, Purpose::ThrowAway).await?;
    let config = config(kafka.brokers(), 1);
    create_topic(&config, 1).await?;
    let (appender, reports) = appender(&config, &Metrics::default());
    appender.warm_up().await?;
    let append = |tag: usize| appender.append(channel(1), tag.to_string().into_bytes(), tag);
    assert!(append(0).is_ok());
    appender.flush(DEADLINE).await?;

    // Killed and back before the record is given up: appended, once. A broker that starts too late
    // for that shows nothing, and is killed again.
    let mut tag = 10;
    loop {
        kafka.kill().await;
        let given = Instant::now();
        assert!(append(tag).is_ok());
        kafka.start().await?;
        let is_in_time = given.elapsed() < IN_TIME;
        let is_reported = || reports.lock().iter().any(|(reported, _)| *reported == tag);
        eventually("a report after the restart", is_reported).await;
        if is_in_time {
            break;
        }
        tag += 1;
        assert!(tag < 15, "the broker is never back in time");
    }
    let others = reports.lock().len();

    // Frozen with the record already in its socket: nobody can know.
    kafka.pause();
    assert!(append(2).is_ok());
    eventually("a report from a frozen broker", || {
        reports.lock().len() == others + 1
    })
    .await;
    kafka.resume();
    kafka.wait_ready().await?;
    assert!(append(2).is_ok());
    eventually("a report after the thaw", || {
        reports.lock().len() == others + 2
    })
    .await;

    let reports = reports.lock().clone();
    let appended = |at: usize| matches!(reports[at].1, Report::Appended(_));
    let [back, thawed] = [others - 1, others + 1];
    assert!(
        appended(0) && appended(back) && appended(thawed),
        "{reports:?}"
    );
    assert!(
        matches!(reports[others], (2, Report::Unknown(_))),
        "{reports:?}"
    );
    let mut counts = BTreeMap::new();
    for (_, record) in read_all(&config).await? {
        *counts.entry(record.payload).or_insert(0) += 1;
    }
    let count = |tag: &str| counts.get(&Some(tag.into())).copied().unwrap_or(0);
    assert_eq!((count("0"), count(&tag.to_string())), (1, 1));
    assert!(
        (1..=2).contains(&count("2")),
        "unknown is once or not at all: {counts:?}"
    );
    Ok(())
}
