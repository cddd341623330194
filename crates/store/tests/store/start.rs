use hubbub_protocol::Seq;
use hubbub_stack::TestEnv;
use hubbub_store::{Config, Error, LogIdentity, init, new_log};
use sqlx::{Connection, PgConnection, migrate::MigrateDatabase};

use crate::support::{
    World, all_seqs, append, assert_audit, channels_of, config, dead, identity, key, message, open,
};

fn refusal<T: std::fmt::Debug>(result: Result<T, Error>) -> String {
    match result {
        Err(Error::Refused(reason)) => reason,
        other => panic!("a refusal is expected: {other:?}"),
    }
}

/// A database of this environment's server that does not exist.
fn missing(env: &TestEnv, name: &str) -> String {
    format!("{}_{name}", env.core_url)
}

#[tokio::test]
async fn init_is_idempotent_and_may_run_several_times_at_once() -> anyhow::Result<()> {
    let env = TestEnv::new("init").await?;
    // Databases that do not exist are created.
    let shards = [missing(&env, "x0"), missing(&env, "x1")];
    let config = config(&missing(&env, "xc"), &shards);
    let identity = identity(0);
    let runs = (0..4).map(|_| init(&config, &identity));
    for run in futures_util::future::join_all(runs).await {
        run?;
    }
    let store = open(&config).await?;
    assert_eq!(store.log_identity(), &identity);
    let map: Vec<usize> = (0..8).map(|p| store.shard_of_partition(p)).collect();
    assert_eq!(map, [0, 1, 0, 1, 0, 1, 0, 1]);
    let channel = channels_of(1, 1)[0];
    append(&store, 1, &[message(1, channel, key(1, 1))]).await?;
    init(&config, &identity).await?;
    assert_eq!(all_seqs(&store, channel).await?, [1]);
    // A shard more is prepared; the map stays as it is.
    let mut grown = config.clone();
    grown.shard_urls.push(missing(&env, "x2"));
    init(&grown, &identity).await?;
    let store = open(&grown).await?;
    assert_eq!((store.shards(), store.shard_of_partition(2)), (3, 0));
    assert_eq!(all_seqs(&store, channel).await?, [1]);
    for url in grown.shard_urls.iter().chain([&grown.core_url]) {
        sqlx::Postgres::force_drop_database(url).await?;
    }
    Ok(())
}

#[tokio::test]
async fn init_refuses_another_log_and_names_the_remedy() -> anyhow::Result<()> {
    let world = World::new("init_refuses").await?;
    let with = |change: fn(&mut LogIdentity)| {
        let mut identity = world.identity.clone();
        change(&mut identity);
        identity
    };
    let other = with(|identity| identity.cluster_id = "cluster-b".to_owned());
    let reason = refusal(init(&world.config, &other).await);
    assert!(
        reason.contains("cluster-b") && reason.contains("hubbub admin new-log"),
        "{reason}"
    );
    let other = with(|identity| identity.topic = "others".to_owned());
    assert!(refusal(init(&world.config, &other).await).contains("hubbub admin new-log"));
    let other = with(|identity| identity.partitions = 16);
    assert!(refusal(init(&world.config, &other).await).contains("8 partitions"));
    let mut fewer = world.config.clone();
    fewer.shard_urls.pop();
    assert!(refusal(init(&fewer, &world.identity).await).contains("SHARD_DATABASE_URLS"));
    Ok(())
}

#[tokio::test]
async fn open_refuses_what_does_not_fit() -> anyhow::Result<()> {
    let env = TestEnv::new("open_refuses").await?;
    let here = config(&env.core_url, &env.shard_urls);
    let changed = |change: &dyn Fn(&mut Config)| {
        let mut config = here.clone();
        change(&mut config);
        config
    };
    assert!(
        refusal(open(&here).await).contains("hubbub admin init"),
        "nothing was migrated"
    );
    init(&here, &identity(0)).await?;
    open(&here).await?;
    let missing_core = changed(&|config| config.core_url.push_str("_none"));
    assert!(refusal(open(&missing_core).await).contains("hubbub admin init"));
    let missing_shard = changed(&|config| config.shard_urls[1].push_str("_none"));
    assert!(refusal(open(&missing_shard).await).contains("hubbub admin init"));
    let swapped = changed(&|config| config.shard_urls.swap(0, 1));
    assert!(refusal(open(&swapped).await).contains("says that it is shard"));
    let twice = changed(&|config| config.shard_urls[1] = config.shard_urls[0].clone());
    assert!(refusal(open(&twice).await).contains("says that it is shard 0"));
    let fewer = changed(&|config| config.shard_urls.truncate(1));
    assert!(refusal(open(&fewer).await).contains("SHARD_DATABASE_URLS"));
    let malformed = changed(&|config| config.core_url = "postgres://u:secret@:x".to_owned());
    assert!(!refusal(open(&malformed).await).contains("secret"));
    let foreign = World::new("open_foreign").await?;
    let strange = changed(&|config| config.shard_urls[0] = foreign.config.shard_urls[0].clone());
    assert!(refusal(open(&strange).await).contains("another deployment"));
    // A migration that is not there yet, and one that was edited after it ran.
    let mut shard = PgConnection::connect(&env.shard_urls[1]).await?;
    sqlx::query("update _sqlx_migrations set checksum = 'x' where version % 10 = 1")
        .execute(&mut shard)
        .await?;
    assert!(refusal(open(&here).await).contains("another migration"));
    sqlx::query("delete from _sqlx_migrations where version % 10 = 1")
        .execute(&mut shard)
        .await?;
    let reason = refusal(open(&here).await);
    assert!(
        reason.contains("shard 1") && reason.contains("hubbub admin init"),
        "{reason}"
    );
    Ok(())
}

#[tokio::test]
async fn new_log_starts_above_every_seq() -> anyhow::Result<()> {
    let world = World::new("new_log").await?;
    let channel = channels_of(5, 1)[0];
    let old = [
        message(1, channel, key(1, 1)),
        dead(2, None),
        message(3, channel, key(1, 3)),
    ];
    append(&world.store, 5, &old).await?;
    let mut next = identity(0);
    next.cluster_id = "cluster-b".to_owned();
    next.partitions = 9;
    assert!(refusal(new_log(&world.config, &next).await).contains('8'));
    next.partitions = 8;
    let first = new_log(&world.config, &next).await?;
    assert!(first.base >= 3 + 1_000_000, "{first:?}");
    assert_eq!(
        (first.cluster_id.as_str(), first.partitions),
        ("cluster-b", 8)
    );
    let store = open(&world.config).await?;
    assert_eq!(store.log_identity(), &first);
    assert_eq!(store.positions(&[5]).await?, [(5, 0)]);
    // Seqs go on above, a copy of what the old log had is a copy still, ordinals go on.
    let base = first.base;
    let batch = [
        message(base + 1, channel, key(1, 3)),
        message(base + 2, channel, key(1, 4)),
    ];
    let written = append(&store, 5, &batch).await?;
    assert_eq!((written.rows, written.duplicates), (1, 1));
    assert_eq!(written.touched[0].from, Seq(3));
    let mut conn = world.shard(store.shard_of_partition(5)).await?;
    let ordinals = crate::support::ordinals(&mut conn, channel).await?;
    assert_eq!(ordinals.last().map(|row| row.1), Some(Some(3)));
    let sweep = store
        .sweep(store.shard_of(channel), &[(5, Seq(base))])
        .await?;
    assert_eq!(sweep.heads, [(channel.number(), Seq(base + 2))]);
    assert!(sweep.positions.contains(&(5, Seq(base + 2))));
    assert_audit(&store).await?;
    // Again, with the same cluster: a topic that was recreated there.
    let second = new_log(&world.config, &next).await?;
    assert!(second.base >= base + 2 + 1_000_000, "{second:?}");
    init(&world.config, &next).await?;
    Ok(())
}

#[tokio::test]
async fn interrupted_new_log_is_refused_until_it_is_finished() -> anyhow::Result<()> {
    let world = World::new("half_new_log").await?;
    let mut shard = world.shard(0).await?;
    // As if it had stopped between the shards and the core database.
    sqlx::query("update shard_identity set cluster_id = 'cluster-b', base = 1000000")
        .execute(&mut shard)
        .await?;
    assert!(refusal(open(&world.config).await).contains("hubbub admin new-log"));
    let mut next = identity(0);
    next.cluster_id = "cluster-b".to_owned();
    let finished = new_log(&world.config, &next).await?;
    assert!(finished.base > 1_000_000);
    assert_eq!(open(&world.config).await?.log_identity(), &finished);
    Ok(())
}

#[tokio::test]
async fn durability_that_is_off_is_named() -> anyhow::Result<()> {
    let world = World::new("durability").await?;
    let mut conn = world.shard(1).await?;
    let fsync: String = sqlx::query_scalar("show fsync")
        .fetch_one(&mut conn)
        .await?;
    let off = world.store.check_durability().await?;
    assert_eq!(
        off.contains(&"shard 1: fsync".to_owned()),
        fsync == "off",
        "{off:?}"
    );
    // What the session asks for counts, not what the server was started with.
    let name: String = sqlx::query_scalar("select current_database()")
        .fetch_one(&mut conn)
        .await?;
    let alter = format!("alter database \"{name}\" set synchronous_commit = off");
    sqlx::raw_sql(sqlx::AssertSqlSafe(alter))
        .execute(&mut conn)
        .await?;
    let off = open(&world.config).await?.shard_durability(1).await?;
    assert!(
        off.contains(&"shard 1: synchronous_commit".to_owned()),
        "{off:?}"
    );
    Ok(())
}
