//! `hubbub import` on real servers, with the consumer's part done here.

use std::{collections::BTreeMap, path::Path, time::Duration};

use hubbub_protocol::{
    Body, Change, ChannelId, MarkRecord, MessageId, Record, Seq, UserId,
    http::{Channel, ChannelKind, Role},
};
use hubbub_stack::TestEnv;
use hubbub_store::{Incoming, NewRow, Store, Window};
use tokio::{sync::oneshot, task::JoinSet};
use uuid::Uuid;

use crate::{
    export::{self, GENERAL},
    program::{Done, Program, hubbub},
};

const PARTITIONS: u32 = 4;
/// The namespace of imported ids.
const NAMESPACE: Uuid = Uuid::from_u128(0x3d1e_54f5_0c5b_4b7e_9a0f_6b0d_5a6c_21e7);

/// The id that an import gives to a message: anybody who has the export can tell it.
fn planned(room: &str, ts: &str) -> MessageId {
    MessageId(Uuid::new_v5(&NAMESPACE, format!("{room}/{ts}").as_bytes()))
}

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

    /// A channel as somebody sees it.
    async fn channel(&self, name: &str, who: UserId) -> Option<Channel> {
        let found = self.store.channel_by_name(name, who).await;
        found.expect("read")
    }

    async fn members(&self, channel: ChannelId) -> Vec<UserId> {
        let members = self.store.members(channel, 0, 100).await.expect("read");
        members.items.iter().map(|member| member.user.id).collect()
    }

    /// Puts a record into the log, as a server does for somebody who may.
    async fn append(&self, record: &Record) {
        let metrics = hubbub_log::Metrics::default();
        let report = |answer: oneshot::Sender<_>, report| {
            answer.send(report).expect("the test waits");
        };
        let appender = hubbub_log::Appender::start(&self.log, &metrics, report).expect("a log");
        let (sender, answer) = oneshot::channel();
        let taken = appender.append(record.channel(), record.encode(), sender);
        assert!(taken.is_ok());
        let report = answer.await.expect("a report");
        assert!(matches!(report, hubbub_log::Report::Appended(_)));
    }

    /// Stores the marks that the log has, as a consumer does.
    async fn store_marks(&self) {
        let marks = hubbub_log::read_all(&self.log.marks()).await;
        for (partition, logged) in marks.expect("the log") {
            let payload = logged.payload.as_deref().expect("a payload");
            let mark = MarkRecord::decode(payload).expect("a mark").0;
            let written = self
                .store
                .write_marks(partition, logged.next_offset, &[mark])
                .await;
            written.expect("stored");
        }
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
    let expected = planned("C1", "1355517100.000005");
    assert_eq!(hello.key().message_id, expected);

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
    // At this rate it goes on for 25 s: the kill comes long before.
    const MANY: u32 = 500;
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
    let stranger = world.id_of("John").await;
    assert_eq!(
        world.channel("slack-random", stranger).await,
        None,
        "nobody joins a public channel that is on its way in"
    );
    child.kill().expect("killed");
    child.wait().expect("it ends");
    let before = world.records().await;
    assert!(before < i64::from(MANY), "{before} records before the kill");

    // Its owner lets somebody in all the same, who has the export and posts under an id of it.
    let mary = world.id_of("Mary").await;
    let channel = world.channel("slack-random", mary).await.expect("begun");
    assert_eq!(channel.kind, ChannelKind::Private);
    let (channel, store) = (channel.id, &world.store);
    let added = store.add_member(channel, stranger, Role::Member).await;
    assert!(added.expect("added"));
    let id = MessageId(Uuid::from_u128(1));
    let joined = Record::membership(channel, mary, id, Change::Joined, stranger);
    world.append(&joined).await;
    let last = planned("C2", "1355517699.000005");
    let mine = Record::message(channel, stranger, last, "mine".to_owned());
    world.append(&mine).await;

    let done = run(world.import(&args)).await;
    assert_eq!(done.code, 0, "{done:?}");
    let rows = world.rows("slack-random", "Mary").await;
    let texts = |who| {
        let of = |(_, body): &(Seq, Body)| match body {
            Body::Message { text, user, .. } if *user == who => Some(text.clone()),
            _ => None,
        };
        rows.iter().filter_map(of).collect::<Vec<_>>()
    };
    let author = world.id_of("john@a.example").await;
    let expected: Vec<_> = (0..MANY).map(|n| format!("number {n}")).collect();
    assert_eq!(texts(author), expected, "each once, in order");
    assert_eq!(texts(stranger), ["mine"]);
    // What had reached the log was not sent again.
    assert_eq!(world.records().await, i64::from(MANY) + 2);
    let opened = world.channel("slack-random", author).await.expect("there");
    assert_eq!(opened.kind, ChannelKind::Public);
    assert_eq!(world.members(channel).await.len(), 3);
    assert!(Path::new(&world.zip).exists());
}

/// Its people would be let into what others said among themselves.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn channel_with_a_life_of_its_own_is_never_imported_into() {
    let world = World::new("import_live", 0).await;
    let mary = world.id_of("Mary").await;
    let john = world.id_of("John").await;
    // Frank, the author of the only message in `board`.
    let frank = world.store.provision_user("slack:U3", "frank").await;
    let frank = frank.expect("a user").id;
    // In the export `random` is empty; strangers have posted under the id of what is in `board`.
    let planned = planned("G1", "1355517300.000005");
    let other = MessageId(Uuid::from_u128(1));
    for (name, said) in [
        ("random", &[(mary, other)][..]),
        ("board", &[(john, planned), (frank, planned)]),
    ] {
        let taken = format!("live-{name}");
        let live = world
            .store
            .create_channel(&taken, ChannelKind::Private, mary);
        let live = live.await.expect("a channel").id;
        for (user, id) in said {
            let text = "between us".to_owned();
            world.append(&Record::message(live, *user, *id, text)).await;
        }
        let records = world.records().await;
        let args = ["--owner", "Mary", "--prefix", "live-", "--only", name];
        let done = run(world.import(&args)).await;
        assert_eq!(done.code, 1, "{done:?}");
        assert!(done.err.contains(&taken), "{done:?}");
        assert_eq!(world.members(live).await, [mary]);
        assert_eq!(world.records().await, records);
        let live = world.channel(&taken, mary).await.expect("there");
        assert_eq!(live.kind, ChannelKind::Private);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn completed_import_is_left_alone_by_another_run() {
    let world = World::new("import_again", 0).await;
    let args = ["--owner", "Mary", "--prefix", "slack-"];
    // One without anything in it, and one that is private.
    let args = [&args[..], &["--only", "random,board"]].concat();
    let done = run(world.import(&args)).await;
    assert_eq!(done.code, 0, "{done:?}");
    world.store_marks().await;
    let mary = world.id_of("Mary").await;
    let john = world.id_of("john@a.example").await;
    let frank = world.id_of("slack:U3").await;
    let random = world.channel("slack-random", mary).await.expect("there");
    assert_eq!(random.kind, ChannelKind::Public);
    let board = world.channel("slack-board", mary).await.expect("there");
    assert_eq!(board.kind, ChannelKind::Private);
    // Frank has been shown out since.
    let gone = world.store.remove_member(board.id, frank).await;
    assert!(gone.expect("removed"));
    let records = world.records().await;

    let again = run(world.import(&args)).await;
    assert_eq!(again.code, 0, "{again:?}");
    assert_eq!(world.records().await, records);
    assert_eq!(world.members(random.id).await, [mary, john]);
    assert_eq!(world.members(board.id).await, [mary, john]);
}
