//! What can be said of a history only when all of it was read.

use std::{collections::HashMap, mem};

use super::{
    Index,
    facts::{NONE, Row},
    fold::Fold,
};

/// Sorts the final reads, and tells where in the log the stored messages and their copies are.
pub(super) fn finish(mut index: Index) -> Index {
    index.rows.sort_by_key(|row| (row.channel, row.seq));
    index.row_starts = starts(&index.rows, index.channels.len());
    index.log.sort_by_key(|r| (r.partition, r.offset));
    mark_dead(&mut index);
    for record in index.log.iter().filter(|r| r.message != NONE && !r.dead) {
        let logged = &mut index.messages[record.message as usize].logged;
        if logged.is_none() {
            *logged = Some((record.partition, record.offset));
        }
    }
    index.base = most_common_base(&index);
    let mut shadows = mem::take(&mut index.shadows);
    for record in index.log.iter().filter(|r| r.message != NONE && !r.dead) {
        let (kept, seq) = (
            index.message(record.message).kept,
            index.seq_at(record.offset),
        );
        if kept != 0 && seq > kept {
            shadows.insert((record.message, seq));
        }
    }
    index.shadows = shadows;
    answers(&mut index);
    index.fold = Fold::of(&index);
    let mut corrupt = mem::take(&mut index.corrupt);
    corrupt.retain(|it| !index.fold.explains(&index, it));
    index.corrupt = corrupt;
    index
}

/// What is about a message answers it: nobody is to have it before that one.
fn answers(index: &mut Index) {
    for number in 0..index.messages.len() {
        let it = &index.messages[number];
        if it.answers == NONE
            && let Some(about) = it.kind.about()
            && let Some(answered) = index.row_at(it.channel, about.0).map(|row| row.message)
        {
            index.messages[number].answers = answered;
        }
    }
}

fn starts(rows: &[Row], channels: usize) -> Vec<usize> {
    let mut starts = vec![0; channels + 1];
    for row in rows {
        starts[row.channel as usize + 1] += 1;
    }
    for i in 0..channels {
        starts[i + 1] += starts[i];
    }
    starts
}

fn mark_dead(index: &mut Index) {
    index.dead.sort_unstable();
    let dead = &index.dead;
    for record in &mut index.log {
        let place = (record.partition, record.offset);
        record.dead = dead
            .binary_search_by(|(partition, offset, _)| (*partition, *offset).cmp(&place))
            .is_ok();
    }
}

/// One base holds for the whole run; a row that has another one is a finding, so the base is what
/// most rows say.
fn most_common_base(index: &Index) -> i64 {
    let mut votes: HashMap<i64, u64> = HashMap::new();
    for row in index.rows.iter() {
        let message = index.message(row.message);
        if let (Some((_, offset)), Ok(seq)) = (message.logged, i64::try_from(row.seq)) {
            *votes.entry(seq - offset - 1).or_default() += 1;
        }
    }
    let most = votes
        .into_iter()
        .max_by_key(|(base, votes)| (*votes, -base));
    most.map_or(0, |(base, _)| base)
}
