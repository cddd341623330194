use std::collections::HashMap;

use hubbub_protocol::{RecordKind, Seq};
use hubbub_store::{Incoming, Touched, WriteError};
use rand::{RngExt, SeedableRng, rngs::StdRng};

use crate::support::{
    Model, World, append, assert_audit, channels_of, dead, key, message, ordinals, record,
};

#[tokio::test]
async fn batch_is_stored_announced_and_counted() -> anyhow::Result<()> {
    let world = World::new("batch_is_stored").await?;
    let [a, b, c] = channels_of(2, 3)[..] else {
        unreachable!("three were asked for")
    };
    let first = [
        message(1, a, key(1, 1)),
        message(2, b, key(1, 1)), // another channel: no copy
        message(3, a, key(2, 1)), // another sender: no copy
        message(4, a, key(1, 1)), // a copy within the batch
        record(5, a, key(1, 5), RecordKind::Membership), // has no ordinal
        dead(6, Some(c)),
        dead(7, None),
        message(8, a, key(1, 8)),
    ];
    let written = append(&world.store, 2, &first).await?;
    assert_eq!((written.rows, written.duplicates, written.dead), (5, 1, 2));
    let touched = |channel, from, through, seqs: &[u64]| Touched {
        channel,
        from: Seq(from),
        through: Seq(through),
        seqs: seqs.iter().map(|seq| Seq(*seq)).collect(),
    };
    let mut announced = written.touched;
    announced.sort_by_key(|touched| touched.channel);
    assert_eq!(
        announced,
        [
            touched(a, 0, 8, &[1, 3, 5, 8]),
            touched(b, 0, 2, &[2]),
            touched(c, 0, 6, &[])
        ]
    );
    // Copies of stored records, the last of them alone in its channel.
    let second = [
        message(9, a, key(1, 8)),
        message(10, a, key(1, 10)),
        message(11, b, key(1, 1)),
        message(12, a, key(2, 1)),
        message(13, a, key(1, 13)),
    ];
    let written = append(&world.store, 2, &second).await?;
    assert_eq!((written.rows, written.duplicates, written.dead), (2, 3, 0));
    let mut announced = written.touched;
    announced.sort_by_key(|touched| touched.channel);
    assert_eq!(
        announced,
        [touched(a, 8, 13, &[10, 13]), touched(b, 2, 11, &[])]
    );
    let mut conn = world.shard(world.store.shard_of_partition(2)).await?;
    let expected = [
        (1, Some(1)),
        (3, Some(2)),
        (5, None),
        (8, Some(3)),
        (10, Some(4)),
        (13, Some(5)),
    ];
    assert_eq!(ordinals(&mut conn, a).await?, expected);
    assert_eq!(world.store.head(a).await?, Seq(13));
    assert_eq!(world.store.head(c).await?, Seq(6));
    assert_eq!(world.store.positions(&[2, 3]).await?, [(2, 13), (3, 0)]);
    let letters: Vec<(i64, Option<i64>, Vec<u8>, String)> =
        sqlx::query_as("select seq, channel_id, payload, error from dead_letters order by seq")
            .fetch_all(&mut conn)
            .await?;
    assert_eq!(letters.len(), 2);
    assert_eq!(letters[0].1, Some(c.number()));
    assert_eq!(letters[1].1, None);
    assert_eq!(letters[0].2, [0, 255, b'{'], "a dead letter is kept whole");
    assert_eq!(letters[0].3, "not a record:\u{FFFD} bad");
    assert_audit(&world.store).await
}

#[tokio::test]
async fn random_batches_come_to_what_the_model_says() -> anyhow::Result<()> {
    let world = World::new("random_batches").await?;
    let seed: u64 = rand::random();
    println!("seed {seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let channels = channels_of(5, 4);
    let mut model = Model::default();
    let mut seq = 0_u64;
    for _ in 0..40 {
        let before = model.heads.clone();
        let mut batch: Vec<Incoming> = Vec::new();
        // Large ones go in by COPY if they have no copy of a stored record.
        let large = rng.random_range(0..4) == 0;
        let fresh = rng.random();
        for _ in 0..rng.random_range(if large { 100..200 } else { 1..30 }) {
            seq += 1;
            let channel = channels[rng.random_range(0..channels.len())];
            // Few ids, so that copies within and across batches are common.
            let key = if fresh {
                key(3, u128::from(seq))
            } else {
                key(rng.random_range(1..3), rng.random_range(0..60))
            };
            batch.push(match rng.random_range(0..10) {
                0 => dead(seq, Some(channel).filter(|_| rng.random())),
                1 => record(seq, channel, key, RecordKind::Membership),
                _ => message(seq, channel, key),
            });
        }
        batch.iter().for_each(|record| model.apply(record));
        let written = append(&world.store, 5, &batch).await?;
        for touched in &written.touched {
            let from = before.get(&touched.channel).copied().unwrap_or(0);
            assert_eq!(touched.from.0, from);
            assert_eq!(touched.through.0, model.heads[&touched.channel]);
            let kept: Vec<Seq> = model
                .rows
                .get(&touched.channel)
                .into_iter()
                .flatten()
                .map(|row| Seq(row.0))
                .filter(|seq| *seq > touched.from)
                .collect();
            assert_eq!(touched.seqs, kept);
        }
    }
    let mut conn = world.shard(world.store.shard_of_partition(5)).await?;
    for channel in channels {
        let stored: HashMap<i64, Option<i64>> =
            ordinals(&mut conn, channel).await?.into_iter().collect();
        let expected: HashMap<i64, Option<i64>> = model
            .rows
            .get(&channel)
            .into_iter()
            .flatten()
            .map(|(seq, _, ordinal)| (Seq(*seq).to_db(), *ordinal))
            .collect();
        assert_eq!(stored, expected, "{channel}");
        let head = model.heads.get(&channel).copied().unwrap_or(0);
        assert_eq!(world.store.head(channel).await?.0, head);
    }
    let status = world.store.admin_status().await?.partitions;
    assert_eq!(status[5].duplicates.unsigned_abs(), model.duplicates);
    assert_eq!(status[5].dead.unsigned_abs(), model.dead);
    assert_eq!(status[5].next_offset.unsigned_abs(), seq);
    assert_audit(&world.store).await
}

/// What goes in by COPY is what an insert stores, and a single copy of a stored record among many
/// new ones, or a poison record, is found all the same.
#[tokio::test]
async fn large_batch_is_stored_as_its_records_alone_would_be() -> anyhow::Result<()> {
    const ROWS: u64 = 300;
    let world = World::new("large_batch").await?;
    let store = &world.store;
    let [one, large] = channels_of(4, 2)[..] else {
        unreachable!("two were asked for")
    };
    let batch = |from: u64, channel| -> Vec<Incoming> {
        let of = |at: u64| match at % 10 {
            7 => record(
                from + at,
                channel,
                key(2, at.into()),
                RecordKind::Membership,
            ),
            _ => message(from + at, channel, key(1, at.into())),
        };
        (0..ROWS).map(of).collect()
    };
    append(store, 4, &batch(1, large)).await?;
    for record in batch(1 + ROWS, one) {
        append(store, 4, &[record]).await?;
    }
    let pages = |channel| store.range(channel, Seq(0), Seq(u64::MAX >> 1), 1_000);
    let (together, alone) = (pages(large).await?, pages(one).await?);
    assert_eq!(together.len() as u64, ROWS);
    let keys = |rows: &[hubbub_store::Row]| rows.iter().map(|row| row.key).collect::<Vec<_>>();
    assert_eq!(keys(&together), keys(&alone));
    for row in together {
        assert!(
            row.body.contains(&format!("number {}\"", row.seq)),
            "{row:?}"
        );
    }
    let mut conn = world.shard(store.shard_of_partition(4)).await?;
    let numbers = |rows: Vec<(i64, Option<i64>)>| rows.into_iter().map(|row| row.1);
    let (together, alone) = (
        ordinals(&mut conn, large).await?,
        ordinals(&mut conn, one).await?,
    );
    assert!(numbers(together).eq(numbers(alone)));

    // One copy of a stored record among new ones.
    let of_sender = |sender, from: u64| -> Vec<Incoming> {
        let of = |at: u64| message(from + at, large, key(sender, at.into()));
        (0..ROWS).map(of).collect()
    };
    let mut next = 1 + 2 * ROWS;
    let mut mixed = of_sender(3, next);
    mixed[200] = message(next + 200, large, key(1, 5));
    let written = append(store, 4, &mixed).await?;
    assert_eq!((written.rows, written.duplicates), (ROWS - 1, 1));
    next += ROWS;

    // A poison record refuses the batch, and leaves nothing of it.
    let mut poisoned = of_sender(4, next);
    if let Incoming::Row(row) = &mut poisoned[100] {
        row.body = "with a \0 in it".to_owned();
    }
    let position = i64::try_from(next)? - 1;
    let through = position + i64::try_from(ROWS)?;
    let refused = store
        .write_batch(4, position, through, &poisoned, || {})
        .await;
    assert!(matches!(&refused, Err(WriteError::Data(reason)) if reason.starts_with("22021")));
    assert_eq!(store.head(large).await?, Seq(next - 1));
    assert_audit(store).await
}

#[tokio::test]
async fn record_that_cannot_be_stored_is_told_from_a_store_that_cannot() -> anyhow::Result<()> {
    let world = World::new("poison").await?;
    let store = &world.store;
    let channel = channels_of(0, 1)[0];
    let mut poison = message(2, channel, key(1, 2));
    if let Incoming::Row(row) = &mut poison {
        row.body = "with a \0 in it".to_owned();
    }
    let batch = [message(1, channel, key(1, 1)), poison, dead(3, None)];
    let refused = store.write_batch(0, 0, 3, &batch, || {}).await;
    assert!(matches!(&refused, Err(WriteError::Data(reason)) if reason.starts_with("22021")));
    // Nothing of the batch is there, and its halves can be written on the same connections.
    assert_eq!(store.positions(&[0]).await?, [(0, 0)]);
    store.write_batch(0, 0, 1, &batch[..1], || {}).await?;
    let alone = store.write_batch(0, 1, 2, &batch[1..2], || {}).await;
    assert!(matches!(alone, Err(WriteError::Data(_))));
    let buried = [dead(2, Some(channel))];
    store.write_batch(0, 1, 2, &buried, || {}).await?;
    store.write_batch(0, 2, 3, &batch[2..], || {}).await?;
    assert_eq!(store.head(channel).await?, Seq(2));
    assert_audit(store).await
}

#[tokio::test]
async fn batch_that_breaks_the_rules_is_refused_whole() -> anyhow::Result<()> {
    let world = World::new("broken_batch").await?;
    let (here, elsewhere) = (channels_of(1, 1)[0], channels_of(2, 1)[0]);
    let ours = |seq| message(seq, here, key(1, u128::from(seq)));
    for batch in [
        vec![ours(2), ours(1)],
        vec![ours(1), ours(1)],
        vec![ours(9)],
        vec![message(1, elsewhere, key(1, 1))],
    ] {
        let refused = world.store.write_batch(1, 0, 3, &batch, || {}).await;
        assert!(matches!(refused, Err(WriteError::Data(_))), "{batch:?}");
    }
    assert_eq!(world.store.positions(&[1]).await?, [(1, 0)]);
    // A dead letter may name any channel; another partition's head is not ours to move.
    append(&world.store, 1, &[dead(1, Some(elsewhere))]).await?;
    assert_eq!(world.store.head(elsewhere).await?, Seq::ZERO);
    Ok(())
}

#[tokio::test]
async fn another_record_at_a_stored_seq_is_no_poison() -> anyhow::Result<()> {
    let world = World::new("seq_clash").await?;
    let channel = channels_of(3, 1)[0];
    let mut conn = world.shard(world.store.shard_of_partition(3)).await?;
    sqlx::query(
        "insert into messages (channel_id, seq, kind, sender_id, client_msg_id, ts_ms, body)
         values ($1, 1, 1, 1, gen_random_uuid(), 0, '{}')",
    )
    .bind(channel.number())
    .execute(&mut conn)
    .await?;
    let batch = [message(1, channel, key(1, 1))];
    let refused = world.store.write_batch(3, 0, 1, &batch, || {}).await;
    assert!(
        matches!(refused, Err(WriteError::Contradiction(_))),
        "{refused:?}"
    );
    // The same of a head that lies above the batch.
    let other = channels_of(3, 2)[1];
    sqlx::query(
        "insert into channel_heads (channel_id, partition, through, ordinal) values ($1, 3, 9, 0)",
    )
    .bind(other.number())
    .execute(&mut conn)
    .await?;
    let batch = [message(1, other, key(1, 1))];
    let refused = world.store.write_batch(3, 0, 1, &batch, || {}).await;
    assert!(
        matches!(&refused, Err(WriteError::Contradiction(reason)) if reason.contains("above")),
        "{refused:?}"
    );
    assert_eq!(world.store.positions(&[3]).await?, [(3, 0)]);
    Ok(())
}
