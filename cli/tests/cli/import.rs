//! `hubbub import` on real servers, with the consumer's part done here.

use std::{collections::BTreeMap, path::Path, time::Duration};

use hubbub_protocol::{Body, MessageId, Record, Seq, UserId, http::ChannelKind};
use hubbub_stack::TestEnv;
use hubbub_store::{Incoming, NewRow, Store, Window};
use tokio::task::JoinSet;

use crate::{
    export::{self, GENERAL},
    program::{Done, Program, hubbub},
};

const PARTITIONS: u32 = 4;

struct World {
    env: TestEnv,
    log: hubbub_log::Config,
    store: Store,
    zip: std::path::PathBuf,
    _consumer: JoinSet<()>,
}

impl World {
    async fn new(name: &str, many: u32) -> Self {
        let env = TestEnv::new(name).await.expect("servers");
        let zip = env.dir().join("slack-export.zip");
        export::write(&zip, many);
        let done = run(with_servers(&env, &["admin", "init", "--seed"])).await;
        assert_eq!(done.code, 0, "{done:?}");
        let log = hubbub_log::Config {
            brokers: env.kafka_brokers.clone(),
            topic: env.topic.clone(),
            partitions: PARTITIONS,
            base: 0,
            client_id: "cli-test".to_owned(),
        };
        let databases = hubbub_store::Config {
            core_url: env.core_url.clone(),
            shard_urls: env.shard_urls.clone(),
            core_connections: 2,
            shard_connections: 2,
        };
        let metrics = hubbub_store::Metrics::default();
        let store = Store::open(&databases, &metrics).await.expect("a store");
        let mut consumer = JoinSet::new();
        consumer.spawn(consume(log.clone(), store.clone()));
        Self {
            env,
            log,
            store,
            zip,
            _consumer: consumer,
        }
    }

    fn import(&self, args: &[&str]) -> Program {
        let zip = self.zip.to_str().expect("a path of the test is UTF-8");
        with_servers(&self.env, &[&["import", zip], args].concat())
    }

    /// Everything that a channel has, by one of its members.
    async fn rows(&self, name: &str, who: &str) -> Vec<(Seq, Body)> {
        let user = self.store.user_by_subject(who).await.expect("read");
        let user = user.expect("a user").id;
        let channel = self.store.channel_by_name(name, user).await.expect("read");
        let channel = channel.expect("a channel").id;
        let page = self.store.page_of_records(channel, Window::Newest, 1_000);
        let rows = page.await.expect("a page").rows;
        rows.into_iter()
            .map(|row| (row.seq, serde_json::from_str(&row.body).expect("a body")))
            .collect()
    }

    async fn id_of(&self, subject: &str) -> UserId {
        let user = self.store.user_by_subject(subject).await.expect("read");
        user.expect("a user").id
    }

    /// How many records the log has.
    async fn records(&self) -> i64 {
        let ends = hubbub_log::watermarks(&self.log).await.expect("the log");
        ends.iter().map(|end| end.high).sum()
    }
}

fn with_servers(env: &TestEnv, args: &[&str]) -> Program {
    hubbub(args)
        .env("KAFKA_BROKERS", &env.kafka_brokers)
        .env("CORE_DATABASE_URL", &env.core_url)
        .env("SHARD_DATABASE_URLS", &env.shard_list())
        .env("HUBBUB_TOPIC", &env.topic)
        .env("HUBBUB_PARTITIONS", &PARTITIONS.to_string())
}

async fn run(program: Program) -> Done {
    let done = tokio::task::spawn_blocking(|| program.run()).await;
    done.expect("no panic")
}

/// Stores what the log has, as a consumer does, for as long as the test runs.
async fn consume(log: hubbub_log::Config, store: Store) {
    loop {
        let mut by_partition: BTreeMap<i32, Vec<_>> = BTreeMap::new();
        for (partition, logged) in hubbub_log::read_all(&log).await.expect("the log") {
            by_partition.entry(partition).or_default().push(logged);
        }
        for (partition, records) in by_partition {
            let positions = store.positions(&[partition]).await.expect("positions");
            let position = positions[0].1;
            let new: Vec<_> = records
                .iter()
                .filter(|r| r.next_offset > position)
                .collect();
            let Some(last) = new.last() else { continue };
            let row = |logged: &&hubbub_log::LogRecord| {
                let payload = logged.payload.as_deref().expect("a payload");
                let record = Record::decode(payload).expect("a record");
                Incoming::Row(NewRow::read(logged.seq, logged.ts_ms, record))
            };
            let batch: Vec<_> = new.iter().map(row).collect();
            let next = last.next_offset;
            let written = store
                .write_batch(partition, position, next, &batch, || {})
                .await;
            written.expect("stored");
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// The messages among the rows, by the text that they have.
fn messages(rows: &[(Seq, Body)]) -> BTreeMap<String, (Seq, Body)> {
    let message = |(seq, body): &(Seq, Body)| match body {
        Body::Message { text, .. } => Some((text.clone(), (*seq, body.clone()))),
        _ => None,
    };
    rows.iter().filter_map(message).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dry_run_says_what_cannot_be_carried_and_writes_nothing() {
    let world = World::new("import_dry", 4).await;
    let done = run(world.import(&["--dry-run"])).await;
    assert_eq!(done.code, 0, "{done:?}");
    for expected in [
        "3 channels, 6 people",
        "2012-12-14 to 2012-12-14",
        "direct conversations",
        "files: name and link",
        "replies whose thread is not in the export",
        "notices of joining and leaving",
        "entries without a time or an author",
        "messages without any text",
        "messages that the export has twice",
        "archived channels",
        "folders that no list",
        "ids of people",
        "earlier text",
        "nothing was written",
    ] {
        assert!(done.out.contains(expected), "{expected}: {}", done.out);
    }
    assert_eq!(world.records().await, 0);
    let mary = world.store.user_by_subject("mary@a.example").await;
    assert_eq!(mary.expect("read"), None);
    let nowhere = hubbub(&["import", "no-such-file.zip", "--dry-run"]).run();
    assert_eq!(nowhere.code, 1, "{nowhere:?}");
    assert!(nowhere.err.contains("no-such-file.zip"), "{nowhere:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn export_comes_in_once_with_everything_that_it_has() {
    let world = World::new("import_all", 4).await;
    // `general` is a channel of the seed, with members: nobody imports into that.
    let taken = run(world.import(&["--owner", "Mary"])).await;
    assert_eq!(taken.code, 1, "{taken:?}");
    assert!(taken.err.contains("general"), "{taken:?}");
    assert_eq!(world.records().await, 0);
    let seeded = run(world.import(&["--owner", "John"])).await;
    assert_eq!(
        seeded.code, 1,
        "the owner's own channel is no new one: {seeded:?}"
    );
    assert_eq!(world.records().await, 0);

    let args = ["--owner", "Mary", "--prefix", "slack-"];
    let done = run(world.import(&args)).await;
    assert_eq!(done.code, 0, "{done:?}");
    let rows = world.rows("slack-general", "Mary").await;
    let all = messages(&rows);
    assert_eq!(all.len(), GENERAL, "{all:?}");
    let (mary, john) = (
        world.id_of("mary@a.example").await,
        world.id_of("john@a.example").await,
    );

    let (_, hello) = &all["hello @John Smith, see #random & this (https://a.example)"];
    assert!(
        matches!(hello, Body::Message { user, posted_ms: Some(1_355_517_100_000), .. } if *user == mary),
        "{hello:?}"
    );
    let namespace = uuid::Uuid::from_u128(0x3d1e_54f5_0c5b_4b7e_9a0f_6b0d_5a6c_21e7);
    let expected = uuid::Uuid::new_v5(&namespace, b"C1/1355517100.000005");
    assert_eq!(hello.key().message_id, MessageId(expected));

    let shown = |text: &str| match &all[text].1 {
        Body::Message {
            edited,
            reactions,
            replies,
            thread,
            user,
            ..
        } => (*edited, reactions.clone(), replies.clone(), *thread, *user),
        other => panic!("{other:?}"),
    };
    assert!(shown("edited text").0.is_some());
    let reactions = shown("reacted").1;
    let given: Vec<_> = reactions
        .iter()
        .map(|r| (r.reaction.as_str(), r.users.len()))
        .collect();
    assert_eq!(given, [("+1", 2), ("tada", 1)]);
    assert_eq!(reactions[0].users, [mary, john]);
    let root = all["who is in?"].0;
    let replies = shown("who is in?").2.expect("a thread");
    assert_eq!((replies.count, replies.users.len()), (2, 2));
    assert_eq!((shown("me").3, shown("me too").3), (Some(root), Some(root)));
    assert_eq!(shown("its thread was never exported").3, None);
    assert!(shown("second thoughts").0.is_some());
    let bot = shown("Build 7 (https://ci.example/7)\ngreen").4;
    assert_eq!(bot, world.id_of("slack:B1").await);
    assert!(all.contains_key("_waves_"));
    assert!(all.contains_key("[file: plan.pdf] https://files.example/1"));
    let (deleted, body) = &all[""];
    assert!(
        matches!(body, Body::Message { deleted: true, .. }),
        "{body:?}"
    );
    assert_eq!(shown("below the deleted one").3, Some(*deleted));

    let user = world.store.user(mary).await.expect("read").expect("a user");
    assert_eq!(user.name, "Mary");
    let board = world
        .store
        .channel_by_name("slack-board", john)
        .await
        .expect("read");
    assert_eq!(board.expect("a channel").kind, ChannelKind::Private);
    let hidden = world
        .store
        .channel_by_name("slack-board", mary)
        .await
        .expect("read");
    assert_eq!(hidden, None, "she is no member");
    let order: Vec<_> = world
        .rows("slack-random", "Mary")
        .await
        .into_iter()
        .filter_map(|(_, body)| match body {
            Body::Message { text, .. } => Some(text),
            _ => None,
        })
        .collect();
    assert_eq!(order, ["number 0", "number 1", "number 2", "number 3"]);

    // Once more: nothing is doubled, nothing is even sent.
    let records = world.records().await;
    let again = run(world.import(&args)).await;
    assert_eq!(again.code, 0, "{again:?}");
    assert_eq!(world.records().await, records);
    assert_eq!(world.rows("slack-general", "Mary").await, rows);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn interrupted_import_goes_on_where_it_was() {
    const MANY: u32 = 60;
    let world = World::new("import_killed", MANY).await;
    let args = ["--owner", "Mary", "--only", "random", "--prefix", "slack-"];
    let slow = [&args[..], &["--rate", "20"]].concat();
    let mut child = world.import(&slow).start();
    let mut records = 0;
    while records < 10 {
        records = world.records().await;
        assert_eq!(
            child.try_wait().expect("a process"),
            None,
            "it ended too soon"
        );
    }
    child.kill().expect("killed");
    child.wait().expect("it ends");
    let before = world.records().await;
    assert!(before < i64::from(MANY), "{before} records before the kill");

    let done = run(world.import(&args)).await;
    assert_eq!(done.code, 0, "{done:?}");
    let rows = world.rows("slack-random", "Mary").await;
    let texts: Vec<_> = rows
        .iter()
        .filter_map(|(_, body)| match body {
            Body::Message { text, .. } => Some(text.clone()),
            _ => None,
        })
        .collect();
    let expected: Vec<_> = (0..MANY).map(|n| format!("number {n}")).collect();
    assert_eq!(texts, expected, "each once, in order");
    // What had reached the log was not sent again.
    assert_eq!(world.records().await, i64::from(MANY));
    assert!(Path::new(&world.zip).exists());
}
