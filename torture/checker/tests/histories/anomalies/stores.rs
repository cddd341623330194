//! Anomalies of the log, the store and history.

use hubbub_checker::{
    Event,
    history::{Kind, Record},
};
use hubbub_protocol::{ChannelId, Seq};

use super::made::Made;
use crate::names;

const FAR: u64 = 5_000_000;

fn is_row_of(event: &Event, row: &Record) -> bool {
    matches!(event, Event::Row { record, .. } if record == row)
}

impl Made {
    fn message_row(&mut self) -> Option<Record> {
        let mut rows = self.rows();
        rows.retain(|row| row.kind == Kind::Message);
        self.any(rows)
    }

    /// The place of a page of at least so many rows.
    fn page(&mut self, rows: usize) -> Option<usize> {
        self.pick(|e| matches!(e, Event::Page { entries, .. } if entries.len() >= rows))
    }
}

fn entries_of(event: &mut Event) -> &mut Vec<(Seq, hubbub_protocol::MessageId)> {
    match event {
        Event::Page { entries, .. } => entries,
        other => panic!("no page: {other:?}"),
    }
}

pub(super) fn lost_write(made: &mut Made) -> Option<()> {
    let acks = made.acks();
    let mut rows = made.rows();
    rows.retain(|row| acks.contains_key(&row.id));
    let row = made.any(rows)?;
    made.remove(|e| is_row_of(e, &row));
    Some(())
}

pub(super) fn phantom_row(made: &mut Made) -> Option<()> {
    let row = made.message_row()?;
    let place = made.pick(|e| is_row_of(e, &row))?;
    let Event::Row { partition, .. } = *made.event(place) else {
        return None;
    };
    let record = Record {
        id: names::id(9_999),
        seq: Seq(row.seq.0 + FAR),
        ..row
    };
    made.behind(place, Event::Row { partition, record });
    Some(())
}

pub(super) fn aborted_read(made: &mut Made) -> Option<()> {
    let once = made.sent_once();
    let mut rows = made.rows();
    rows.retain(|row| once.contains_key(&row.id));
    let op = once[&made.any(rows)?.id];
    let place = made.pick(|e| matches!(e, Event::Ok { op: of, .. } if *of == op))?;
    *made.event(place) = Event::Rejected {
        op,
        code: "overloaded".to_owned(),
    };
    Some(())
}

pub(super) fn corrupt_in_the_store(made: &mut Made) -> Option<()> {
    let row = made.message_row()?;
    let place = made.pick(|e| is_row_of(e, &row))?;
    if let Event::Row { record, .. } = made.event(place) {
        record.sum ^= 1;
    }
    Some(())
}

pub(super) fn id_with_two_rows(made: &mut Made) -> Option<()> {
    let row = made.message_row()?;
    let place = made.pick(|e| is_row_of(e, &row))?;
    let mut second = made.event(place).clone();
    if let Event::Row { record, .. } = &mut second {
        record.seq.0 += FAR;
    }
    made.behind(place, second);
    Some(())
}

pub(super) fn seq_with_two_rows(made: &mut Made) -> Option<()> {
    let row = made.message_row()?;
    let place = made.pick(|e| is_row_of(e, &row))?;
    let mut second = made.event(place).clone();
    if let Event::Row { record, .. } = &mut second {
        record.id = names::id(9_999);
    }
    made.behind(place, second);
    Some(())
}

pub(super) fn page_gap(made: &mut Made) -> Option<()> {
    let place = made.page(3)?;
    let entries = entries_of(made.event(place));
    let middle = entries.len() / 2;
    entries.remove(middle);
    Some(())
}

pub(super) fn page_double(made: &mut Made) -> Option<()> {
    let place = made.page(1)?;
    let entries = entries_of(made.event(place));
    entries.insert(0, entries[0]);
    Some(())
}

pub(super) fn page_swap(made: &mut Made) -> Option<()> {
    let place = made.page(2)?;
    entries_of(made.event(place)).swap(0, 1);
    Some(())
}

pub(super) fn page_too_short(made: &mut Made) -> Option<()> {
    let place = made.page(1)?;
    entries_of(made.event(place)).pop();
    Some(())
}

pub(super) fn seq_is_not_the_place(made: &mut Made) -> Option<()> {
    let shadows = made.shadows();
    let readable = made.places(|e| {
        matches!(e, Event::Log { partition: 0, record: Some(r), .. }
            if shadows.iter().all(|s| s.id != r.id))
    });
    let [first, .., last] = readable[..] else {
        return None;
    };
    let taken = |event: &mut Event| match event {
        Event::Log { record, .. } => record.take(),
        _ => None,
    };
    let (one, two) = (taken(made.event(first)), taken(made.event(last)));
    for (place, other) in [(first, two), (last, one)] {
        if let Event::Log { record, .. } = made.event(place) {
            *record = other;
        }
    }
    Some(())
}

pub(super) fn ack_with_another_seq(made: &mut Made) -> Option<()> {
    let place = made.pick(|e| matches!(e, Event::Ok { seq: Some(_), .. }))?;
    if let Event::Ok { seq: Some(seq), .. } = made.event(place) {
        seq.0 += FAR;
    }
    Some(())
}

/// A message is sent only when one with a higher seq has its `ok`.
pub(super) fn appended_backwards(made: &mut Made) -> Option<()> {
    let once = made.sent_once();
    let acks = made.acks();
    let mut rows = made.rows();
    rows.retain(|row| once.contains_key(&row.id));
    let mut pairs = Vec::new();
    for pair in rows.windows(2) {
        if pair[0].channel == pair[1].channel {
            pairs.push((pair[0].id, pair[1].id));
        }
    }
    let (early, late) = made.any(pairs)?;
    let (op, acked) = (once[&early], acks[&late]);
    for entry in &mut made.entries {
        match entry.event {
            Event::Invoke { op: of, .. } if of == op => entry.at_us = acked + 1,
            Event::Ok { op: of, .. } if of == op => entry.at_us = acked + 2,
            _ => {}
        }
    }
    made.entries.sort_by_key(|entry| entry.at_us);
    Some(())
}

pub(super) fn one_copy_too_many(made: &mut Made) -> Option<()> {
    let place = made.pick(|e| matches!(e, Event::Counts { .. }))?;
    if let Event::Counts { duplicates, .. } = made.event(place) {
        *duplicates += 1;
    }
    Some(())
}

pub(super) fn one_row_too_few(made: &mut Made) -> Option<()> {
    let place = made.pick(|e| matches!(e, Event::Counts { .. }))?;
    if let Event::Counts { rows, .. } = made.event(place) {
        *rows -= 1;
    }
    Some(())
}

pub(super) fn record_without_a_trace(made: &mut Made) -> Option<()> {
    let place = made.pick(|e| matches!(e, Event::Counts { .. }))?;
    let Event::Counts {
        partition,
        next_offset,
        ..
    } = made.event(place)
    else {
        return None;
    };
    let (partition, offset) = (*partition, *next_offset);
    *next_offset += 1;
    let record = Record {
        channel: channel_of(partition),
        seq: Seq(0),
        user: names::user(0),
        id: names::id(9_999),
        sum: 3,
        kind: Kind::Message,
    };
    let record = Some(record);
    made.behind(
        place,
        Event::Log {
            partition,
            offset,
            record,
        },
    );
    Some(())
}

fn channel_of(partition: i32) -> ChannelId {
    names::channel(usize::try_from(partition).expect("from 0"))
}

pub(super) fn acked_and_given_up(made: &mut Made) -> Option<()> {
    let acks = made.acks();
    let place =
        made.pick(|e| matches!(e, Event::Log { record: Some(r), .. } if acks.contains_key(&r.id)))?;
    let Event::Log {
        partition, offset, ..
    } = *made.event(place)
    else {
        return None;
    };
    made.behind(place, Event::Dead { partition, offset });
    Some(())
}
