use std::collections::{HashMap, HashSet};

use hubbub_protocol::Seq;
use hubbub_store::Store;
use rand::{RngExt, SeedableRng, rngs::StdRng};

use crate::support::{World, append, channels_of, dead, key, message};

const PARTITION: i32 = 3;

#[tokio::test]
async fn sweep_finds_exactly_the_heads_that_moved() -> anyhow::Result<()> {
    let world = World::new("sweep").await?;
    let store = &world.store;
    let seed: u64 = rand::random();
    println!("seed {seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let shard = store.shard_of_partition(PARTITION);
    let channels = channels_of(PARTITION, 12);
    let first = store.sweep(shard, &[]).await?;
    let held: Vec<i32> = (0..8)
        .filter(|p| store.shard_of_partition(*p) == shard)
        .collect();
    let listed: Vec<i32> = first
        .positions
        .iter()
        .map(|(partition, _)| *partition)
        .collect();
    assert_eq!(
        listed, held,
        "a partition without a record has a position too"
    );
    let mut since = first.positions;
    let mut seq = 0_u64;
    for _ in 0..25 {
        let mut moved: HashMap<i64, Seq> = HashMap::new();
        let mut batch = Vec::new();
        for _ in 0..rng.random_range(0..6) {
            seq += 1;
            let channel = channels[rng.random_range(0..channels.len())];
            moved.insert(channel.number(), Seq(seq));
            batch.push(match rng.random_range(0..4) {
                0 => dead(seq, Some(channel)),
                1 => message(seq, channel, key(1, 1)), // mostly a copy
                _ => message(seq, channel, key(2, u128::from(seq))),
            });
        }
        if !batch.is_empty() {
            append(store, PARTITION, &batch).await?;
        }
        let sweep = store.sweep(shard, &since).await?;
        assert_eq!(
            sweep.heads.iter().copied().collect::<HashMap<_, _>>(),
            moved
        );
        assert_eq!(sweep.heads.len(), moved.len());
        let position: HashMap<i32, Seq> = sweep.positions.iter().copied().collect();
        assert_eq!(position[&PARTITION], Seq(seq));
        since = sweep.positions;
    }
    let idle = store.sweep(shard, &since).await?;
    assert_eq!((idle.heads.len(), idle.positions), (0, since));
    Ok(())
}

/// All heads of a partition, by as many sweeps as that takes.
async fn drain(store: &Store, shard: usize, from: Seq) -> anyhow::Result<(usize, HashSet<i64>)> {
    let mut since = vec![(PARTITION, from)];
    let mut found = HashSet::new();
    for sweeps in 1.. {
        let sweep = store.sweep(shard, &since).await?;
        if sweep.heads.is_empty() {
            return Ok((sweeps, found));
        }
        found.extend(sweep.heads.iter().map(|(channel, _)| *channel));
        let here = sweep.positions.into_iter().filter(|(p, _)| *p == PARTITION);
        since = here.collect();
    }
    unreachable!("the loop has no end of its own")
}

#[tokio::test]
async fn great_change_is_swept_in_parts_and_by_the_index() -> anyhow::Result<()> {
    let world = World::new("great_sweep").await?;
    let store = &world.store;
    let shard = store.shard_of_partition(PARTITION);
    let mut conn = world.shard(shard).await?;
    sqlx::query(
        "insert into channel_heads (channel_id, partition, through, ordinal)
         select n, $1, n, 1 from generate_series(1, 12000) n",
    )
    .bind(PARTITION)
    .execute(&mut conn)
    .await?;
    sqlx::query("insert into log_position (partition, next_offset) values ($1, 12000)")
        .bind(PARTITION)
        .execute(&mut conn)
        .await?;
    let (sweeps, found) = drain(store, shard, Seq::ZERO).await?;
    assert_eq!((sweeps, found.len()), (4, 12_000));
    // The cost follows the change: with statistics or without, no sweep reads the whole table.
    let statement =
        crate::offline_data::query("channel_heads\n                   where partition")?;
    let prepare = format!("prepare sweep as {statement}");
    sqlx::raw_sql(sqlx::AssertSqlSafe(prepare))
        .execute(&mut conn)
        .await?;
    for analyse in [false, true] {
        if analyse {
            sqlx::query("analyze channel_heads")
                .execute(&mut conn)
                .await?;
        }
        for plan_cache_mode in ["force_custom_plan", "force_generic_plan"] {
            let mode = format!("set plan_cache_mode = {plan_cache_mode}");
            sqlx::raw_sql(sqlx::AssertSqlSafe(mode))
                .execute(&mut conn)
                .await?;
            let plan: Vec<String> = sqlx::raw_sql(
                "explain execute sweep (array[1, 3, 5, 7], array[0, 11990, 0, null], 5000)",
            )
            .fetch_all(&mut conn)
            .await?
            .iter()
            .map(|row| sqlx::Row::get(row, 0))
            .collect();
            let plan = plan.join("\n");
            assert!(plan.contains("channel_heads_by_through"), "{plan}");
            assert!(!plan.contains("Seq Scan on channel_heads"), "{plan}");
        }
    }
    Ok(())
}
