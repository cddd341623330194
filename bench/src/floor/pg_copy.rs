use anyhow::{Context, ensure};
use serde::Serialize;
use sqlx::{Connection as _, Executor as _, PgConnection};

use crate::wire::{
    clock::{CpuTime, now_ns},
    lines::{print, wait_for_go},
};

/// The store's own table with all its keys, as a shard has it.
const TABLE: &str = concat!(
    include_str!("../../../migrations/shard/20261121000001_messages.sql"),
    include_str!("../../../migrations/shard/20261121000005_messages_shown.sql"),
    include_str!("../../../migrations/shard/20261121000006_messages_by_thread.sql"),
);
const COPY: &str = "copy messages (channel_id, seq, kind, sender_id, client_msg_id, ts_ms, \
    ordinal, body) from stdin (format binary)";
const FIELDS: i16 = 8;
/// What the body of a message begins with; the text and [`BODY_END`] follow.
const BODY: &[u8] = br#"{"type":"message","channel":"C000000001","message_id":"0190b3a0-0000-7000-8000-000000000001","user":"U000000001","ts_ms":1763000000000,"text":""#;
const BODY_END: &[u8] = br#""}"#;
/// Of a binary COPY: the signature, no flags, no extension.
const HEAD: &[u8] = b"PGCOPY\n\xFF\r\n\0\0\0\0\0\0\0\0\0";

/// What is copied.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plan {
    /// Rows of a round.
    pub(super) rows: u64,
    /// Rows of a transaction.
    pub(super) batch: u64,
    /// Channels, dealt round robin.
    pub(super) channels: u64,
    /// Bytes of text of a message.
    pub(super) payload: usize,
    /// Without the unique key on message ids, which finds duplicates.
    pub(super) one_key: bool,
}

#[derive(Serialize)]
struct Done {
    event: &'static str,
    rows: u64,
    commits: u64,
    wall_ns: u64,
    user_ns: u64,
    system_ns: u64,
}

/// At each `go`: copies the rows into a table like the store's, a commit a batch. The table is
/// made before, and dropped and made anew after.
pub(super) fn run(url: &str, plan: Plan) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start a runtime")?;
    runtime.block_on(Box::pin(rounds(url, plan)))
}

async fn rounds(url: &str, plan: Plan) -> anyhow::Result<()> {
    let mut connection = PgConnection::connect(url)
        .await
        .context("connect to Postgres")?;
    let schema = format!("floor_{}", std::process::id());
    let mut next = 1;
    make_table(&mut connection, &schema, plan).await?;
    while tokio::task::spawn_blocking(wait_for_go)
        .await
        .context("wait for go")??
    {
        let (began, cpu) = (now_ns(), CpuTime::now());
        let (mut left, mut commits, mut bytes) = (plan.rows, 0, Vec::new());
        while left > 0 {
            let rows = left.min(plan.batch);
            left -= rows;
            bytes.clear();
            bytes.extend_from_slice(HEAD);
            for seq in next..next + rows {
                row(seq, plan, &mut bytes);
            }
            next += rows;
            bytes.extend_from_slice(&(-1_i16).to_be_bytes());
            let mut copy = connection.copy_in_raw(COPY).await.context("begin a COPY")?;
            copy.send(bytes.as_slice()).await.context("copy")?;
            let copied = copy.finish().await.context("end a COPY")?;
            ensure!(copied == rows, "{copied} rows of {rows} were copied");
            commits += 1;
        }
        let used = CpuTime::now() - cpu;
        print(&Done {
            event: "done",
            rows: plan.rows,
            commits,
            wall_ns: now_ns() - began,
            user_ns: used.user_ns,
            system_ns: used.system_ns,
        })?;
        make_table(&mut connection, &schema, plan).await?;
    }
    drop_table(&mut connection, &schema).await?;
    connection.close().await.context("close the connection")
}

async fn drop_table(connection: &mut PgConnection, schema: &str) -> anyhow::Result<()> {
    let drop = format!("drop schema if exists {schema} cascade");
    connection
        .execute(sqlx::AssertSqlSafe(drop))
        .await
        .context("drop the table")?;
    Ok(())
}

/// An empty table; what an earlier round left in memory is written out before the next one counts.
async fn make_table(connection: &mut PgConnection, schema: &str, plan: Plan) -> anyhow::Result<()> {
    drop_table(connection, schema).await?;
    let make = format!("create schema {schema}; set search_path to {schema}; {TABLE}");
    connection
        .execute(sqlx::AssertSqlSafe(make))
        .await
        .context("make the table")?;
    if plan.one_key {
        let key = "messages_channel_id_sender_id_client_msg_id_key";
        let drop = format!("alter table messages drop constraint {key}");
        connection
            .execute(sqlx::AssertSqlSafe(drop))
            .await
            .context("drop a key")?;
    }
    Ok(())
}

fn row(seq: u64, plan: Plan, out: &mut Vec<u8>) {
    let channel = 1 + seq % plan.channels;
    let sender = 1_u64;
    out.extend_from_slice(&FIELDS.to_be_bytes());
    put(&channel.to_be_bytes(), out);
    put(&seq.to_be_bytes(), out);
    put(&1_i16.to_be_bytes(), out);
    put(&sender.to_be_bytes(), out);
    // Random ids in an index cost more than ascending ones; those of clients are random.
    put(&scattered(seq), out);
    put(&1_763_000_000_000_u64.to_be_bytes(), out);
    put(&(seq / plan.channels).to_be_bytes(), out);
    let length = BODY.len() + plan.payload + BODY_END.len();
    out.extend_from_slice(
        &i32::try_from(length)
            .expect("a body is short")
            .to_be_bytes(),
    );
    out.extend_from_slice(BODY);
    out.resize(out.len() + plan.payload, b'x');
    out.extend_from_slice(BODY_END);
}

/// Appends a field.
fn put(bytes: &[u8], out: &mut Vec<u8>) {
    let length = i32::try_from(bytes.len()).expect("a field is short");
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(bytes);
}

/// Sixteen bytes that are different for every number and in no order (SplitMix64).
fn scattered(number: u64) -> [u8; 16] {
    let mix = |seed: u64| {
        let mut z = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    };
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&mix(number).to_be_bytes());
    bytes[8..].copy_from_slice(&mix(!number).to_be_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn rows_are_whole_and_ids_differ() {
        let plan = Plan {
            rows: 1,
            batch: 1,
            channels: 3,
            payload: 200,
            one_key: false,
        };
        let mut out = Vec::new();
        row(7, plan, &mut out);
        let (fields, mut rest) = out.split_at(2);
        assert_eq!(fields, FIELDS.to_be_bytes());
        let mut lengths = Vec::new();
        while let Some((length, more)) = rest.split_first_chunk::<4>() {
            let length = i32::from_be_bytes(*length) as usize;
            lengths.push(length);
            rest = &more[length..];
        }
        assert_eq!(lengths, [8, 8, 2, 8, 16, 8, 8, BODY.len() + 202]);
        let ids: HashSet<[u8; 16]> = (0..10_000).map(scattered).collect();
        assert_eq!(ids.len(), 10_000);
    }
}
