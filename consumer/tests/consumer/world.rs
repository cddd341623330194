//! A log, a store and consumers of one test.
use std::{
    collections::{BTreeMap, BTreeSet},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context as _, Result};
use clap::Parser as _;
use hubbub_consumer::{Config, Consumer, Error};
use hubbub_log::{Appender, Metrics, Report, create_topic, read_all, topic_facts};
use hubbub_protocol::{
    ChannelId, ChannelLetter, MessageId, MessageKey, Record, Seq, UserId, partition_of,
};
use hubbub_service::{Lifecycle, OnError};
use hubbub_stack::{Process, Spec, TestEnv};
use hubbub_store::{LogIdentity, Store};
use tokio::{sync::oneshot, time::Instant};
use uuid::Uuid;

pub(crate) const DEADLINE: Duration = Duration::from_secs(30);
pub(crate) const PARTITIONS: u32 = 8;

pub(crate) struct World {
    pub(crate) env: TestEnv,
    pub(crate) log: hubbub_log::Config,
    pub(crate) at: hubbub_store::Config,
    pub(crate) store: Store,
    pub(crate) appender: Appender<oneshot::Sender<Report>>,
}

pub(crate) fn channel(number: i64) -> ChannelId {
    ChannelId::new(ChannelLetter::Channel, number).expect("from 1")
}

pub(crate) fn message(channel: ChannelId, id: Uuid, text: &str) -> Record {
    let user = UserId::new(1).expect("from 1");
    Record::message(channel, user, MessageId(id), text.to_owned())
}

/// A partition's account: what became of its records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Account {
    pub(crate) rows: i64,
    pub(crate) duplicates: i64,
    pub(crate) dead: i64,
}

impl Account {
    pub(crate) fn records(self) -> i64 {
        self.rows + self.duplicates + self.dead
    }
}

impl World {
    pub(crate) async fn new(test: &str) -> Result<Self> {
        let env = TestEnv::new(test).await?;
        let log = hubbub_log::Config {
            brokers: env.kafka_brokers.clone(),
            topic: env.topic.clone(),
            partitions: PARTITIONS,
            base: 0,
            client_id: "test".to_owned(),
        };
        create_topic(&log, 1).await?;
        create_topic(&log.marks(), 1).await?;
        let at = hubbub_store::Config {
            core_url: env.core_url.clone(),
            shard_urls: env.shard_urls.clone(),
            core_connections: 1,
            shard_connections: 2,
        };
        let identity = LogIdentity {
            cluster_id: topic_facts(&log).await?.cluster_id,
            topic: log.topic.clone(),
            partitions: PARTITIONS,
            base: 0,
        };
        hubbub_store::init(&at, &identity).await?;
        let store = Store::open(&at, &hubbub_store::Metrics::default()).await?;
        let on_report = |asked: oneshot::Sender<Report>, report| {
            // A test that does not care has dropped its receiver.
            asked.send(report).ok();
        };
        let appender = Appender::start(&log, &Metrics::default(), on_report)?;
        appender.warm_up().await?;
        Ok(Self {
            env,
            log,
            at,
            store,
            appender,
        })
    }

    /// Appends a payload with the channel's key; the receiver gets its report.
    pub(crate) fn append_raw(
        &self,
        channel: ChannelId,
        payload: Vec<u8>,
    ) -> oneshot::Receiver<Report> {
        let (asked, report) = oneshot::channel();
        let sent = self.appender.append(channel, payload, asked);
        assert!(sent.is_ok(), "the queue has room");
        report
    }

    /// Appends a new message and gives its seq.
    pub(crate) async fn append(&self, channel: ChannelId, text: &str) -> Result<Seq> {
        let record = message(channel, Uuid::new_v4(), text);
        match self.append_raw(channel, record.encode()).await? {
            Report::Appended(appended) => Ok(appended.seq),
            other => anyhow::bail!("not appended: {other:?}"),
        }
    }

    /// Appends new messages to channels 1 to `channels` in turn.
    pub(crate) async fn append_many(&self, channels: i64, count: i64) -> Result<()> {
        for number in 0..count {
            let to = channel(number % channels + 1);
            let record = message(to, Uuid::new_v4(), &number.to_string());
            drop(self.append_raw(to, record.encode()));
        }
        self.appender.flush(DEADLINE).await?;
        Ok(())
    }

    /// The command line of a consumer of this world.
    pub(crate) fn arguments(&self, more: &[&str]) -> Vec<String> {
        let mut arguments = vec![
            format!("--redis-url={}", self.env.redis_url),
            format!("--kafka-brokers={}", self.env.kafka_brokers),
            format!("--topic={}", self.env.topic),
            format!("--group={}", self.env.group),
            format!("--core-database-url={}", self.env.core_url),
            format!("--shard-database-urls={}", self.at.shard_urls.join(",")),
            "--session-timeout-ms=3000".to_owned(),
            "--heartbeat-ms=1000".to_owned(),
            "--ops-addr=127.0.0.1:0".to_owned(),
        ];
        arguments.extend(more.iter().map(|more| (*more).to_owned()));
        arguments
    }

    /// A consumer within this process.
    pub(crate) async fn consumer(&self) -> Result<Running> {
        let arguments = self.arguments(&[]);
        let name = "hubbub-consumer".to_owned();
        let config = Config::try_parse_from([name].into_iter().chain(arguments))?;
        config.check()?;
        let consumer = Consumer::bind(config).await?;
        let lifecycle = Lifecycle::new();
        let (tell, ended) = oneshot::channel();
        let shared = lifecycle.clone();
        lifecycle.spawn("consumer", OnError::Stop, async move {
            let result = consumer.run(shared).await;
            // The test may be over.
            tell.send(result).ok();
            Ok::<(), std::convert::Infallible>(())
        });
        Ok(Running { lifecycle, ended })
    }

    /// A consumer as a process of its own.
    pub(crate) async fn process(&self, name: &str, env: &[(&str, &str)]) -> Result<Process> {
        let mut argv = vec![env!("CARGO_BIN_EXE_hubbub-consumer").to_owned()];
        argv.extend(self.arguments(&[&format!("--pod-id={name}")]));
        let pair = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        let process = Process::new(Spec {
            name: name.to_owned(),
            argv,
            env: env.iter().map(pair).collect(),
            log: self.env.dir().join(format!("{name}.log")),
            run_as: None,
            stop_signal: nix::sys::signal::Signal::SIGTERM,
            stop_grace: DEADLINE,
        });
        process.spawn().await?;
        Ok(process)
    }

    /// What became of the records of each partition, by the store's own count.
    pub(crate) async fn accounts(&self) -> Result<BTreeMap<i32, Account>> {
        let status = self.store.admin_status().await?;
        let account = |p: hubbub_store::PartitionStatus| {
            let (rows, duplicates, dead) = (p.rows, p.duplicates, p.dead);
            let account = Account {
                rows,
                duplicates,
                dead,
            };
            (p.partition, account)
        };
        Ok(status.partitions.into_iter().map(account).collect())
    }

    /// Waits until every record of the log has been accounted for, then checks that the account
    /// is exact for every partition: rows are the distinct messages, and nothing is left over.
    pub(crate) async fn settle(&self) -> Result<Account> {
        let mut expected: BTreeMap<i32, Account> = BTreeMap::new();
        let mut seen = BTreeSet::new();
        for (partition, record) in read_all(&self.log).await? {
            let account = expected.entry(partition).or_default();
            let payload = record.payload.as_deref().unwrap_or_default();
            match Record::decode(payload) {
                Ok(read) if partition_of(read.channel(), PARTITIONS) == partition => {
                    let key = MessageKey {
                        user: read.user(),
                        message_id: read.message_id(),
                    };
                    if seen.insert((read.channel(), key)) {
                        account.rows += 1;
                    } else {
                        account.duplicates += 1;
                    }
                }
                _ => account.dead += 1,
            }
        }
        let deadline = Instant::now() + DEADLINE;
        loop {
            let mut found = self.accounts().await.unwrap_or_default();
            found.retain(|_, account| account.records() > 0);
            if found == expected {
                break;
            }
            let late = Instant::now() > deadline;
            anyhow::ensure!(!late, "the log has {expected:?}, the store {found:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let mut total = Account::default();
        for account in expected.values() {
            total.rows += account.rows;
            total.duplicates += account.duplicates;
            total.dead += account.dead;
        }
        Ok(total)
    }
}

/// Waits for something to hold.
pub(crate) async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !holds().await {
        assert!(Instant::now() < deadline, "not within {DEADLINE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A consumer within this process.
pub(crate) struct Running {
    lifecycle: Lifecycle,
    ended: oneshot::Receiver<Result<(), Error>>,
}

impl Running {
    /// Drains it.
    pub(crate) async fn stop(self) -> Result<()> {
        self.lifecycle.begin_drain("the test is over");
        let code = self.lifecycle.finish(hubbub_consumer::GRACE).await;
        let ended = self.ended.await.context("the consumer was cut")?;
        ended.context("the consumer failed")?;
        anyhow::ensure!(code == ExitCode::SUCCESS, "exit code {code:?}");
        Ok(())
    }

    /// Waits for it to fail by itself.
    pub(crate) async fn failure(self) -> Result<Error> {
        let ended = tokio::time::timeout(DEADLINE, self.ended).await??;
        ended.err().context("it did not fail")
    }
}
