//! What `hubbub admin` does to the databases before anything else runs.

use std::future::Future;

use sqlx::{
    Connection, PgConnection, Postgres,
    migrate::{MigrateDatabase, MigrateError, Migrator},
};
use tokio::time::{Duration, timeout};

use crate::{
    Config, Error, LogIdentity,
    database::{self, Place, READ_DEADLINE},
    error::sqlstate,
    identity::{self, CoreIdentity, ShardIdentity},
    migrations, pool,
};

/// Migrations may build an index, and another `init` may hold the lock; past it something hangs.
const ADMIN_DEADLINE: Duration = Duration::from_secs(300);

/// The advisory lock in the core database that lets one `init` or `new_log` run at a time.
const ADMIN_LOCK: i64 = 0x6875_6262_7562; // "hubbub"

/// Creates the databases that are missing, applies migrations, writes the shard map, the shards'
/// identities and the log's. Idempotent, and safe to run from several places at once: an
/// advisory lock lets one work at a time.
///
/// `identity.base` counts only the first time. Refuses, naming the remedy, a cluster id, topic or
/// partition count that is not the stored one, and databases of another deployment.
pub async fn init(config: &Config, identity: &LogIdentity) -> Result<(), Error> {
    if identity.partitions == 0 || config.shard_urls.is_empty() {
        return Err(Error::Refused(
            "at least one partition and one shard are needed".to_owned(),
        ));
    }
    bounded(Place::Core, async {
        let mut core = open(Place::Core, &config.core_url).await?;
        lock(&mut core).await?;
        migrate(&mut core, Place::Core, &migrations::CORE).await?;
        let core_identity = write_core(&mut core, config, identity).await?;
        for (shard, url) in config.shard_urls.iter().enumerate() {
            let place = Place::Shard(shard);
            let mut conn = open(place, url).await?;
            migrate(&mut conn, place, &migrations::SHARD).await?;
            write_shard(&mut conn, &ShardIdentity::expected(&core_identity, shard)).await?;
            pool::close(conn).await;
        }
        pool::close(core).await; // and with it the lock
        Ok(())
    })
    .await
}

/// The log that the databases belong to; `None` before the first `init`.
///
/// # Errors
/// `Refused` for a malformed address; otherwise the core database is away.
pub async fn stored_log(config: &Config) -> Result<Option<LogIdentity>, Error> {
    let options = database::options(Place::Core, &config.core_url)?;
    let read = async {
        let mut conn = database::connect_admin(Place::Core, &options).await?;
        let found = identity::read_core(&mut conn).await;
        pool::close(conn).await;
        found
    };
    let found = timeout(READ_DEADLINE, read)
        .await
        .unwrap_or_else(|_| Err(pool::away("no answer within the deadline")));
    match found {
        Ok(found) => Ok(found.map(|core| core.log)),
        // No such database; no such table.
        Err(error) if matches!(sqlstate(&error).as_deref(), Some("3D000" | "42P01")) => Ok(None),
        Err(error) => Err(Place::Core.error(error)),
    }
}

/// Gives an administrative step its deadline.
pub(crate) async fn bounded<T>(
    place: Place,
    work: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    timeout(ADMIN_DEADLINE, work)
        .await
        .unwrap_or_else(|_| Err(place.error(pool::away("not done within 5 minutes"))))
}

/// Held until the connection closes.
pub(crate) async fn lock(core: &mut PgConnection) -> Result<(), Error> {
    sqlx::query!("select pg_advisory_lock($1)", ADMIN_LOCK)
        .execute(core)
        .await
        .map_err(Error::Core)?;
    Ok(())
}

/// Connects; creates the database first if it does not exist.
async fn open(place: Place, url: &str) -> Result<PgConnection, Error> {
    let options = database::options(place, url)?;
    match database::connect_admin(place, &options).await {
        Err(error) if sqlstate(&error).as_deref() == Some("3D000") => {}
        connected => return connected.map_err(|error| place.error(error)),
    }
    match Postgres::create_database(url).await {
        Ok(()) => tracing::info!(%place, "database is created"),
        // Somebody else was faster: 42P04, or 23505 where both were in it.
        Err(error) if matches!(sqlstate(&error).as_deref(), Some("42P04" | "23505")) => {}
        Err(error) => return Err(place.error(error)),
    }
    database::connect_admin(place, &options)
        .await
        .map_err(|error| place.error(error))
}

async fn migrate(conn: &mut PgConnection, place: Place, migrator: &Migrator) -> Result<(), Error> {
    migrator.run(conn).await.map_err(|error| match error {
        MigrateError::Execute(error) => place.error(error),
        other => Error::Refused(format!(
            "{place} cannot be migrated ({other}): it was made by another build, or it is used \
             for two things; name an empty database and run `hubbub admin init`"
        )),
    })
}

async fn write_core(
    core: &mut PgConnection,
    config: &Config,
    identity: &LogIdentity,
) -> Result<CoreIdentity, Error> {
    let partitions = i32::try_from(identity.partitions)
        .map_err(|_| Error::Refused("more partitions than an integer can count".to_owned()))?;
    let base =
        i64::try_from(identity.base).map_err(|_| Error::Refused("a base above 2^63".to_owned()))?;
    let mut transaction = core.begin().await.map_err(Error::Core)?;
    sqlx::query!(
        "insert into log_identity (cluster_id, topic, partitions, base) values ($1, $2, $3, $4)
         on conflict (one) do nothing",
        identity.cluster_id,
        identity.topic,
        partitions,
        base
    )
    .execute(&mut *transaction)
    .await
    .map_err(Error::Core)?;
    let stored = identity::read_core(&mut transaction)
        .await
        .map_err(Error::Core)?
        .ok_or(Error::Core(sqlx::Error::RowNotFound))?;
    compare(&stored.log, identity)?;
    // Frozen from here on: an entry that is there stays.
    sqlx::query!(
        "insert into shard_map (partition, shard)
         select p, p % $2 from generate_series(0, $1 - 1) as p
         on conflict (partition) do nothing",
        partitions,
        i32::try_from(config.shard_urls.len()).unwrap_or(i32::MAX)
    )
    .execute(&mut *transaction)
    .await
    .map_err(Error::Core)?;
    let map = identity::read_shard_map(&mut transaction)
        .await
        .map_err(Error::Core)?;
    if let Some(shard) = map.into_iter().max()
        && shard >= config.shard_urls.len()
    {
        return Err(Error::Refused(format!(
            "shard_map names shard {shard}, but SHARD_DATABASE_URLS has {} addresses: name them \
             all; shards can be added, never left out",
            config.shard_urls.len()
        )));
    }
    transaction.commit().await.map_err(Error::Core)?;
    Ok(stored)
}

/// Refuses another log than the one the store was initialised with.
fn compare(stored: &LogIdentity, given: &LogIdentity) -> Result<(), Error> {
    if stored.partitions != given.partitions {
        return Err(Error::Refused(format!(
            "the store was initialised for {} partitions and the topic has {}: their number is \
             fixed for ever, so name the topic that has {}",
            stored.partitions, given.partitions, stored.partitions
        )));
    }
    if stored.cluster_id != given.cluster_id || stored.topic != given.topic {
        return Err(Error::Refused(format!(
            "the store follows topic {} of Kafka cluster {}, not {} of {}: correct \
             KAFKA_BROKERS or the topic, or, if that log is lost, run `hubbub admin new-log`",
            stored.topic, stored.cluster_id, given.topic, given.cluster_id
        )));
    }
    Ok(())
}

async fn write_shard(conn: &mut PgConnection, expected: &ShardIdentity) -> Result<(), Error> {
    let place = Place::Shard(expected.shard);
    sqlx::query!(
        "insert into shard_identity (store_id, shard, cluster_id, base) values ($1, $2, $3, $4)
         on conflict (one) do nothing",
        expected.store_id,
        i32::try_from(expected.shard).unwrap_or(i32::MAX),
        expected.cluster_id,
        i64::try_from(expected.base).unwrap_or(i64::MAX)
    )
    .execute(&mut *conn)
    .await
    .map_err(|error| place.error(error))?;
    let found = identity::read_shard(conn)
        .await
        .map_err(|error| place.error(error))?
        .ok_or_else(|| place.error(sqlx::Error::RowNotFound))?;
    match found.mismatch(expected) {
        Some(reason) => Err(Error::Refused(reason)),
        None => Ok(()),
    }
}
