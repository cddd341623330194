//! `hubbub admin` on real servers.

use hubbub_protocol::{ChannelId, MessageId, Record, UserId, partition_of};
use hubbub_stack::TestEnv;
use uuid::Uuid;

use crate::program::{Done, Program, hubbub};

fn admin(env: &TestEnv, args: &[&str]) -> Program {
    let all = [&["admin"], args].concat();
    hubbub(&all)
        .env("KAFKA_BROKERS", &env.kafka_brokers)
        .env("CORE_DATABASE_URL", &env.core_url)
        .env("SHARD_DATABASE_URLS", &env.shard_list())
        .env("HUBBUB_TOPIC", &env.topic)
        .env("HUBBUB_PARTITIONS", "4")
}

/// Runs beside the test's runtime, which the servers' guards need.
async fn run(program: Program) -> Done {
    let done = tokio::task::spawn_blocking(|| program.run()).await;
    done.expect("no panic")
}

fn json(done: &Done) -> serde_json::Value {
    assert!(done.err.is_empty(), "{done:?}");
    serde_json::from_str(&done.out).expect("JSON")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn init_seeds_once_and_status_counts_what_is_unread() {
    let env = TestEnv::new("cli_admin").await.expect("servers");
    let early = run(admin(&env, &["status"])).await;
    assert_eq!(early.code, 1, "{early:?}");
    assert!(early.err.contains("hubbub admin init"), "{early:?}");

    let first = run(admin(&env, &["init", "--seed"])).await;
    assert_eq!(first.code, 0, "{first:?}");
    assert!(
        first.out.contains("channel Maths is C00000000"),
        "{first:?}"
    );
    assert!(first.out.contains("Victoria"), "{first:?}");
    let second = run(admin(&env, &["init", "--seed"])).await;
    assert_eq!(second.code, 0, "{second:?}");
    assert!(second.out.contains(" 0 members added"), "{second:?}");

    let log = hubbub_log::Config {
        brokers: env.kafka_brokers.clone(),
        topic: env.topic.clone(),
        partitions: 4,
        base: 0,
        client_id: "cli-test".to_owned(),
    };
    let marks = hubbub_log::topic_facts(&log.marks()).await;
    let marks = marks.expect("the topic of the marks");
    assert_eq!((marks.partitions, marks.log_append_time), (4, true));

    let more = run(admin(&env, &["init"]).env("HUBBUB_PARTITIONS", "5")).await;
    assert_eq!(more.code, 1, "{more:?}");
    assert!(more.err.contains("4 partitions"), "{more:?}");

    let channel: ChannelId = "C000000002".parse().expect("an id");
    append(&env, channel).await;
    let status = run(admin(&env, &["status", "--json"])).await;
    let report = json(&status);
    assert_eq!(status.code, 0);
    assert_eq!(report["totals"]["lag"], 1, "{report}");
    assert_eq!(report["totals"]["unaccounted"], 0, "{report}");
    assert_eq!(report["topic"], env.topic.as_str());
    let partition = usize::try_from(partition_of(channel, 4)).expect("from 0");
    assert_eq!(report["partitions"][partition]["high"], 1, "{report}");
    let table = run(admin(&env, &["status"])).await;
    assert!(table.out.contains("1 still to read"), "{table:?}");
    assert!(
        table.out.contains("every record is accounted for"),
        "{table:?}"
    );
    assert!(
        table.out.contains("3 partitions without records"),
        "{table:?}"
    );
}

async fn append(env: &TestEnv, channel: ChannelId) {
    let log = hubbub_log::Config {
        brokers: env.kafka_brokers.clone(),
        topic: env.topic.clone(),
        partitions: 4,
        base: 0,
        client_id: "cli-test".to_owned(),
    };
    let (done, report) = tokio::sync::oneshot::channel();
    let metrics = hubbub_log::Metrics::default();
    let tell = |done: tokio::sync::oneshot::Sender<_>, report| {
        done.send(report).expect("the test waits");
    };
    let appender = hubbub_log::Appender::start(&log, &metrics, tell).expect("a producer");
    let user = UserId::new(1).expect("from 1");
    let record = Record::message(channel, user, MessageId(Uuid::new_v4()), "hi".to_owned());
    let taken = appender.append(channel, record.encode(), done);
    assert!(taken.is_ok(), "the queue has room");
    let report = report.await.expect("a report");
    assert!(
        matches!(report, hubbub_log::Report::Appended(_)),
        "{report:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn new_log_asks_first() {
    let env = TestEnv::new("cli_new_log").await.expect("servers");
    let init = run(admin(&env, &["init"])).await;
    assert_eq!(init.code, 0, "{init:?}");
    let asked = run(admin(&env, &["new-log"])).await;
    assert_eq!(asked.code, 64, "{asked:?}");
    let topic = format!("{}-2", env.topic);
    let other = run(admin(&env, &["init"]).env("HUBBUB_TOPIC", &topic)).await;
    assert_eq!(other.code, 1, "{other:?}");
    assert!(other.err.contains("hubbub admin new-log"), "{other:?}");
    let moved = run(admin(&env, &["new-log", "--yes"]).env("HUBBUB_TOPIC", &topic)).await;
    assert_eq!(moved.code, 0, "{moved:?}");
    let status = run(admin(&env, &["status", "--json"])).await;
    let report = json(&status);
    assert_eq!(report["topic"], topic.as_str(), "{report}");
    assert!(
        report["base"].as_u64().is_some_and(|base| base > 0),
        "{report}"
    );
}

/// Says in the store that two records of partition 1 were read.
async fn read_two(env: &TestEnv) {
    let at = hubbub_store::Config {
        core_url: env.core_url.clone(),
        shard_urls: env.shard_urls.clone(),
        core_connections: 1,
        shard_connections: 1,
    };
    let store = hubbub_store::Store::open(&at, &hubbub_store::Metrics::default()).await;
    let dead = |seq| hubbub_store::Incoming::Dead {
        seq: hubbub_protocol::Seq(seq),
        channel: None,
        payload: None,
        key: None,
        ts_ms: 0,
        error: "made for a test".to_owned(),
    };
    let store = store.expect("a store");
    let written = store.write_batch(1, 0, 2, &[dead(1), dead(2)], || {}).await;
    written.expect("written");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn init_makes_no_topic_for_a_store_that_has_a_log() {
    let env = TestEnv::new("cli_lost_log").await.expect("servers");
    let log = hubbub_log::Config {
        brokers: env.kafka_brokers.clone(),
        topic: env.topic.clone() + "-any",
        partitions: 1,
        base: 0,
        client_id: "cli-test".to_owned(),
    };
    hubbub_log::create_topic(&log, 1).await.expect("a topic");
    let facts = hubbub_log::topic_facts(&log).await.expect("its facts");
    let identity = hubbub_store::LogIdentity {
        cluster_id: facts.cluster_id,
        topic: env.topic.clone(),
        partitions: 4,
        base: 0,
    };
    let at = hubbub_store::Config {
        core_url: env.core_url.clone(),
        shard_urls: env.shard_urls.clone(),
        core_connections: 1,
        shard_connections: 1,
    };
    hubbub_store::init(&at, &identity).await.expect("a store");
    // The topic that the store was filled from is gone.
    let lost = run(admin(&env, &["init"])).await;
    assert_eq!(lost.code, 1, "{lost:?}");
    assert!(lost.err.contains("hubbub admin new-log"), "{lost:?}");
    let log = hubbub_log::Config {
        topic: env.topic.clone(),
        partitions: 4,
        ..log
    };
    let absent = hubbub_log::topic_facts(&log).await;
    assert!(
        matches!(absent, Err(hubbub_log::Error::Refused(_))),
        "{absent:?}"
    );
    let moved = run(admin(&env, &["new-log", "--yes"])).await;
    assert_eq!(moved.code, 0, "{moved:?}");
    let again = run(admin(&env, &["init"])).await;
    assert_eq!(again.code, 0, "{again:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn init_refuses_a_topic_that_ends_below_the_store() {
    let env = TestEnv::new("cli_recreated_log").await.expect("servers");
    let init = run(admin(&env, &["init"])).await;
    assert_eq!(init.code, 0, "{init:?}");
    read_two(&env).await;
    let refused = run(admin(&env, &["init"])).await;
    assert_eq!(refused.code, 1, "{refused:?}");
    for part in [
        "partition 1 ",
        "offset 0 ",
        "position is 2",
        "hubbub admin new-log",
    ] {
        assert!(refused.err.contains(part), "{refused:?}");
    }
    let moved = run(admin(&env, &["new-log", "--yes"])).await;
    assert_eq!(moved.code, 0, "{moved:?}");
    let again = run(admin(&env, &["init"])).await;
    assert_eq!(again.code, 0, "{again:?}");
}
