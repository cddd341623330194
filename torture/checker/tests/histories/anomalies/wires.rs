//! Anomalies of single receipts.

use hubbub_checker::{Event, history::Kind};
use hubbub_protocol::Seq;

use super::made::{Made, is_given, is_wire, received};
use crate::names;

const FAR: u64 = 5_000_000;

fn is_message(event: &Event) -> bool {
    received(event).is_some_and(|record| record.kind == Kind::Message)
}

pub(super) fn phantom_receipt(made: &mut Made) -> Option<()> {
    let place = made.pick(|e| is_given(e) && is_message(e))?;
    let mut phantom = made.event(place).clone();
    if let Event::Given { record, .. } = &mut phantom {
        record.id = names::id(9_999);
    }
    made.behind(place, phantom);
    Some(())
}

pub(super) fn corrupt_on_the_wire(made: &mut Made) -> Option<()> {
    let place = made.pick(|e| is_wire(e) && is_message(e))?;
    if let Event::Wire { record, .. } = made.event(place) {
        record.sum ^= 1;
    }
    Some(())
}

pub(super) fn given_twice(made: &mut Made) -> Option<()> {
    let place = made.pick(is_given)?;
    let again = made.event(place).clone();
    made.behind(place, again);
    Some(())
}

pub(super) fn wired_twice(made: &mut Made) -> Option<()> {
    let place = made.pick(is_wire)?;
    let again = made.event(place).clone();
    made.behind(place, again);
    Some(())
}

/// A resume begins with the record that the cursor stands on.
pub(super) fn replayed_from_too_low(made: &mut Made) -> Option<()> {
    let place = made.pick(
        |e| matches!(e, Event::Joined { since: Some(since), recovered: true, .. } if since.0 > 0),
    )?;
    let Event::Joined {
        device,
        connection,
        channel,
        since: Some(since),
        ..
    } = made.event(place).clone()
    else {
        return None;
    };
    let mut rows = made.rows_of(channel);
    rows.retain(|row| row.seq <= since);
    let record = rows.pop()?;
    made.behind(
        place,
        Event::Wire {
            device,
            connection,
            record,
        },
    );
    Some(())
}

/// The feed has forgotten the id: the later copy is shown live after the row.
pub(super) fn shadow_after_its_row(made: &mut Made) -> Option<()> {
    let shadows = made.shadows();
    let rows = made.rows();
    let came_through_the_feed = |made: &Made, place: usize, seq: Seq| {
        let join = made.join_before(place);
        join.is_some_and(|join| match made.entries[join].event {
            Event::Joined { head, .. } => head.is_none_or(|head| seq > head),
            _ => false,
        })
    };
    let mut found = Vec::new();
    for place in made.places(is_wire) {
        let record = received(&made.entries[place].event)?;
        let shadow = shadows.iter().find(|s| s.id == record.id);
        if let Some(shadow) = shadow
            && rows
                .iter()
                .any(|r| r.id == record.id && r.seq == record.seq)
            && came_through_the_feed(made, place, record.seq)
        {
            found.push((place, shadow.seq));
        }
    }
    let (place, seq) = made.any(found)?;
    let mut copy = made.event(place).clone();
    if let Event::Wire { record, .. } = &mut copy {
        record.seq = seq;
    }
    made.behind(place, copy);
    Some(())
}

pub(super) fn wire_with_another_seq(made: &mut Made) -> Option<()> {
    let place = made.pick(is_wire)?;
    if let Event::Wire { record, .. } = made.event(place) {
        record.seq = Seq(record.seq.0 + FAR);
    }
    Some(())
}
