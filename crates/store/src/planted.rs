//! The mistakes of this crate. Their statements are not checked at compile time: the offline data
//! is that of the product.

use std::{collections::HashSet, time::Duration};

use hubbub_mutant::{Mutant, planted};
use hubbub_protocol::{ChannelId, Receipt, Seq};
use sqlx::{Connection, PgConnection};
use uuid::Uuid;

use crate::{
    Error, Store,
    batch::Numbered,
    database::read,
    messages::MessageRow,
    write::{Move, advance, insert},
};

/// M2: between the two transactions; wide enough that a consumer dies in it.
const APART: Duration = Duration::from_millis(100);
/// M8: how far the replica is behind.
const BEHIND_MS: i64 = 5_000;

/// M2: commits the position by itself. `false` if it was not the expected one.
pub(crate) async fn move_apart(conn: &mut PgConnection, step: &Move<'_>) -> sqlx::Result<bool> {
    if !planted(Mutant::M2) {
        return Ok(true);
    }
    let mut transaction = conn.begin().await?;
    let moved = advance(&mut transaction, step).await?;
    transaction.commit().await?;
    tokio::time::sleep(APART).await;
    Ok(moved)
}

/// M4: whoever finds the id taken takes another one. Gives what is stored then.
pub(crate) async fn insert_copies(
    conn: &mut PgConnection,
    rows: &[Numbered<'_>],
    mut kept: HashSet<(i64, i64)>,
) -> sqlx::Result<HashSet<(i64, i64)>> {
    if planted(Mutant::M4) && kept.len() < rows.len() {
        let is_copy = |n: &&Numbered<'_>| {
            let place = (n.row.channel.shard_key(), n.row.seq.to_db());
            !kept.contains(&place)
        };
        let copies: Vec<Numbered<'_>> = rows.iter().filter(is_copy).copied().collect();
        kept.extend(insert(conn, &copies, |_| Uuid::new_v4()).await?);
    }
    Ok(kept)
}

/// M11: moves the position, whatever it is.
pub(crate) async fn set_position(conn: &mut PgConnection, step: &Move<'_>) -> sqlx::Result<bool> {
    sqlx::query(
        "insert into log_position (partition, next_offset) values ($1, $2)
         on conflict (partition) do update set next_offset = excluded.next_offset",
    )
    .bind(step.partition)
    .bind(step.next_offset)
    .execute(conn)
    .await?;
    Ok(true)
}

/// M12: the cursors are what these marks say, even if they go back.
pub(crate) async fn set_cursors(
    conn: &mut PgConnection,
    partition: i32,
    next_offset: i64,
    marks: &[Receipt],
) -> sqlx::Result<()> {
    let mut transaction = conn.begin().await?;
    for mark in marks {
        sqlx::query(
            "insert into member_cursors (channel_id, user_id, device_id, delivered, read)
             values ($1, $2, $3, $4, $5)
             on conflict (channel_id, user_id, device_id) do update
                 set delivered = excluded.delivered, read = excluded.read",
        )
        .bind(mark.channel.shard_key())
        .bind(mark.user.number())
        .bind(mark.device.as_str())
        .bind(mark.delivered.to_db())
        .bind(mark.read.to_db())
        .execute(&mut *transaction)
        .await?;
    }
    sqlx::query(
        "insert into marks_position (partition, next_offset) values ($1, $2)
         on conflict (partition) do update set next_offset = excluded.next_offset",
    )
    .bind(partition)
    .bind(next_offset)
    .execute(&mut *transaction)
    .await?;
    transaction.commit().await
}

impl Store {
    /// M8: the head as the replica has it.
    pub(crate) async fn head_of_replica(&self, channel: ChannelId) -> Result<Seq, Error> {
        let head: i64 = read!(self.channel_shard(channel), "replica.head", |conn| {
            sqlx::query_scalar(
                "select coalesce(max(seq), 0) from messages
                 where channel_id = $1 and ts_ms <= extract(epoch from now()) * 1000 - $2",
            )
            .bind(channel.shard_key())
            .bind(BEHIND_MS)
            .fetch_one(conn)
        })?;
        Ok(Seq::from_db(head))
    }

    /// M8: the rows of a range that the replica has.
    pub(crate) async fn range_of_replica(
        &self,
        channel: ChannelId,
        from: Seq,
        through: Seq,
        limit: usize,
    ) -> Result<Vec<MessageRow>, Error> {
        read!(self.channel_shard(channel), "replica.range", |conn| {
            sqlx::query_as(
                "select seq, sender_id, client_msg_id, body from messages
                 where channel_id = $1 and seq > $2 and seq <= $3
                   and ts_ms <= extract(epoch from now()) * 1000 - $4
                 order by seq
                 limit $5",
            )
            .bind(channel.shard_key())
            .bind(from.to_db())
            .bind(through.to_db())
            .bind(BEHIND_MS)
            .bind(i64::try_from(limit).unwrap_or(i64::MAX))
            .fetch_all(conn)
        })
    }
}
