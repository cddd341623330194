//! Servers that die, freeze and come back.

use std::time::Duration;

use hubbub_protocol::{
    Seq,
    http::{ChannelKind, Role},
};
use hubbub_stack::{Durability, Port, Postgres, Proxy, TestEnv};
use hubbub_store::{Config, Error, Metrics, Store, Window, WriteError, init};
use prometheus_client::{encoding::text::encode, registry::Registry};
use tokio::time::Instant;

use crate::support::{
    Held, World, all_seqs, append, assert_audit, channels_of, config, eventually, identity, key,
    message, open,
};

/// Shard 1 has a server of its own.
struct Apart {
    env: TestEnv,
    postgres: Postgres,
    config: Config,
}

impl Apart {
    async fn new(name: &str) -> anyhow::Result<Self> {
        let env = TestEnv::new(name).await?;
        let dir = env.dir().join("apart");
        std::fs::create_dir_all(&dir)?;
        let postgres = Postgres::launch("apart", &dir, Port::free()?, Durability::Durable).await?;
        let mut config = config(&env.core_url, &env.shard_urls);
        config.shard_urls[1] = postgres.url("shard1");
        init(&config, &identity(0)).await?;
        Ok(Self {
            env,
            postgres,
            config,
        })
    }
}

/// With a proxy before shard 1.
fn behind_a_proxy(world: &World) -> anyhow::Result<(Proxy, Config)> {
    let proxy = Proxy::start(world.env.postgres_addr())?;
    let direct = world.env.postgres_addr().to_string();
    let mut config = world.config.clone();
    config.shard_urls[1] = config.shard_urls[1].replace(&direct, &proxy.addr().to_string());
    Ok((proxy, config))
}

fn is_away<T>(result: &Result<T, Error>) -> bool {
    matches!(result, Err(Error::Shard { shard: 1, .. }))
}

/// The first head that is read within 2 s, as contract P7 needs it.
async fn back(store: &Store) -> Seq {
    let channel = channels_of(1, 1)[0];
    eventually(Duration::from_secs(2), || async {
        store.head(channel).await.ok()
    })
    .await
}

#[tokio::test]
async fn unread_names_the_channels_of_a_shard_that_is_away() -> anyhow::Result<()> {
    let apart = Apart::new("unread_names").await?;
    let store = open(&apart.config).await?;
    let mary = store.provision_user("mary", "Mary").await?.id;
    let john = store.provision_user("john", "John").await?.id;
    let (mut here, mut away) = (Vec::new(), Vec::new());
    while here.is_empty() || away.is_empty() {
        let name = format!("room-{}", here.len() + away.len());
        let made = store.create_channel(&name, ChannelKind::Public, mary);
        let made = made.await?.id;
        if store.shard_of(made) == 1 {
            away.push(made);
        } else {
            here.push(made);
        }
    }
    store.add_member(away[0], john, Role::Member).await?;
    let unread = store.unread(mary).await?;
    assert_eq!(unread.channels.len(), here.len() + away.len());
    assert_eq!(unread.missing, []);

    apart.postgres.kill().await;
    let unread = store.unread(mary).await?;
    let counted: Vec<_> = unread.channels.iter().map(|row| row.channel).collect();
    assert_eq!((counted, unread.missing), (here, away));
    // Nothing of John's can be read.
    assert!(is_away(&store.unread(john).await));
    Ok(())
}

#[tokio::test]
async fn restarted_shard_is_read_at_once() -> anyhow::Result<()> {
    let apart = Apart::new("restart").await?;
    let store = open(&apart.config).await?;
    let channel = channels_of(1, 1)[0];
    append(&store, 1, &[message(1, channel, key(1, 1))]).await?;
    // Several connections are warm, and all of them break.
    let reads = (0..8).map(|_| store.head(channel));
    futures_util::future::try_join_all(reads).await?;
    apart.postgres.restart().await?;
    // Nobody met the outage, so nobody needs to hear of it: a stale connection is replaced.
    assert_eq!(store.head(channel).await?, Seq(1));
    append(&store, 1, &[message(2, channel, key(1, 2))]).await?;

    apart.postgres.kill().await;
    let started = Instant::now();
    assert!(is_away(&store.head(channel).await));
    assert!(is_away(&store.page(channel, Window::Newest, 5).await));
    let write = store.write_batch(1, 2, 2, &[], || {}).await;
    assert!(
        matches!(write, Err(WriteError::Store(Error::Shard { shard: 1, .. }))),
        "{write:?}"
    );
    assert!(
        started.elapsed() < Duration::from_secs(1),
        "a refused connection is known at once"
    );
    // The other shard does not notice (contract P9).
    store.head(channels_of(0, 1)[0]).await?;
    apart.postgres.start().await?;
    assert_eq!(back(&store).await, Seq(2));
    assert_eq!(all_seqs(&store, channel).await?, [1, 2]);
    assert_audit(&store).await
}

#[tokio::test]
async fn frozen_shard_is_an_error_in_time_and_costs_the_others_nothing() -> anyhow::Result<()> {
    let apart = Apart::new("freeze").await?;
    let store = open(&apart.config).await?;
    let (here, frozen) = (channels_of(0, 1)[0], channels_of(1, 1)[0]);
    append(&store, 1, &[message(1, frozen, key(1, 1))]).await?;
    apart.postgres.pause();
    let started = Instant::now();
    // More callers than connections: those who wait for one give up in time as well.
    let reads = futures_util::future::join_all((0..12).map(|_| store.head(frozen)));
    let write = store.write_batch(1, 1, 1, &[], || {});
    let others = async {
        let mut took = Vec::new();
        for _ in 0..50 {
            let started = Instant::now();
            store.head(here).await?;
            took.push(started.elapsed());
        }
        took.sort();
        Ok::<_, Error>(took[25])
    };
    let (reads, write, others) = tokio::join!(reads, write, others);
    assert!(reads.iter().all(is_away));
    assert!(matches!(write, Err(WriteError::Store(_))), "{write:?}");
    assert!(others? < Duration::from_secs(1));
    // A deadline of five seconds; who waits for a connection first has two of their own.
    assert!(started.elapsed() < Duration::from_millis(6_800));
    // By now it is known to be away: who comes next is told at once, but for the one who looks.
    let started = Instant::now();
    let reads = futures_util::future::join_all((0..12).map(|_| store.head(frozen))).await;
    assert!(reads.iter().all(is_away));
    assert!(started.elapsed() < Duration::from_secs(4));
    apart.postgres.resume();
    assert_eq!(back(&store).await, Seq(1));
    append(&store, 1, &[message(2, frozen, key(1, 2))]).await?;
    assert_audit(&store).await
}

#[tokio::test]
async fn shard_that_was_away_at_open_is_checked_before_it_is_used() -> anyhow::Result<()> {
    let apart = Apart::new("late_shard").await?;
    apart.postgres.stop().await;
    let store = open(&apart.config).await?;
    let channel = channels_of(1, 1)[0];
    assert!(is_away(&store.head(channel).await));
    apart.postgres.start().await?;
    assert_eq!(back(&store).await, Seq::ZERO);
    append(&store, 1, &[message(1, channel, key(1, 1))]).await?;
    // It comes back as another one.
    apart.postgres.stop().await;
    let wrong = open(&apart.config).await?;
    apart.postgres.start().await?;
    let mut conn =
        <sqlx::PgConnection as sqlx::Connection>::connect(&apart.config.shard_urls[1]).await?;
    sqlx::query("update shard_identity set shard = 7")
        .execute(&mut conn)
        .await?;
    let told = eventually(Duration::from_secs(2), || async {
        let error = wrong
            .head(channel)
            .await
            .expect_err("it is another one")
            .to_string();
        error.contains("says that it is shard 7").then_some(error)
    });
    told.await;
    let write = wrong.write_batch(1, 1, 1, &[], || {}).await;
    assert!(
        matches!(write, Err(WriteError::Store(Error::Shard { .. }))),
        "{write:?}"
    );
    drop(apart.env);
    Ok(())
}

#[tokio::test]
async fn connection_cut_before_the_commit_leaves_nothing() -> anyhow::Result<()> {
    let world = World::new("cut").await?;
    let (proxy, config) = behind_a_proxy(&world)?;
    let store = open(&config).await?;
    let channel = channels_of(1, 1)[0];
    for round in 0..10_u64 {
        let batch = [
            message(round * 2 + 1, channel, key(1, u128::from(round))),
            message(round * 2 + 2, channel, key(2, u128::from(round))),
        ];
        let (expected, next) = (i64::try_from(round * 2)?, i64::try_from(round * 2 + 2)?);
        let cut = store
            .write_batch(1, expected, next, &batch, || proxy.cut())
            .await;
        assert!(matches!(cut, Err(WriteError::Store(_))), "{cut:?}");
        // The server may still hold the row lock of the session that it lost.
        let written = eventually(Duration::from_secs(2), || async {
            assert_eq!(store.positions(&[1]).await.ok()?, [(1, expected)]);
            store
                .write_batch(1, expected, next, &batch, || {})
                .await
                .ok()
        });
        assert_eq!(written.await.rows, 2);
    }
    assert_eq!(all_seqs(&store, channel).await?.len(), 20);
    assert_audit(&world.store).await
}

#[tokio::test]
async fn server_killed_inside_a_transaction_keeps_all_of_it_or_nothing() -> anyhow::Result<()> {
    let apart = Apart::new("kill").await?;
    let store = open(&apart.config).await?;
    let channel = channels_of(1, 1)[0];
    append(&store, 1, &[message(1, channel, key(1, 1))]).await?;
    let batch = (2..=200)
        .map(|seq| message(seq, channel, key(1, u128::from(seq))))
        .collect();
    let held = Held::start(&apart.config, 1, 1, batch).await?;
    apart.postgres.kill().await;
    let result = held.commit().await?;
    assert!(matches!(result, Err(WriteError::Store(_))), "{result:?}");
    apart.postgres.start().await?;
    assert_eq!(back(&store).await, Seq(1));
    assert_eq!(store.positions(&[1]).await?, [(1, 1)]);
    assert_eq!(all_seqs(&store, channel).await?, [1]);
    assert_audit(&store).await
}

#[tokio::test]
async fn locked_table_is_an_error_after_a_second_and_keeps_the_connection() -> anyhow::Result<()> {
    let world = World::new("locked").await?;
    let channel = channels_of(1, 1)[0];
    let mut conn = world.shard(1).await?;
    let mut transaction = sqlx::Connection::begin(&mut conn).await?;
    sqlx::query("lock table channel_heads in access exclusive mode")
        .execute(&mut *transaction)
        .await?;
    let started = Instant::now();
    let locked = world.store.head(channel).await;
    assert!(is_away(&locked), "{locked:?}");
    // Long before the deadline of a statement.
    assert!(started.elapsed() < Duration::from_secs(3));
    let batch = [message(1, channel, key(1, 1))];
    let write = world.store.write_batch(1, 0, 1, &batch, || {}).await;
    assert!(matches!(write, Err(WriteError::Store(_))), "{write:?}");
    transaction.rollback().await?;
    assert_eq!(world.store.head(channel).await?, Seq::ZERO);
    append(&world.store, 1, &batch).await?;
    assert_audit(&world.store).await
}

#[tokio::test]
async fn cancelled_call_gives_its_place_back() -> anyhow::Result<()> {
    let world = World::new("cancelled").await?;
    let channel = channels_of(1, 1)[0];
    let mut conn = world.shard(1).await?;
    let mut transaction = sqlx::Connection::begin(&mut conn).await?;
    sqlx::query("lock table channel_heads in access exclusive mode")
        .execute(&mut *transaction)
        .await?;
    // Thrice as many as there are connections, all dropped while they wait for the lock.
    for _ in 0..12 {
        let read = world.store.head(channel);
        assert!(
            tokio::time::timeout(Duration::from_millis(20), read)
                .await
                .is_err()
        );
    }
    transaction.rollback().await?;
    assert_eq!(world.store.head(channel).await?, Seq::ZERO);
    Ok(())
}

/// What a process shows of its connections to shard 1: how many are open, and may be.
fn connections(registry: &Registry) -> (u32, u32) {
    let mut page = String::new();
    encode(&mut page, registry).expect("a string takes it");
    let figure = |name: &str| {
        let series = format!("store_connections_{name}{{database=\"shard-1\"}} ");
        let value = page.lines().find_map(|line| line.strip_prefix(&series));
        value.and_then(|v| v.parse().ok()).expect("a figure")
    };
    (figure("open"), figure("max"))
}

#[tokio::test]
async fn connections_that_break_under_load_leave_no_more_than_may_be() -> anyhow::Result<()> {
    let world = World::new("bounded").await?;
    let (proxy, config) = behind_a_proxy(&world)?;
    let (metrics, mut registry) = (Metrics::default(), Registry::default());
    metrics.register(&mut registry);
    let store = Store::open(&config, &metrics).await?;
    let channel = channels_of(1, 1)[0];
    let mut most = 0;
    for round in 0..40_u64 {
        // Some find their connection broken when others have new ones already.
        let reads = (0..16).map(|_| store.head(channel));
        let reads = futures_util::future::join_all(reads);
        let cut = async {
            tokio::time::sleep(Duration::from_micros(round * 200)).await;
            proxy.cut();
        };
        let _ = tokio::join!(reads, cut);
        let (open, max) = connections(&registry);
        assert_eq!(max, config.shard_connections);
        assert!(open <= max, "{open} of {max} in round {round}");
        most = most.max(open);
    }
    assert!(most > 1, "they were used side by side");
    drop(store);
    assert_eq!(connections(&registry).0, 0);
    Ok(())
}
