use tokio::time::Duration;

use crate::{Error, Store};

/// Counting all rows of a shard takes what it takes; the operator waits.
const STATUS_DEADLINE: Duration = Duration::from_secs(60);

/// Where every partition stands.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct AdminStatus {
    /// By number.
    pub partitions: Vec<PartitionStatus>,
}

/// A partition: the records read of its log, `next_offset`, are `rows + duplicates + dead`
/// (contract P12).
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct PartitionStatus {
    /// Its number.
    pub partition: i32,
    /// The shard that holds it.
    pub shard: usize,
    /// The offset that is read next.
    pub next_offset: i64,
    /// Rows of this log (above its base), counted.
    pub rows: i64,
    /// Copies dropped.
    pub duplicates: i64,
    /// Dead letters.
    pub dead: i64,
}

impl Store {
    /// Reads every shard and counts its rows: the cost is that of a scan, the deadline 60 s per
    /// shard. Fails if one shard is away.
    pub async fn admin_status(&self) -> Result<AdminStatus, Error> {
        let shards = (0..self.shards()).map(|shard| self.shard_status(shard));
        let found = futures_util::future::try_join_all(shards).await?;
        let mut partitions: Vec<_> = found.into_iter().flatten().collect();
        partitions.sort_unstable_by_key(|status| status.partition);
        Ok(AdminStatus { partitions })
    }

    async fn shard_status(&self, shard: usize) -> Result<Vec<PartitionStatus>, Error> {
        let base = i64::try_from(self.log_identity().base).unwrap_or(i64::MAX);
        let partitions: Vec<i32> = self.partitions_of(shard).collect();
        let mut call = self.shard(shard).write("admin.status", STATUS_DEADLINE);
        let mut lease = call.lease().await?;
        let statements = async {
            let mut transaction = sqlx::Connection::begin(lease.connection()).await?;
            sqlx::query!("set local statement_timeout = '60s'")
                .execute(&mut *transaction)
                .await?;
            // One statement, one snapshot: rows and positions that agree.
            let rows = sqlx::query!(
                r#"with stored as (
                       select h.partition, count(*) as rows
                       from messages m join channel_heads h on h.channel_id = m.channel_id
                       where m.seq > $2
                       group by h.partition
                   )
                   select a.partition as "partition!",
                          coalesce(p.next_offset, 0) as "next_offset!",
                          coalesce(s.rows, 0) as "rows!",
                          coalesce(p.duplicates, 0) as "duplicates!",
                          coalesce(p.dead, 0) as "dead!"
                   from unnest($1::integer[]) as a (partition)
                   left join log_position p on p.partition = a.partition
                   left join stored s on s.partition = a.partition"#,
                &partitions,
                base
            )
            .fetch_all(&mut *transaction)
            .await?;
            transaction.commit().await?;
            Ok(rows)
        };
        let result = call.bounded(statements).await;
        let rows = call
            .settle(lease, result)
            .expect("it is not tried again, so its first try ends it")?;
        let status = rows.into_iter().map(|row| PartitionStatus {
            partition: row.partition,
            shard,
            next_offset: row.next_offset,
            rows: row.rows,
            duplicates: row.duplicates,
            dead: row.dead,
        });
        Ok(status.collect())
    }

    /// The settings that are off and without which a commit that was acknowledged can be lost:
    /// `shard 0: fsync`. Reads every shard; fails if one is away.
    pub async fn check_durability(&self) -> Result<Vec<String>, Error> {
        let shards = (0..self.shards()).map(|shard| self.shard_durability(shard));
        let found = futures_util::future::try_join_all(shards).await?;
        Ok(found.into_iter().flatten().collect())
    }

    /// The same of one shard.
    pub async fn shard_durability(&self, shard: usize) -> Result<Vec<String>, Error> {
        let off = crate::database::read!(self.shard(shard), "settings.off", |conn| {
            sqlx::query_scalar!(
                r#"select name as "name!" from pg_settings
                   where name in ('fsync', 'synchronous_commit', 'full_page_writes')
                     and setting = 'off'
                   order by name"#
            )
            .fetch_all(conn)
        })?;
        Ok(off
            .into_iter()
            .map(|name| format!("shard {shard}: {name}"))
            .collect())
    }
}
