use hubbub_protocol::Seq;
use sqlx::{Connection, PgConnection};
use uuid::Uuid;

use crate::{
    Config, Error, LogIdentity,
    database::{self, Place},
    identity::{self, CoreIdentity},
    init::{bounded, lock},
    migrations, pool,
};

/// The step of a base. The end of a lost log is not known: records that were acknowledged and
/// shown, but not yet stored, had seqs above everything in the store, and clients keep them as
/// cursors. A consumer is seconds behind, so a million covers them; the base lies at least one step
/// above the highest seq that is known.
const BASE_STEP: u64 = 1_000_000;

/// `hubbub admin new-log`, after the topic was lost or recreated: base above every stored seq,
/// positions and counts to 0, the new cluster id and topic. Gives the identity that holds from
/// then on; every process must be started again, and a consumer that was not is refused.
///
/// May be run again: after an interruption it finishes, otherwise it raises the base once more.
/// Every shard must be there. `identity.base` is a lower bound.
pub async fn new_log(config: &Config, identity: &LogIdentity) -> Result<LogIdentity, Error> {
    bounded(Place::Core, async {
        let mut core = connect(Place::Core, &config.core_url).await?;
        lock(&mut core).await?;
        let current = read_current(&mut core, config, identity).await?;
        let mut shards = Vec::with_capacity(config.shard_urls.len());
        for (shard, url) in config.shard_urls.iter().enumerate() {
            shards.push(connect(Place::Shard(shard), url).await?);
        }
        let identity = replace(&mut shards, &current, identity).await?;
        write_core(&mut core, &identity).await?;
        for conn in shards {
            pool::close(conn).await;
        }
        pool::close(core).await; // and with it the lock
        Ok(identity)
    })
    .await
}

async fn connect(place: Place, url: &str) -> Result<PgConnection, Error> {
    let options = database::options(place, url)?;
    let mut conn = database::connect_admin(place, &options)
        .await
        .map_err(|error| place.start_error(error))?;
    let migrator = match place {
        Place::Core => &migrations::CORE,
        Place::Shard(_) => &migrations::SHARD,
    };
    match migrations::unfit(&mut conn, migrator, &place.to_string()).await {
        Ok(None) => Ok(conn),
        Ok(Some(reason)) => Err(Error::Refused(reason)),
        Err(error) => Err(place.error(error)),
    }
}

async fn read_current(
    core: &mut PgConnection,
    config: &Config,
    identity: &LogIdentity,
) -> Result<CoreIdentity, Error> {
    let current = identity::read_core(core)
        .await
        .map_err(Error::Core)?
        .ok_or_else(|| {
            Error::Refused("there is no log yet to replace: run `hubbub admin init`".to_owned())
        })?;
    if current.log.partitions != identity.partitions {
        return Err(Error::Refused(format!(
            "the new topic has {} partitions and the store {}: create it with {}",
            identity.partitions, current.log.partitions, current.log.partitions
        )));
    }
    let map = identity::read_shard_map(core).await.map_err(Error::Core)?;
    if map.iter().any(|shard| *shard >= config.shard_urls.len()) {
        return Err(Error::Refused(
            "SHARD_DATABASE_URLS lacks a shard that shard_map names: every shard must take part"
                .to_owned(),
        ));
    }
    Ok(current)
}

/// Moves all shards to the new log. Their transactions are open together: the base must lie above
/// what every one holds, and none may be written to in between.
async fn replace(
    shards: &mut [PgConnection],
    current: &CoreIdentity,
    identity: &LogIdentity,
) -> Result<LogIdentity, Error> {
    let mut top = identity.base.max(current.log.base);
    let mut open = Vec::with_capacity(shards.len());
    for (shard, conn) in shards.iter_mut().enumerate() {
        let place = Place::Shard(shard);
        let mut transaction = conn.begin().await.map_err(|error| place.error(error))?;
        let shard_top = freeze(&mut transaction, shard, current.store_id).await?;
        top = top.max(shard_top);
        open.push((place, transaction));
    }
    let base = (top / BASE_STEP + 2) * BASE_STEP;
    if base > Seq::MAX.0 / 2 {
        return Err(Error::Refused(format!(
            "base {base} leaves no room for seqs"
        )));
    }
    let identity = LogIdentity {
        base,
        ..identity.clone()
    };
    for (place, mut transaction) in open {
        restart(&mut transaction, &identity)
            .await
            .map_err(|error| place.error(error))?;
        transaction
            .commit()
            .await
            .map_err(|error| place.error(error))?;
    }
    Ok(identity)
}

/// Keeps consumers out of a shard, checks that it is the right one, and gives its highest seq.
async fn freeze(conn: &mut PgConnection, shard: usize, store_id: Uuid) -> Result<u64, Error> {
    let place = Place::Shard(shard);
    let in_place = |error| place.error(error);
    sqlx::query!("lock table log_position in exclusive mode")
        .execute(&mut *conn)
        .await
        .map_err(in_place)?;
    let found = identity::read_shard(conn)
        .await
        .map_err(in_place)?
        .filter(|found| found.store_id == store_id && found.shard == shard)
        .ok_or_else(|| {
            Error::Refused(format!(
                "{place} is not shard {shard} of this deployment: correct SHARD_DATABASE_URLS"
            ))
        })?;
    let top = sqlx::query_scalar!(
        r#"select greatest(
               (select max(through) from channel_heads),
               (select max(seq) from dead_letters),
               (select max(next_offset) from log_position) + $1,
               0) as "top!""#,
        i64::try_from(found.base).unwrap_or(i64::MAX)
    )
    .fetch_one(conn)
    .await
    .map_err(in_place)?;
    // Of an interrupted run a shard may have a base already, and nothing above it yet.
    Ok(Seq::from_db(top).0.max(found.base))
}

async fn restart(conn: &mut PgConnection, identity: &LogIdentity) -> sqlx::Result<()> {
    sqlx::query!("update log_position set next_offset = 0, duplicates = 0, dead = 0")
        .execute(&mut *conn)
        .await?;
    // The cursors stay: every seq of the new log is above them.
    sqlx::query!("update marks_position set next_offset = 0")
        .execute(&mut *conn)
        .await?;
    sqlx::query!(
        "update shard_identity set cluster_id = $1, base = $2",
        identity.cluster_id,
        i64::try_from(identity.base).unwrap_or(i64::MAX)
    )
    .execute(conn)
    .await?;
    Ok(())
}

async fn write_core(core: &mut PgConnection, identity: &LogIdentity) -> Result<(), Error> {
    sqlx::query!(
        "update log_identity set cluster_id = $1, topic = $2, base = $3",
        identity.cluster_id,
        identity.topic,
        i64::try_from(identity.base).unwrap_or(i64::MAX)
    )
    .execute(core)
    .await
    .map_err(Error::Core)?;
    Ok(())
}
