use std::time::Duration;

use hubbub_protocol::Seq;
use hubbub_store::{Incoming, WriteError};
use sqlx::{ConnectOptions as _, Connection as _, PgConnection, postgres::PgConnectOptions};

use crate::support::{
    Held, World, all_seqs, append, assert_audit, channels_of, eventually, key, message, open,
};

#[tokio::test]
async fn zombie_is_refused_and_changes_nothing() -> anyhow::Result<()> {
    let world = World::new("zombie").await?;
    let store = &world.store;
    let channel = channels_of(4, 1)[0];
    append(store, 4, &[message(1, channel, key(1, 1))]).await?;
    for (expected, next, seq) in [(0, 1, 1), (0, 2, 2), (2, 3, 3)] {
        let late = [message(seq, channel, key(9, 9))];
        let refused = store.write_batch(4, expected, next, &late, || {}).await;
        assert!(matches!(refused, Err(WriteError::Zombie)), "{refused:?}");
    }
    assert_eq!(all_seqs(store, channel).await?, [1]);
    assert_eq!(store.positions(&[4]).await?, [(4, 1)]);
    Ok(())
}

#[tokio::test]
async fn consumer_of_a_replaced_log_is_a_zombie() -> anyhow::Result<()> {
    let world = World::new("old_log").await?;
    let channel = channels_of(4, 1)[0];
    let batch = [message(1, channel, key(1, 1))];
    append(&world.store, 4, &batch).await?;
    let old = &world.store;
    let identity = hubbub_store::new_log(&world.config, &world.identity).await?;
    // The positions agree by accident: both begin at 0.
    let again = [message(1, channel, key(1, 2))];
    let refused = old.write_batch(4, 0, 1, &again, || {}).await;
    assert!(matches!(refused, Err(WriteError::Zombie)), "{refused:?}");
    let new = open(&world.config).await?;
    let seq = identity.base + 1;
    append(&new, 4, &[message(seq, channel, key(1, 3))]).await?;
    assert_eq!(all_seqs(&new, channel).await?, [1, seq]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_writers_one_writes() -> anyhow::Result<()> {
    let world = World::new("two_writers").await?;
    let channels = channels_of(6, 2);
    let (first, second) = (world.store.clone(), open(&world.config).await?);
    for round in 0..30_u64 {
        let batch: Vec<Incoming> = channels
            .iter()
            .zip(1..)
            .map(|(channel, at)| message(round * 2 + at, *channel, key(1, u128::from(round))))
            .collect();
        let (expected, next) = (i64::try_from(round * 2)?, i64::try_from(round * 2 + 2)?);
        let write = |store| {
            let batch = &batch;
            async move {
                let store: &hubbub_store::Store = store;
                store.write_batch(6, expected, next, batch, || {}).await
            }
        };
        let (one, other) = tokio::join!(write(&first), write(&second));
        match (&one, &other) {
            (Ok(written), Err(WriteError::Zombie)) | (Err(WriteError::Zombie), Ok(written)) => {
                assert_eq!((written.rows, written.duplicates), (2, 0));
            }
            both => panic!("round {round}: {both:?}"),
        }
    }
    assert_audit(&world.store).await
}

#[tokio::test]
async fn new_owner_is_not_overtaken_by_a_commit_in_flight() -> anyhow::Result<()> {
    let world = World::new("takeover").await?;
    let store = &world.store;
    let channel = channels_of(7, 1)[0];
    let batch = vec![message(1, channel, key(1, 1))];
    let old = Held::start(&world.config, 7, 0, batch).await?;
    // The position as it was before the commit in flight.
    assert_eq!(store.positions(&[7]).await?, [(7, 0)]);
    let batch = [
        message(1, channel, key(1, 1)),
        message(2, channel, key(1, 2)),
    ];
    // It waits for the row that the old owner holds, who goes on meanwhile.
    let taken = store.write_batch(7, 0, 2, &batch, || {});
    let (taken, committed) = tokio::join!(taken, old.commit());
    assert!(matches!(taken, Err(WriteError::Zombie)), "{taken:?}");
    assert_eq!(committed??.rows, 1);
    assert_eq!(store.positions(&[7]).await?, [(7, 1)]);
    assert_eq!(all_seqs(store, channel).await?, [1]);
    assert_audit(store).await
}

/// The session of a process that froze in the midst of its COPY, where the server's timeouts do
/// not reach it: the kernel answers for the process, and keeps the connection open.
async fn frozen(world: &World, partition: i32) -> anyhow::Result<PgConnection> {
    let url = &world.env.shard_urls[world.store.shard_of_partition(partition)];
    let options: PgConnectOptions = url.parse()?;
    let options = options
        .application_name("hubbub")
        .options([("statement_timeout", "5s")]);
    let mut conn = options.connect().await?;
    let move_on = "insert into log_position (partition, next_offset) values ($1, 100)
                   on conflict (partition) do update set next_offset = excluded.next_offset";
    sqlx::query("begin").execute(&mut conn).await?;
    sqlx::query(move_on)
        .bind(partition)
        .execute(&mut conn)
        .await?;
    let copy = conn
        .copy_in_raw("copy messages from stdin (format binary)")
        .await?;
    // Its destructor would end the COPY, which a frozen process does not.
    std::mem::forget(copy);
    Ok(conn)
}

#[tokio::test]
async fn owner_that_froze_in_its_copy_is_put_out() -> anyhow::Result<()> {
    let world = World::new("frozen_owner").await?;
    let store = &world.store;
    let channel = channels_of(5, 1)[0];
    // Once with a position that nobody sees yet, once with one that is moved.
    for seq in 1..=2 {
        let frozen = frozen(&world, 5).await?;
        let batch = [message(seq, channel, key(1, u128::from(seq)))];
        eventually(Duration::from_secs(20), || async {
            match append(store, 5, &batch).await {
                Ok(written) => Some(written),
                Err(WriteError::Store(_)) => None,
                Err(error) => panic!("{error}"),
            }
        })
        .await;
        let through = Seq(seq).to_db();
        assert_eq!(store.positions(&[5]).await?, [(5, through)]);
        // It wakes up, and finds its session ended.
        let mut frozen = frozen;
        assert!(frozen.ping().await.is_err());
    }
    assert_eq!(all_seqs(store, channel).await?, [1, 2]);
    assert_audit(store).await
}
