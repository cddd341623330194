use std::{collections::HashMap, future::Future, sync::mpsc, time::Duration};

use hubbub_protocol::{
    ChannelId, ChannelLetter, MessageId, MessageKey, RecordKind, Seq, UserId, partition_of,
};
use hubbub_stack::TestEnv;
use hubbub_store::{
    Config, Effect, Incoming, LogIdentity, Metrics, NewRow, Store, WriteError, Written,
};
use sqlx::{Connection, PgConnection};
use tokio::{sync::oneshot, time::Instant};
use uuid::Uuid;

pub(crate) const PARTITIONS: u32 = 8;

/// Databases that `init` has been run on, and an open store.
pub(crate) struct World {
    pub(crate) env: TestEnv,
    pub(crate) config: Config,
    pub(crate) identity: LogIdentity,
    pub(crate) store: Store,
}

impl World {
    pub(crate) async fn new(name: &str) -> anyhow::Result<Self> {
        let env = TestEnv::new(name).await?;
        let config = config(&env.core_url, &env.shard_urls);
        let identity = identity(0);
        hubbub_store::init(&config, &identity).await?;
        let store = open(&config).await?;
        Ok(Self {
            env,
            config,
            identity,
            store,
        })
    }

    /// A connection for what the store has no call for.
    pub(crate) async fn shard(&self, shard: usize) -> anyhow::Result<PgConnection> {
        Ok(PgConnection::connect(&self.env.shard_urls[shard]).await?)
    }
}

pub(crate) fn config(core_url: &str, shard_urls: &[String]) -> Config {
    Config {
        core_url: core_url.to_owned(),
        shard_urls: shard_urls.to_vec(),
        core_connections: 4,
        shard_connections: 4,
    }
}

pub(crate) fn identity(base: u64) -> LogIdentity {
    LogIdentity {
        cluster_id: "cluster-a".to_owned(),
        topic: "messages".to_owned(),
        partitions: PARTITIONS,
        base,
    }
}

pub(crate) async fn open(config: &Config) -> Result<Store, hubbub_store::Error> {
    Store::open(config, &Metrics::default()).await
}

/// The first `count` channels that hash to `partition`.
pub(crate) fn channels_of(partition: i32, count: usize) -> Vec<ChannelId> {
    (1..)
        .filter_map(|number| ChannelId::new(ChannelLetter::Channel, number))
        .filter(|channel| partition_of(*channel, PARTITIONS) == partition)
        .take(count)
        .collect()
}

pub(crate) fn user(number: i64) -> UserId {
    UserId::new(number).expect("from 1")
}

pub(crate) fn key(sender: i64, id: u128) -> MessageKey {
    MessageKey {
        user: user(sender),
        message_id: MessageId(Uuid::from_u128(id)),
    }
}

pub(crate) fn message(seq: u64, channel: ChannelId, key: MessageKey) -> Incoming {
    record(seq, channel, key, RecordKind::Message)
}

pub(crate) fn record(seq: u64, channel: ChannelId, key: MessageKey, kind: RecordKind) -> Incoming {
    Incoming::Row(NewRow {
        seq: Seq(seq),
        channel,
        kind,
        key,
        ts_ms: 1_700_000_000_000 + i64::try_from(seq).expect("small"),
        body: format!(r#"{{"type":"message","text":"number {seq}"}}"#),
        effect: Effect::None,
    })
}

pub(crate) fn dead(seq: u64, channel: Option<ChannelId>) -> Incoming {
    Incoming::Dead {
        seq: Seq(seq),
        channel,
        payload: Some(vec![0, 255, b'{']),
        key: channel.map(|channel| channel.to_string().into_bytes()),
        ts_ms: 5,
        error: "not a record:\0 bad".to_owned(),
    }
}

/// Writes a batch that continues the partition's position and ends at its last record.
pub(crate) async fn append(
    store: &Store,
    partition: i32,
    batch: &[Incoming],
) -> Result<Written, WriteError> {
    let base = store.log_identity().base;
    let expected = store.positions(&[partition]).await?[0].1;
    let last = batch.last().expect("a batch has records").seq();
    let next = Seq(last.0 - base).to_db();
    store
        .write_batch(partition, expected, next, batch, || {})
        .await
}

/// A writer that has inserted its batch and waits before the commit.
pub(crate) struct Held {
    go: mpsc::Sender<()>,
    result: oneshot::Receiver<Result<Written, WriteError>>,
}

impl Held {
    /// Starts it in a thread and runtime of its own, as it blocks; returns once it has inserted.
    pub(crate) async fn start(
        config: &Config,
        partition: i32,
        expected: i64,
        batch: Vec<Incoming>,
    ) -> anyhow::Result<Self> {
        let (reached, inserted) = oneshot::channel();
        let (go, wait) = mpsc::channel();
        let (answer, result) = oneshot::channel();
        let config = config.clone();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        std::thread::spawn(move || {
            runtime.block_on(async {
                let next = batch.last().expect("a batch has records").seq().to_db();
                let hook = move || {
                    reached.send(()).expect("the test listens");
                    wait.recv().expect("the test lets it go on");
                };
                let store = open(&config).await.expect("the test's databases are there");
                let result = store
                    .write_batch(partition, expected, next, &batch, hook)
                    .await;
                answer.send(result).expect("the test wants to know");
            });
        });
        inserted.await?;
        Ok(Self { go, result })
    }

    /// Lets it commit, and gives what came of it.
    pub(crate) async fn commit(self) -> anyhow::Result<Result<Written, WriteError>> {
        self.go.send(())?;
        Ok(self.result.await?)
    }
}

/// Ordinals by seq, as they are stored.
pub(crate) async fn ordinals(
    conn: &mut PgConnection,
    channel: ChannelId,
) -> anyhow::Result<Vec<(i64, Option<i64>)>> {
    let rows =
        sqlx::query_as("select seq, ordinal from messages where channel_id = $1 order by seq")
            .bind(channel.shard_key())
            .fetch_all(conn)
            .await?;
    Ok(rows)
}

/// Contract P12 on every partition.
pub(crate) async fn assert_audit(store: &Store) -> anyhow::Result<()> {
    for status in store.admin_status().await?.partitions {
        let records = status.rows + status.duplicates + status.dead;
        assert_eq!(status.next_offset, records, "{status:?}");
    }
    Ok(())
}

/// All rows of a channel by the simplest way there is.
pub(crate) async fn all_seqs(store: &Store, channel: ChannelId) -> anyhow::Result<Vec<u64>> {
    let rows = store
        .range(channel, Seq::ZERO, Seq::MAX, usize::MAX)
        .await?;
    Ok(rows.iter().map(|row| row.seq.0).collect())
}

/// Asks until the answer is `Some`; fails after `limit`.
pub(crate) async fn eventually<T, F>(limit: Duration, mut ask: impl FnMut() -> F) -> T
where
    F: Future<Output = Option<T>>,
{
    let deadline = Instant::now() + limit;
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(Instant::now() < deadline, "not within {limit:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// What the consumer's transaction has to come to, in the plainest words.
#[derive(Debug, Default)]
pub(crate) struct Model {
    pub(crate) rows: HashMap<ChannelId, Vec<(u64, MessageKey, Option<i64>)>>,
    pub(crate) heads: HashMap<ChannelId, u64>,
    pub(crate) duplicates: u64,
    pub(crate) dead: u64,
}

impl Model {
    pub(crate) fn apply(&mut self, record: &Incoming) {
        let seq = record.seq().0;
        match record {
            Incoming::Row(row) => {
                let rows = self.rows.entry(row.channel).or_default();
                self.heads.insert(row.channel, seq);
                if rows.iter().any(|(_, key, _)| *key == row.key) {
                    self.duplicates += 1;
                    return;
                }
                let messages = rows.iter().filter(|row| row.2.is_some()).count();
                let ordinal = (row.kind == RecordKind::Message)
                    .then(|| i64::try_from(messages + 1).expect("small"));
                rows.push((seq, row.key, ordinal));
            }
            Incoming::Dead { channel, .. } => {
                self.dead += 1;
                if let Some(channel) = channel {
                    self.heads.insert(*channel, seq);
                }
            }
        }
    }
}
