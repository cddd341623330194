//! What the records of a batch do to earlier rows: loads those rows, folds the batch over them and
//! writes them back, within the consumer's transaction.

use std::collections::{BTreeMap, BTreeSet};

use hubbub_protocol::{Seq, limits};
use sqlx::PgConnection;

use crate::{
    Effect,
    batch::Numbered,
    fold::{Fold, OldText, Place, Step},
    write::Contradiction,
};

/// Applies the rows of a batch, which have been inserted, to the rows that they are about; gives
/// how many had no effect. Costs nothing at all unless there is a reply, an edit, a deletion or a
/// reaction among them. The position's row lock keeps every other writer of these rows out.
pub(crate) async fn apply(conn: &mut PgConnection, rows: &[Numbered<'_>]) -> sqlx::Result<u64> {
    let steps: Vec<Step<'_>> = rows
        .iter()
        .filter(|n| n.row.effect != Effect::None)
        .map(|n| Step {
            place: (n.row.channel.shard_key(), n.row.seq),
            user: n.row.key.user,
            ts_ms: n.row.ts_ms,
            effect: &n.row.effect,
            body: &n.row.body,
        })
        .collect();
    if steps.is_empty() {
        return Ok(0);
    }
    let mut fold = Fold::new(limits::EDITS_PER_MESSAGE);
    let on = |step: &Step<'_>| Some((step.place.0, step.effect.on()?));
    let targets: BTreeSet<Place> = steps.iter().filter_map(on).collect();
    know(conn, &mut fold, targets).await?;
    let roots = fold.missing_roots(&steps);
    know(conn, &mut fold, roots).await?;
    for step in steps {
        fold.step(step);
    }
    let deleted: Vec<Place> = fold.deleted().collect();
    if !deleted.is_empty() {
        let versions = delete_versions(conn, &deleted).await?;
        let edits = fold.unknown_edits(&versions);
        know(conn, &mut fold, edits).await?;
    }
    let folded = fold.finish().map_err(unreadable)?;
    write_bodies(conn, &folded.bodies).await?;
    insert_versions(conn, &folded.old_texts).await?;
    Ok(folded.without_effect)
}

/// Every body was written by this crate's own transaction, so one that cannot be read is no
/// record's fault.
fn unreadable(error: serde_json::Error) -> sqlx::Error {
    let error = Contradiction(format!("a stored body cannot be read: {error}"));
    sqlx::Error::Decode(error.into())
}

fn columns(places: impl IntoIterator<Item = Place>) -> (Vec<i64>, Vec<i64>) {
    places
        .into_iter()
        .map(|(channel, seq)| (channel, seq.to_db()))
        .unzip()
}

/// Loads the messages (kind 1) and edits (kind 3) among these rows.
async fn know(
    conn: &mut PgConnection,
    fold: &mut Fold,
    places: impl IntoIterator<Item = Place>,
) -> sqlx::Result<()> {
    let (channels, seqs) = columns(places);
    if channels.is_empty() {
        return Ok(());
    }
    // The limit keeps the planner to one walk down the primary key for each place.
    let rows = sqlx::query!(
        r#"select a.channel_id as "channel_id!", a.seq as "seq!", m.body as "body!"
           from unnest($1::bigint[], $2::bigint[]) as a (channel_id, seq)
           cross join lateral (
               select body from messages
               where channel_id = a.channel_id and seq = a.seq and kind in (1, 3)
               limit 1
           ) m"#,
        &channels,
        &seqs
    )
    .fetch_all(conn)
    .await?;
    for row in rows {
        let place = (row.channel_id, Seq::from_db(row.seq));
        fold.know(place, &row.body).map_err(unreadable)?;
    }
    Ok(())
}

async fn write_bodies(
    conn: &mut PgConnection,
    bodies: &BTreeMap<Place, String>,
) -> sqlx::Result<()> {
    if bodies.is_empty() {
        return Ok(());
    }
    let (channels, seqs) = columns(bodies.keys().copied());
    let texts: Vec<&str> = bodies.values().map(String::as_str).collect();
    let written = sqlx::query!(
        "update messages m set body = r.body
         from unnest($1::bigint[], $2::bigint[], $3::text[]) as r (channel_id, seq, body)
         where m.channel_id = r.channel_id and m.seq = r.seq",
        &channels,
        &seqs,
        &texts as &[&str]
    )
    .execute(conn)
    .await?
    .rows_affected();
    if written == bodies.len() as u64 {
        Ok(())
    } else {
        let error = format!("{written} of {} loaded rows are still there", bodies.len());
        Err(sqlx::Error::Decode(Contradiction(error).into()))
    }
}

async fn insert_versions(conn: &mut PgConnection, old: &[OldText]) -> sqlx::Result<()> {
    if old.is_empty() {
        return Ok(());
    }
    let (channels, targets) = columns(old.iter().map(|old| old.target));
    let seqs: Vec<i64> = old.iter().map(|old| old.seq.to_db()).collect();
    let users: Vec<i64> = old.iter().map(|old| old.user.number()).collect();
    let times: Vec<i64> = old.iter().map(|old| old.ts_ms).collect();
    let texts: Vec<&str> = old.iter().map(|old| old.text.as_str()).collect();
    sqlx::query!(
        "insert into message_versions (channel_id, target_seq, seq, user_id, ts_ms, text)
         select * from unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[],
                              $5::bigint[], $6::text[])",
        &channels,
        &targets,
        &seqs,
        &users,
        &times,
        &texts as &[&str]
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Takes the versions of deleted messages away; gives what they were.
async fn delete_versions(
    conn: &mut PgConnection,
    deleted: &[Place],
) -> sqlx::Result<Vec<(Place, Seq)>> {
    let (channels, targets) = columns(deleted.iter().copied());
    let rows = sqlx::query!(
        "delete from message_versions v
         using unnest($1::bigint[], $2::bigint[]) as d (channel_id, target_seq)
         where v.channel_id = d.channel_id and v.target_seq = d.target_seq
         returning v.channel_id, v.target_seq, v.seq",
        &channels,
        &targets
    )
    .fetch_all(conn)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| {
            let target = (row.channel_id, Seq::from_db(row.target_seq));
            (target, Seq::from_db(row.seq))
        })
        .collect())
}
