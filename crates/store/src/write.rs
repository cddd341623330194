//! The consumer's side: where the log was read to, and the transaction that moves it on.

use std::collections::{HashMap, HashSet};

use futures_util::future::{join_all, try_join_all};
use hubbub_mutant::{Mutant, planted as is_planted};
use hubbub_protocol::Seq;
use sqlx::{Connection, PgConnection};
use tracing::Instrument;
use uuid::Uuid;

#[cfg(feature = "mutants")]
use crate::planted;
use crate::{
    Effect, Error, Incoming, NewRow, Store, WRITE_DEADLINE, WriteError, Written,
    apply::apply,
    batch::{Batch, Head, NewHead, Numbered},
    copy::copy_in,
    database::{Database, read, write_once},
    error::sqlstate,
};

/// How long the client of a session that holds a position must have been silent, in the midst of
/// its transaction, before the session is ended for somebody who waits for the position. A batch
/// takes milliseconds between two statements.
const SILENT_S: f64 = 2.0;
/// Bytes of a dead letter's reason that are kept; the payload is kept whole.
const REASON_BYTES: usize = 1_000;

/// The compare-and-set of a position.
pub(crate) struct Move<'a> {
    pub(crate) partition: i32,
    pub(crate) expected: i64,
    pub(crate) next_offset: i64,
    /// The log whose positions these are: after `hubbub admin new-log` a consumer of the old one
    /// is refused even where the numbers happen to agree.
    cluster_id: &'a str,
    base: i64,
}

/// How a transaction ended that the server took part in to the end.
enum Ended {
    Committed(Written),
    Zombie,
    Data(String),
    Contradiction(String),
}

/// Rides in an `sqlx::Error` out of the statement that met it.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Contradiction(pub(crate) String);

impl Store {
    /// The next offset to read of each of `partitions`, in the order asked; 0 for one that was
    /// never written. One statement per shard concerned; one shard that is away fails the call,
    /// so ask for each partition alone where that matters.
    pub async fn positions(&self, partitions: &[i32]) -> Result<Vec<(i32, i64)>, Error> {
        let mut by_shard: HashMap<usize, Vec<i32>> = HashMap::new();
        for partition in partitions {
            let shard = self.shard_of_partition(*partition);
            by_shard.entry(shard).or_default().push(*partition);
        }
        let reads = by_shard.into_iter().map(|(shard, asked)| async move {
            read!(self.shard(shard), "log_position.get", |conn| sqlx::query!(
                "select partition, next_offset from log_position where partition = any($1)",
                &asked
            )
            .fetch_all(conn))
        });
        let found: HashMap<i32, i64> = try_join_all(reads)
            .await?
            .into_iter()
            .flatten()
            .map(|row| (row.partition, row.next_offset))
            .collect();
        let position = |partition: &i32| found.get(partition).copied().unwrap_or(0);
        Ok(partitions.iter().map(|p| (*p, position(p))).collect())
    }

    /// The positions of every partition whose shard answers; one that is away is left out, within
    /// the deadline of a read.
    pub async fn known_positions(&self) -> Vec<(i32, i64)> {
        let reads = (0..self.shards()).map(|shard| async move {
            let partitions: Vec<i32> = self.partitions_of(shard).collect();
            match self.positions(&partitions).await {
                Ok(found) => found,
                Err(error) => {
                    tracing::warn!(%error, "positions not read");
                    Vec::new()
                }
            }
        });
        join_all(reads).await.concat()
    }

    /// The transaction: compare-and-set of the position from `expected` to `next_offset`, insert,
    /// heads, counts, dead letters. `batch` is in log order and lies between the two; a partition
    /// without a position yet has `expected` 0. `before_commit` runs between the last statement
    /// and the commit (failpoint).
    ///
    /// A process that is frozen in the midst of such a transaction holds the position's row, and
    /// in the midst of a COPY no timeout of the server ends that: Postgres looks at them when the
    /// client sends something (`ProcessClientReadInterrupt` in its source). Who has waited for the
    /// row in vain therefore ends the sessions whose clients have said nothing for 2 s.
    ///
    /// After [`WriteError::Store`] it is not known whether the commit happened: start again from
    /// [`Store::positions`].
    pub async fn write_batch(
        &self,
        partition: i32,
        expected: i64,
        next_offset: i64,
        batch: &[Incoming],
        before_commit: impl FnOnce() + Send,
    ) -> Result<Written, WriteError> {
        let log = self.log_identity();
        let seq_of = |offset: i64| Seq(Seq::from_db(offset).0 + log.base);
        let (after, through) = (seq_of(expected), seq_of(next_offset));
        let batch = Batch::read(batch, partition, log.partitions, after, through)
            .map_err(WriteError::Data)?;
        let step = Move {
            partition,
            expected,
            next_offset,
            cluster_id: &log.cluster_id,
            base: Seq(log.base).to_db(),
        };
        let database = self.shard(self.shard_of_partition(partition));
        let mut call = database.write("log_position.advance", WRITE_DEADLINE);
        let write = async {
            let mut lease = call.lease().await?;
            let transaction = transaction(lease.connection(), &step, batch, before_commit);
            let result = call.bounded(transaction).await;
            call.settle(lease, result)
                .expect("a write is not tried again, so its first try ends it")
        };
        let written = write
            .instrument(tracing::debug_span!("db.log_position.advance"))
            .await;
        if written.as_ref().is_err_and(Error::is_locked) {
            self.end_silent_holders(database, partition).await;
        }
        match written? {
            Ended::Committed(written) => Ok(written),
            Ended::Zombie => Err(WriteError::Zombie),
            Ended::Data(reason) => Err(WriteError::Data(reason)),
            Ended::Contradiction(reason) => Err(WriteError::Contradiction(reason)),
        }
    }

    /// Ends the sessions of consumers that hold a position on this database and whose clients
    /// have been silent for [`SILENT_S`]. One that was only slow writes its batch again.
    async fn end_silent_holders(&self, database: &Database, partition: i32) {
        let ended = write_once!(database, "log_position.free", |conn| sqlx::query!(
            r#"select a.pid as "pid!", pg_terminate_backend(a.pid) as "ended!"
               from pg_stat_activity a
               where a.datname = current_database() and a.usename = current_user
                 and a.application_name = current_setting('application_name')
                 and a.wait_event = 'ClientRead'
                 and a.state_change < clock_timestamp() - make_interval(secs => $1)
                 and exists (
                     select from pg_locks l
                     where l.pid = a.pid and l.relation = 'log_position'::regclass
                       and l.mode = 'RowExclusiveLock' and l.granted
                 )"#,
            SILENT_S
        )
        .fetch_all(conn));
        match ended {
            Ok(sessions) => {
                for session in sessions {
                    let (place, pid, ended) = (database.place, session.pid, session.ended);
                    tracing::warn!(
                        log.partition = partition,
                        %place,
                        pid,
                        ended,
                        "a consumer that is silent in its transaction held a position: its session is ended"
                    );
                }
            }
            // The batch is tried again, and with it this.
            Err(error) => {
                tracing::warn!(%error, log.partition = partition, "holders of the position not ended")
            }
        }
    }
}

/// Runs the transaction and ends it by commit or rollback, so that `Ok` leaves a whole
/// connection. An error may leave it inside: then its connection is closed.
async fn transaction(
    conn: &mut PgConnection,
    step: &Move<'_>,
    batch: Batch<'_>,
    before_commit: impl FnOnce(),
) -> sqlx::Result<Ended> {
    #[cfg(feature = "mutants")]
    if !planted::move_apart(conn, step).await? {
        return Ok(Ended::Zombie);
    }
    let mut transaction = conn.begin().await?;
    match statements(&mut transaction, step, batch).await {
        Ok(Some(written)) => {
            before_commit();
            transaction.commit().await?;
            Ok(Ended::Committed(written))
        }
        Ok(None) => {
            transaction.rollback().await?;
            Ok(Ended::Zombie)
        }
        Err(error) => {
            let fault = contradiction(&error)
                .map(Ended::Contradiction)
                .or_else(|| data_fault(&error).map(Ended::Data));
            transaction.rollback().await?;
            fault.ok_or(error)
        }
    }
}

/// `None` = zombie.
async fn statements(
    conn: &mut PgConnection,
    step: &Move<'_>,
    mut batch: Batch<'_>,
) -> sqlx::Result<Option<Written>> {
    // First of all: it takes the partition's row lock, which from here on keeps every other
    // writer of these channels out, so what is read below cannot change.
    let moved_apart = is_planted(Mutant::M2);
    if !moved_apart && !advance(conn, step).await? {
        return Ok(None);
    }
    let before = read_heads(conn, batch.channels()).await?;
    let mut numbered = batch.number(&before);
    if !copy_in(conn, &numbered).await? {
        let kept = insert(conn, &numbered, |row| row.key.message_id.0).await?;
        #[cfg(feature = "mutants")]
        let kept = planted::insert_copies(conn, &numbered, kept).await?;
        if kept.len() < numbered.len() {
            // Some were copies of stored records, which is rare: close the gaps in the ordinals.
            batch.retain(&kept);
            numbered = batch.number(&before);
            renumber(conn, &numbered).await?;
        }
    }
    let without_effect = apply(conn, &numbered).await?;
    insert_dead(conn, step.partition, &batch.dead).await?;
    write_heads(conn, step.partition, &batch.heads(&before, &numbered)).await?;
    let written = batch.written(&before, without_effect);
    if written.duplicates + written.dead > 0 {
        count(conn, step.partition, &written).await?;
    }
    Ok(Some(written))
}

/// The compare-and-set; `false` if the position is not the expected one, or of another log.
pub(crate) async fn advance(conn: &mut PgConnection, step: &Move<'_>) -> sqlx::Result<bool> {
    #[cfg(feature = "mutants")]
    if is_planted(Mutant::M11) {
        return planted::set_position(conn, step).await;
    }
    let moved = sqlx::query!(
        "update log_position set next_offset = $3
         where partition = $1 and next_offset = $2
           and exists (select from shard_identity where cluster_id = $4 and base = $5)",
        step.partition,
        step.expected,
        step.next_offset,
        step.cluster_id,
        step.base
    )
    .execute(&mut *conn)
    .await?
    .rows_affected();
    if moved > 0 || step.expected != 0 {
        return Ok(moved > 0);
    }
    // The first batch of a partition; a row that is there by now belongs to somebody else.
    let made = sqlx::query!(
        "insert into log_position (partition, next_offset)
         select $1, $2 from shard_identity where cluster_id = $3 and base = $4
         on conflict (partition) do nothing",
        step.partition,
        step.next_offset,
        step.cluster_id,
        step.base
    )
    .execute(conn)
    .await?
    .rows_affected();
    Ok(made > 0)
}

async fn read_heads(
    conn: &mut PgConnection,
    channels: Vec<i64>,
) -> sqlx::Result<HashMap<i64, Head>> {
    let rows = sqlx::query!(
        "select channel_id, through, ordinal from channel_heads where channel_id = any($1)",
        &channels
    )
    .fetch_all(conn)
    .await?;
    let head = |through, ordinal| Head {
        through: Seq::from_db(through),
        ordinal,
    };
    Ok(rows
        .into_iter()
        .map(|row| (row.channel_id, head(row.through, row.ordinal)))
        .collect())
}

/// Inserts what is no copy of a stored record; gives (channel, seq) of what it inserted. The
/// conflict that is forgiven is that of the message's identity alone: another record at the same
/// (channel, seq) means that the log is not the one that was stored, and is an error.
pub(crate) async fn insert(
    conn: &mut PgConnection,
    rows: &[Numbered<'_>],
    id: impl Fn(&NewRow) -> Uuid,
) -> sqlx::Result<HashSet<(i64, i64)>> {
    if rows.is_empty() {
        return Ok(HashSet::new());
    }
    let column = |of: fn(&Numbered<'_>) -> i64| rows.iter().map(of).collect::<Vec<i64>>();
    let channels = column(|n| n.row.channel.shard_key());
    let seqs = column(|n| n.row.seq.to_db());
    let senders = column(|n| n.row.key.user.number());
    let times = column(|n| n.row.ts_ms);
    let kinds: Vec<i16> = rows.iter().map(|n| n.row.kind.to_db()).collect();
    let ids: Vec<_> = rows.iter().map(|n| id(n.row)).collect();
    let ordinals: Vec<Option<i64>> = rows.iter().map(|n| n.ordinal).collect();
    let bodies: Vec<&str> = rows.iter().map(|n| n.row.body.as_str()).collect();
    let place = |of: fn(&Effect) -> Option<Seq>| {
        let place = |n: &Numbered<'_>| of(&n.row.effect).map(Seq::to_db);
        rows.iter().map(place).collect::<Vec<Option<i64>>>()
    };
    let (targets, threads) = (place(Effect::target), place(Effect::thread));
    let kept = sqlx::query!(
        "insert into messages
             (channel_id, seq, kind, sender_id, client_msg_id, ts_ms, ordinal, target_seq,
              thread_seq, body)
         select channel_id, seq, kind, sender_id, client_msg_id, ts_ms, ordinal, target_seq,
                thread_seq, body
         from unnest($1::bigint[], $2::bigint[], $3::smallint[], $4::bigint[], $5::uuid[],
                     $6::bigint[], $7::bigint[], $8::bigint[], $9::bigint[], $10::text[])
             as r (channel_id, seq, kind, sender_id, client_msg_id, ts_ms, ordinal, target_seq,
                   thread_seq, body)
         order by seq
         on conflict (channel_id, sender_id, client_msg_id) do nothing
         returning channel_id, seq",
        &channels,
        &seqs,
        &kinds,
        &senders,
        &ids,
        &times,
        &ordinals as &[Option<i64>],
        &targets as &[Option<i64>],
        &threads as &[Option<i64>],
        &bodies as &[&str]
    )
    .fetch_all(conn)
    .await?;
    Ok(kept
        .into_iter()
        .map(|row| (row.channel_id, row.seq))
        .collect())
}

async fn renumber(conn: &mut PgConnection, rows: &[Numbered<'_>]) -> sqlx::Result<()> {
    let messages = || rows.iter().filter(|n| n.ordinal.is_some());
    let channels: Vec<i64> = messages().map(|n| n.row.channel.shard_key()).collect();
    let seqs: Vec<i64> = messages().map(|n| n.row.seq.to_db()).collect();
    let ordinals: Vec<i64> = messages().filter_map(|n| n.ordinal).collect();
    sqlx::query!(
        "update messages m set ordinal = r.ordinal
         from unnest($1::bigint[], $2::bigint[], $3::bigint[]) as r (channel_id, seq, ordinal)
         where m.channel_id = r.channel_id and m.seq = r.seq and m.ordinal <> r.ordinal",
        &channels,
        &seqs,
        &ordinals
    )
    .execute(conn)
    .await?;
    Ok(())
}

async fn insert_dead(
    conn: &mut PgConnection,
    partition: i32,
    dead: &[&Incoming],
) -> sqlx::Result<()> {
    // One statement each: they are few, and may be a megabyte each.
    for letter in dead {
        let Incoming::Dead {
            seq,
            channel,
            payload,
            key,
            ts_ms,
            error,
        } = letter
        else {
            continue;
        };
        sqlx::query!(
            "insert into dead_letters (partition, seq, channel_id, payload, key, ts_ms, error)
             values ($1, $2, $3, $4, $5, $6, $7)",
            partition,
            seq.to_db(),
            channel.map(|channel| channel.shard_key()),
            payload.as_deref(),
            key.as_deref(),
            ts_ms,
            reason(error)
        )
        .execute(&mut *conn)
        .await?;
    }
    Ok(())
}

/// A dead letter's reason as Postgres can hold it: the letter itself must not become poison.
fn reason(error: &str) -> String {
    let mut text = error.replace('\0', "\u{FFFD}");
    text.truncate(text.floor_char_boundary(REASON_BYTES));
    text
}

async fn write_heads(
    conn: &mut PgConnection,
    partition: i32,
    heads: &[NewHead],
) -> sqlx::Result<()> {
    if heads.is_empty() {
        return Ok(());
    }
    let channels: Vec<i64> = heads.iter().map(|head| head.channel.shard_key()).collect();
    let throughs: Vec<i64> = heads.iter().map(|head| head.through.to_db()).collect();
    let ordinals: Vec<i64> = heads.iter().map(|head| head.ordinal).collect();
    let times: Vec<i64> = heads.iter().map(|head| head.ts_ms).collect();
    let moved = sqlx::query!(
        "insert into channel_heads (channel_id, partition, through, ordinal, last_ts_ms)
         select channel_id, $1, through, ordinal, last_ts_ms
         from unnest($2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[])
             as h (channel_id, through, ordinal, last_ts_ms)
         on conflict (channel_id) do update
             set through = excluded.through, ordinal = excluded.ordinal,
                 last_ts_ms = excluded.last_ts_ms
             where channel_heads.through < excluded.through",
        partition,
        &channels,
        &throughs,
        &ordinals,
        &times
    )
    .execute(conn)
    .await?
    .rows_affected();
    if moved == heads.len() as u64 || is_planted(Mutant::M11) {
        Ok(())
    } else {
        // Positions only grow, and heads lie below them: the log is not the one that was stored.
        let error = format!(
            "{} of {} heads lie above the batch",
            heads.len() as u64 - moved,
            heads.len()
        );
        Err(sqlx::Error::Decode(Contradiction(error).into()))
    }
}

async fn count(conn: &mut PgConnection, partition: i32, written: &Written) -> sqlx::Result<()> {
    sqlx::query!(
        "update log_position set duplicates = duplicates + $2, dead = dead + $3
         where partition = $1",
        partition,
        i64::try_from(written.duplicates).unwrap_or(i64::MAX),
        i64::try_from(written.dead).unwrap_or(i64::MAX)
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// What says that the log is not the one that was stored: heads above the batch, or a primary
/// key's clash, since the position's row lock keeps every other writer of these seqs out.
fn contradiction(error: &sqlx::Error) -> Option<String> {
    if let sqlx::Error::Decode(inner) = error {
        return Some(inner.downcast_ref::<Contradiction>()?.to_string());
    }
    let refused = error.as_database_error()?;
    let clash = refused.code()? == "23505" && refused.constraint()?.ends_with("_pkey");
    clash.then(|| refused.message().to_owned())
}

/// What makes a record unstorable: class 22 (data exception) and 23 (constraint), unless it is a
/// [`contradiction`], which no record is to blame for.
fn data_fault(error: &sqlx::Error) -> Option<String> {
    let code = sqlstate(error)?;
    let refused = error.as_database_error()?;
    let data = code.starts_with("22") || code.starts_with("23");
    data.then(|| format!("{code} {}", refused.message()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reason_of_a_dead_letter_is_always_storable() {
        assert_eq!(reason("a\0b"), "a\u{FFFD}b");
        let long = "ä".repeat(REASON_BYTES);
        assert!(reason(&long).len() <= REASON_BYTES);
    }
}
