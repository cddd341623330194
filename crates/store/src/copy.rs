//! Rows into `messages` by COPY: half of what `insert … on conflict` costs, which looks for a copy
//! of each row before it goes in.

use hubbub_protocol::Seq;
use sqlx::{Connection as _, PgConnection};

use crate::{Effect, batch::Numbered};

/// Rows from which a batch is copied in: below, the three round trips more cost what it saves.
const LEAST_ROWS: usize = 64;
const COPY: &str = "copy messages (channel_id, seq, kind, sender_id, client_msg_id, ts_ms, \
     ordinal, target_seq, thread_seq, body) from stdin (format binary)";
const FIELDS: i16 = 10;
/// What a binary COPY begins with: signature, no flags, no extension; and what ends it
/// (PostgreSQL documentation, COPY, "Binary Format").
const HEAD: &[u8] = b"PGCOPY\n\xFF\r\n\0\0\0\0\0\0\0\0\0";
const END: i16 = -1;
/// Of a field that is null, in place of its length.
const NULL: i32 = -1;
/// Bytes of a row beside its body.
const ROW_BYTES: usize = 128;

/// Inserts all rows, or none: `false` if they are few, or if one of them is a copy of a stored
/// record, which COPY cannot pass by. That is rare, and the caller inserts them one by one then.
/// Another error leaves the caller's transaction as it was before; one of the connection ends it.
pub(crate) async fn copy_in(conn: &mut PgConnection, rows: &[Numbered<'_>]) -> sqlx::Result<bool> {
    if rows.len() < LEAST_ROWS {
        return Ok(false);
    }
    // In a savepoint: a row that is refused must not end the transaction.
    let mut savepoint = conn.begin().await?;
    match copy(&mut savepoint, rows).await {
        Ok(()) => {
            savepoint.commit().await?;
            Ok(true)
        }
        Err(sqlx::Error::Database(refused)) => {
            savepoint.rollback().await?;
            // Of which key it is the slower way finds out.
            if refused.is_unique_violation() {
                Ok(false)
            } else {
                Err(sqlx::Error::Database(refused))
            }
        }
        Err(error) => Err(error),
    }
}

async fn copy(conn: &mut PgConnection, rows: &[Numbered<'_>]) -> sqlx::Result<()> {
    let mut copy = conn.copy_in_raw(COPY).await?;
    copy.send(encode(rows)).await?;
    let copied = copy.finish().await?;
    if copied == rows.len() as u64 {
        Ok(())
    } else {
        let error = format!("{copied} rows of {} were copied", rows.len());
        Err(sqlx::Error::Protocol(error))
    }
}

fn encode(rows: &[Numbered<'_>]) -> Vec<u8> {
    let bytes = rows.iter().map(|n| n.row.body.len() + ROW_BYTES);
    let mut out = Vec::with_capacity(HEAD.len() + bytes.sum::<usize>());
    out.extend_from_slice(HEAD);
    for Numbered { row, ordinal } in rows {
        out.extend_from_slice(&FIELDS.to_be_bytes());
        put(&row.channel.shard_key().to_be_bytes(), &mut out);
        put(&row.seq.to_db().to_be_bytes(), &mut out);
        put(&row.kind.to_db().to_be_bytes(), &mut out);
        put(&row.key.user.number().to_be_bytes(), &mut out);
        put(row.key.message_id.0.as_bytes(), &mut out);
        put(&row.ts_ms.to_be_bytes(), &mut out);
        put_some(*ordinal, &mut out);
        let place = |of: fn(&Effect) -> Option<Seq>| of(&row.effect).map(Seq::to_db);
        put_some(place(Effect::target), &mut out);
        put_some(place(Effect::thread), &mut out);
        put(row.body.as_bytes(), &mut out);
    }
    out.extend_from_slice(&END.to_be_bytes());
    out
}

fn put(field: &[u8], out: &mut Vec<u8>) {
    // A body is a record of the log, which has a megabyte at most.
    let length = i32::try_from(field.len()).unwrap_or(i32::MAX);
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(field);
}

fn put_some(field: Option<i64>, out: &mut Vec<u8>) {
    match field {
        Some(number) => put(&number.to_be_bytes(), out),
        None => out.extend_from_slice(&NULL.to_be_bytes()),
    }
}
