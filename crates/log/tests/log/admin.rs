use std::time::Duration;

use hubbub_log::{
    Config, Error, Metrics, check_positions, create_topic, read_all, topic_facts, watermarks,
};
use hubbub_stack::Port;

use rdkafka::{
    ClientConfig,
    admin::{AdminClient, AdminOptions},
    client::DefaultClientContext,
};
use tokio::time::Instant;

use crate::support::{DEADLINE, append_some, appender, channel, config, fresh};

fn refusal<T: std::fmt::Debug>(result: Result<T, Error>) -> String {
    match result {
        Err(Error::Refused(text)) => text,
        other => panic!("must be refused, was {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn topic_is_created_once_as_the_log_needs_it() -> anyhow::Result<()> {
    let config = fresh(4).await?;
    create_topic(&config, 1).await?;
    let facts = topic_facts(&config).await?;
    assert_eq!((facts.partitions, facts.replication), (4, 1));
    assert_eq!((facts.min_insync, facts.log_append_time), (1, true));
    assert!(!facts.cluster_id.is_empty());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn other_partition_count_is_refused_with_both_counts() -> anyhow::Result<()> {
    let four = fresh(4).await?;
    let five = Config {
        partitions: 5,
        ..four
    };
    let (appender, _) = appender(&five, &Metrics::default());
    for text in [
        refusal(create_topic(&five, 1).await),
        refusal(watermarks(&five).await),
        refusal(appender.warm_up().await),
    ] {
        assert!(
            text.contains("has 4 partitions and 5 are configured"),
            "{text}"
        );
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn absent_topic_is_refused_with_the_remedy() -> anyhow::Result<()> {
    let absent = Config {
        topic: "nobody-made-this".to_owned(),
        ..fresh(1).await?
    };
    let (appender, _) = appender(&absent, &Metrics::default());
    for text in [
        refusal(topic_facts(&absent).await),
        refusal(watermarks(&absent).await),
        refusal(appender.warm_up().await),
    ] {
        assert!(text.contains("hubbub admin init"), "{text}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn questions_without_a_broker_end_with_a_retryable_error() -> anyhow::Result<()> {
    // Held, so that nobody else answers on it.
    let port = Port::free()?;
    let nobody = config(port.addr().to_string(), 2);
    let (appender, _) = appender(&nobody, &Metrics::default());
    let (facts, ends, warm) = tokio::join!(
        topic_facts(&nobody),
        watermarks(&nobody),
        appender.warm_up()
    );
    for error in [
        facts.expect_err("nobody answers"),
        ends.expect_err("nobody answers"),
        warm.expect_err("nobody answers"),
    ] {
        assert!(error.retryable(), "{error}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn whole_log_is_read_with_seqs_above_the_base() -> anyhow::Result<()> {
    let config = Config {
        base: 1_000,
        ..fresh(3).await?
    };
    for number in 1..=6 {
        append_some(&config, channel(number), 10).await;
    }
    let records = read_all(&config).await?;
    assert_eq!(records.len(), 60);
    let ends = watermarks(&config).await?;
    assert_eq!(ends.iter().map(|end| end.high - end.low).sum::<i64>(), 60);
    for (_, record) in &records {
        assert_eq!(i64::try_from(record.seq.0)?, record.next_offset + 1_000);
    }
    Ok(())
}

async fn delete_topic(config: &Config) -> anyhow::Result<()> {
    let mut client = ClientConfig::new();
    client.set("bootstrap.servers", &config.brokers);
    let admin: AdminClient<DefaultClientContext> = client.create()?;
    let options = AdminOptions::new().operation_timeout(Some(DEADLINE));
    for deleted in admin.delete_topics(&[&config.topic], &options).await? {
        deleted.map_err(|(topic, code)| anyhow::anyhow!("{topic}: {code}"))?;
    }
    let until = Instant::now() + DEADLINE;
    while topic_facts(config).await.is_ok() {
        anyhow::ensure!(Instant::now() < until, "the topic is still there");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn topic_that_was_made_anew_is_refused_by_the_positions() -> anyhow::Result<()> {
    let config = fresh(3).await?;
    for number in 1..=6 {
        append_some(&config, channel(number), 10).await;
    }
    let ends = watermarks(&config).await?;
    let positions: Vec<(i32, i64)> = (0..).zip(ends.iter().map(|end| end.high)).collect();
    check_positions(&config, &positions).await?;
    check_positions(&config, &positions[..1]).await?;

    delete_topic(&config).await?;
    create_topic(&config, 1).await?;
    let (partition, position) = positions
        .iter()
        .copied()
        .find(|(_, position)| *position > 0)
        .expect("60 records are somewhere");
    append_some(&config, channel(1), 1).await;
    let text = refusal(check_positions(&config, &positions).await);
    assert!(text.contains(&format!("partition {partition} ")), "{text}");
    assert!(text.contains(&format!("position is {position}")), "{text}");
    assert!(text.contains("hubbub admin new-log"), "{text}");
    // A store that has read nothing takes any topic.
    check_positions(&config, &[(0, 0), (1, 0), (2, 0)]).await?;
    Ok(())
}
