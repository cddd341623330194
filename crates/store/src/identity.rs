use sqlx::PgConnection;
use uuid::Uuid;

/// Which log the stored seqs come from: seq = offset + 1 + base, in this topic of this cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogIdentity {
    /// The Kafka cluster's id.
    pub cluster_id: String,
    /// The topic of the records.
    pub topic: String,
    /// Its partitions, from 1; fixed for ever.
    pub partitions: u32,
    /// What is added to offset + 1.
    pub base: u64,
}

/// What the core database says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CoreIdentity {
    pub(crate) store_id: Uuid,
    pub(crate) log: LogIdentity,
}

/// What a shard says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ShardIdentity {
    pub(crate) store_id: Uuid,
    pub(crate) shard: usize,
    pub(crate) cluster_id: String,
    pub(crate) base: u64,
}

impl ShardIdentity {
    /// What shard `shard` has to say.
    pub(crate) fn expected(core: &CoreIdentity, shard: usize) -> Self {
        Self {
            store_id: core.store_id,
            shard,
            cluster_id: core.log.cluster_id.clone(),
            base: core.log.base,
        }
    }

    /// Why a shard that says `self` is not the one `expected`; `None` if it is.
    pub(crate) fn mismatch(&self, expected: &Self) -> Option<String> {
        let shard = expected.shard;
        if self.store_id != expected.store_id {
            Some(format!(
                "shard {shard} belongs to another deployment ({}, the core database is {}): \
                 correct SHARD_DATABASE_URLS, or run `hubbub admin init` on an empty database",
                self.store_id, expected.store_id
            ))
        } else if self.shard != shard {
            Some(format!(
                "the database at place {shard} of SHARD_DATABASE_URLS says that it is shard {}: \
                 correct their order",
                self.shard
            ))
        } else if self.cluster_id != expected.cluster_id || self.base != expected.base {
            Some(format!(
                "shard {shard} follows log {} from base {}, the core database log {} from base \
                 {}: restart this process, or finish an interrupted `hubbub admin new-log`",
                self.cluster_id, self.base, expected.cluster_id, expected.base
            ))
        } else {
            None
        }
    }
}

pub(crate) async fn read_core(
    conn: &mut PgConnection,
) -> Result<Option<CoreIdentity>, sqlx::Error> {
    let row =
        sqlx::query!("select store_id, cluster_id, topic, partitions, base from log_identity")
            .fetch_optional(conn)
            .await?;
    row.map(|row| {
        Ok(CoreIdentity {
            store_id: row.store_id,
            log: LogIdentity {
                cluster_id: row.cluster_id,
                topic: row.topic,
                partitions: decoded(row.partitions)?,
                base: decoded(row.base)?,
            },
        })
    })
    .transpose()
}

pub(crate) async fn read_shard(
    conn: &mut PgConnection,
) -> Result<Option<ShardIdentity>, sqlx::Error> {
    let row = sqlx::query!("select store_id, shard, cluster_id, base from shard_identity")
        .fetch_optional(conn)
        .await?;
    row.map(|row| {
        Ok(ShardIdentity {
            store_id: row.store_id,
            shard: decoded(row.shard)?,
            cluster_id: row.cluster_id,
            base: decoded(row.base)?,
        })
    })
    .transpose()
}

/// The shard of each partition, by partition; empty before `init`, an error text where the map has
/// holes.
pub(crate) async fn read_shard_map(conn: &mut PgConnection) -> Result<Vec<usize>, sqlx::Error> {
    let rows = sqlx::query!("select partition, shard from shard_map order by partition")
        .fetch_all(conn)
        .await?;
    let mut map = Vec::with_capacity(rows.len());
    for row in rows {
        if usize::try_from(row.partition).ok() != Some(map.len()) {
            let hole = format!("shard_map has no partition {}", map.len());
            return Err(sqlx::Error::Decode(hole.into()));
        }
        map.push(decoded(row.shard)?);
    }
    Ok(map)
}

/// A number that a check constraint keeps in range, as the type of the domain.
pub(crate) fn decoded<T, U>(value: T) -> Result<U, sqlx::Error>
where
    T: Copy + std::fmt::Display,
    U: TryFrom<T>,
{
    U::try_from(value).map_err(|_| sqlx::Error::Decode(format!("{value} is out of range").into()))
}
