use hubbub_log::{Metrics, Report};
use rdkafka::{
    mocking::MockCluster,
    types::{RDKafkaApiKey, RDKafkaRespErr},
};

use crate::support::{appender, channel, config, eventually};

/// A real broker cannot be made to answer so; librdkafka's mock cluster can.
#[tokio::test(flavor = "multi_thread")]
async fn producer_that_failed_for_good_is_replaced() -> anyhow::Result<()> {
    let cluster = MockCluster::new(1)?;
    let config = config(cluster.bootstrap_servers(), 1);
    cluster.create_topic(&config.topic, 1, 1)?;
    let metrics = Metrics::default();
    let (appender, reports) = appender(&config, &metrics);
    appender.warm_up().await?;
    let append = |tag: usize| appender.append(channel(1), vec![b'x'], tag);
    assert!(append(0).is_ok());
    eventually("the first report", || reports.lock().len() == 1).await;

    let broken = RDKafkaRespErr::RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER;
    cluster.request_errors(RDKafkaApiKey::Produce, &[broken]);
    assert!(append(1).is_ok());
    eventually("the report of the failure", || reports.lock().len() == 2).await;
    // Until the new producer is there appends are rejected, which is definite.
    eventually("an append that is taken", || append(2).is_ok()).await;
    eventually("the report of the new producer", || {
        reports.lock().len() == 3
    })
    .await;

    let reports = reports.lock().clone();
    assert!(
        matches!(reports[0], (0, Report::Appended(_))),
        "{reports:?}"
    );
    assert!(matches!(reports[1], (1, Report::Unknown(_))), "{reports:?}");
    assert!(
        matches!(reports[2], (2, Report::Appended(_))),
        "{reports:?}"
    );
    Ok(())
}
