//! A4, inconsistent read: history is the store's rows, ascending, on every server, in both
//! directions and for every size of pages; and each row's seq is the place in the log of the
//! first record with its id.
//!
//! Asked for every kind, the API hides no row; otherwise it shows messages and memberships. A page
//! is held against all rows of its channel that it has to show.

use crate::{
    Assertion,
    findings::Findings,
    index::{Index, Page, Row},
};

const A4: Assertion = Assertion::A4;

pub(super) fn check(index: &Index, findings: &mut Findings) {
    for page in &index.pages {
        ascending(index, page, findings);
        equal(index, page, findings);
        findings.checked(A4, page.entries.len() as u64);
    }
    if !index.log.is_empty() {
        for row in &index.rows {
            placed(index, row, findings);
        }
        findings.checked(A4, index.rows.len() as u64);
    }
}

fn ascending(index: &Index, page: &Page, findings: &mut Findings) {
    let fell = page.entries.windows(2).find(|pair| pair[0].0 >= pair[1].0);
    if let Some(pair) = fell {
        findings.broken(A4, "history not ascending", Some(page.at), || {
            format!(
                "{}: seq {} is followed by {}",
                named(index, page),
                pair[0].0,
                pair[1].0
            )
        });
    }
}

/// Names the first place where the two differ: what follows it differs for the same reason.
fn equal(index: &Index, page: &Page, findings: &mut Findings) {
    let shown = |row: &&Row| page.every || index.message(row.message).kind.is_shown();
    let mut entries = page.entries.iter();
    for row in index.rows_of(page.channel).iter().filter(shown) {
        let id = index.id(row.message);
        let entry = entries.next();
        if entry.is_some_and(|(seq, of)| seq.0 == row.seq && *of == id) {
            continue;
        }
        findings.broken(A4, "history unlike the store", Some(page.at), || {
            let found = entry.map_or("nothing".to_owned(), |(seq, id)| format!("{id} at {seq}"));
            format!(
                "{}: the store has {id} at {}, the page has {found}",
                named(index, page),
                row.seq
            )
        });
        return;
    }
    if let Some((seq, id)) = entries.next() {
        findings.broken(A4, "history unlike the store", Some(page.at), || {
            let page = named(index, page);
            format!("{page}: it ends with {id} at {seq}, which the store has not")
        });
    }
}

fn named(index: &Index, page: &Page) -> String {
    format!(
        "history of {} from {} {:?} by {}",
        index.channel_name(page.channel),
        page.server,
        page.paging,
        page.limit
    )
}

fn placed(index: &Index, row: &Row, findings: &mut Findings) {
    let Some((partition, offset)) = index.message(row.message).logged else {
        findings.broken(A4, "row without a record", Some(row.at), || {
            let (name, seq) = (index.named(row.message), row.seq);
            format!("{name} has a row with seq {seq} and no record in the log")
        });
        return;
    };
    let seq = index.seq_at(offset);
    if row.seq != seq || row.partition != partition {
        findings.broken(A4, "seq not the place in the log", Some(row.at), || {
            format!(
                "{} has a row with seq {} of partition {}; its first record is at offset {offset} \
                 of partition {partition}, which is seq {seq}",
                index.named(row.message),
                row.seq,
                row.partition
            )
        });
    }
}
