//! Anomalies of what is done to messages, of direct channels, and of marks.

use hubbub_checker::{
    Event,
    history::{Delivery, Kind, State},
};
use hubbub_protocol::{MessageId, Seq};

use super::{
    deliveries,
    made::{Made, is_given, is_wire, received},
};
use crate::names;

impl Made {
    /// The state of one of the messages that are shown so.
    fn shown(&mut self, is: impl Fn(&State) -> bool) -> Option<&mut State> {
        let place = self.pick(|e| matches!(e, Event::Shown { state, .. } if is(state)))?;
        match self.event(place) {
            Event::Shown { state, .. } => Some(state),
            other => panic!("nothing that is shown: {other:?}"),
        }
    }

    /// The row of one of the records of a kind.
    fn row_of_kind(&mut self, is: impl Fn(Kind) -> bool) -> Option<usize> {
        self.pick(|e| matches!(e, Event::Row { record, .. } if is(record.kind)))
    }

    /// What was sent under an id.
    fn sum_sent(&self, id: MessageId) -> Option<u32> {
        self.entries.iter().find_map(|entry| match &entry.event {
            Event::Invoke { record, .. } if record.id == id => Some(record.sum),
            _ => None,
        })
    }
}

fn versions(state: &State) -> usize {
    state.versions.as_ref().map_or(0, Vec::len)
}

pub(super) fn edit_not_shown(made: &mut Made) -> Option<()> {
    let state = made.shown(|state| versions(state) > 0)?;
    let (_, sum) = state.versions.as_mut()?.remove(0);
    state.sum = sum;
    state.edited = None;
    Some(())
}

/// Of two edits the one with the lower seq.
pub(super) fn earlier_edit_stands(made: &mut Made) -> Option<()> {
    let state = made.shown(|state| versions(state) > 1)?;
    let (seq, sum) = state.versions.as_mut()?.pop()?;
    state.sum = sum;
    state.edited.as_mut()?.0 = seq;
    Some(())
}

pub(super) fn version_missing(made: &mut Made) -> Option<()> {
    let state = made.shown(|state| versions(state) > 0)?;
    state.versions.as_mut()?.pop();
    Some(())
}

pub(super) fn deleted_text_shown(made: &mut Made) -> Option<()> {
    made.shown(|state| state.deleted)?.sum = 7;
    Some(())
}

pub(super) fn deleted_version_shown(made: &mut Made) -> Option<()> {
    let state = made.shown(|state| state.deleted && state.versions.is_some())?;
    state.versions = Some(vec![(Seq(1_001), 7)]);
    Some(())
}

pub(super) fn deletion_not_shown(made: &mut Made) -> Option<()> {
    made.shown(|state| state.deleted)?.deleted = false;
    Some(())
}

pub(super) fn deleted_text_in_the_store(made: &mut Made) -> Option<()> {
    put_back(made, |kind| kind.is_message())
}

/// That of an edit whose message was deleted.
pub(super) fn void_text_in_the_store(made: &mut Made) -> Option<()> {
    put_back(made, |kind| matches!(kind, Kind::Edit(_)))
}

/// Gives the row of a text that was taken away its first text again.
fn put_back(made: &mut Made, is: impl Fn(Kind) -> bool) -> Option<()> {
    let place = made
        .pick(|e| matches!(e, Event::Row { record, .. } if is(record.kind) && record.sum == 0))?;
    let id = match &made.entries[place].event {
        Event::Row { record, .. } => record.id,
        _ => return None,
    };
    let sum = made.sum_sent(id)?;
    if let Event::Row { record, .. } = made.event(place) {
        record.sum = sum;
    }
    Some(())
}

pub(super) fn reaction_lost(made: &mut Made) -> Option<()> {
    let state = made.shown(|state| !state.reactions.is_empty())?;
    state.reactions.pop();
    Some(())
}

pub(super) fn reaction_doubled(made: &mut Made) -> Option<()> {
    let state = made.shown(|state| !state.reactions.is_empty())?;
    let user = *state.reactions[0].1.first()?;
    state.reactions[0].1.push(user);
    Some(())
}

pub(super) fn reply_not_counted(made: &mut Made) -> Option<()> {
    let state = made.shown(|state| state.thread.is_some())?;
    state.thread.as_mut()?.count -= 1;
    Some(())
}

/// An edit that was shown by all is another user's.
pub(super) fn changed_by_another(made: &mut Made) -> Option<()> {
    let place = made.row_of_kind(|kind| matches!(kind, Kind::Edit(_)))?;
    let id = match &made.entries[place].event {
        Event::Row { record, .. } => record.id,
        _ => return None,
    };
    for entry in &mut made.entries {
        match &mut entry.event {
            Event::Invoke { record, .. }
            | Event::Wire { record, .. }
            | Event::Given { record, .. }
            | Event::Moved { record, .. }
            | Event::Row { record, .. }
            | Event::Log {
                record: Some(record),
                ..
            } if record.id == id => record.user = names::user(77),
            _ => {}
        }
    }
    Some(())
}

/// The entries in which a device had a message before an edit or a deletion of it was sent, as
/// that leaves it.
fn before(made: &Made, is: impl Fn(Kind) -> Option<Seq>) -> Vec<(usize, u32)> {
    let mut sent = Vec::new();
    for entry in &made.entries {
        if let Event::Invoke { record, .. } = &entry.event
            && let Some(target) = is(record.kind)
        {
            sent.push((entry.at_us, record.channel, target, record.sum));
        }
    }
    let mut found = Vec::new();
    for place in made.places(|e| is_wire(e) || is_given(e)) {
        let entry = &made.entries[place];
        let Some(record) = received(&entry.event).filter(|record| record.kind.is_message()) else {
            continue;
        };
        let later = sent.iter().find(|(at, channel, target, _)| {
            *at > entry.at_us && *channel == record.channel && *target == record.seq
        });
        if let Some((.., sum)) = later
            && *sum != record.sum
        {
            found.push((place, *sum));
        }
    }
    found
}

pub(super) fn text_before_its_edit(made: &mut Made) -> Option<()> {
    let found = before(made, |kind| match kind {
        Kind::Edit(target) => Some(target),
        _ => None,
    });
    show(made, found)
}

pub(super) fn deleted_before_its_deletion(made: &mut Made) -> Option<()> {
    let found = before(made, |kind| match kind {
        Kind::Delete(target) => Some(target),
        _ => None,
    });
    show(made, found)
}

fn show(made: &mut Made, found: Vec<(usize, u32)>) -> Option<()> {
    let (place, sum) = made.any(found)?;
    if let Event::Wire { record, .. } | Event::Given { record, .. } = made.event(place) {
        record.sum = sum;
    }
    Some(())
}

pub(super) fn another_target_on_the_wire(made: &mut Made) -> Option<()> {
    let place = made.pick(
        |e| matches!(e, Event::Wire { record, .. } if matches!(record.kind, Kind::Edit(_))),
    )?;
    if let Event::Wire { record, .. } = made.event(place) {
        record.kind = Kind::Edit(Seq(1));
    }
    Some(())
}

pub(super) fn lost_edit(made: &mut Made) -> Option<()> {
    let acks = made.acks();
    let place = made.pick(|e| {
        matches!(e, Event::Row { record, .. }
            if matches!(record.kind, Kind::Edit(_)) && acks.contains_key(&record.id))
    })?;
    made.entries.remove(place);
    Some(())
}

/// A page of every kind lacks an edit.
pub(super) fn page_of_every_kind_hides_one(made: &mut Made) -> Option<()> {
    let rows = made.rows();
    let edits: Vec<MessageId> = rows
        .iter()
        .filter(|row| matches!(row.kind, Kind::Edit(_)))
        .map(|row| row.id)
        .collect();
    let place = made.pick(|e| {
        matches!(e, Event::Page { every: true, entries, .. }
            if entries.iter().any(|(_, id)| edits.contains(id)))
    })?;
    if let Event::Page { entries, .. } = made.event(place) {
        let at = entries.iter().position(|(_, id)| edits.contains(id))?;
        entries.remove(at);
    }
    Some(())
}

/// A change is handed on before the message that it is about, although that came live.
pub(super) fn change_before_its_message(made: &mut Made) -> Option<()> {
    let rows = made.rows();
    let target = |kind: Kind, channel| {
        let about = kind.about().filter(|_| !kind.is_message())?;
        let of =
            |row: &&hubbub_checker::history::Record| row.seq == about && row.channel == channel;
        rows.iter().find(of).map(|row| row.id)
    };
    let mut answers = std::collections::HashMap::new();
    for entry in &made.entries {
        if let Event::Invoke { record, .. } = &entry.event
            && let Some(about) = target(record.kind, record.channel)
        {
            answers.insert(record.id, about);
        }
    }
    deliveries::hand_on_early(made, &answers)
}

pub(super) fn two_direct_channels(made: &mut Made) -> Option<()> {
    let place = *made.places(|e| matches!(e, Event::Direct { .. })).last()?;
    if let Event::Direct { channel, .. } = made.event(place) {
        *channel = names::channel(9);
    }
    Some(())
}

pub(super) fn one_channel_for_two_pairs(made: &mut Made) -> Option<()> {
    let place = *made.places(|e| matches!(e, Event::Direct { .. })).last()?;
    let mut other = made.event(place).clone();
    if let Event::Direct { with, .. } = &mut other {
        *with = names::user(crate::world::READERS + 2);
    }
    made.behind(place, other);
    Some(())
}

/// A device of the third reader is sent what one of the pair has.
pub(super) fn stranger_in_a_direct_channel(made: &mut Made) -> Option<()> {
    let direct = names::channel(crate::world::CHANNELS - 1);
    let place = made.pick(|e| matches!(e, Event::Synced { channel, .. } if *channel == direct))?;
    let mut leak = made.event(place).clone();
    if let Event::Synced {
        device, connection, ..
    } = &mut leak
    {
        "reader-2.0".clone_into(device);
        *connection = 1;
    }
    made.behind(place, leak);
    Some(())
}

pub(super) fn receipt_beyond_the_marks(made: &mut Made) -> Option<()> {
    let place = *made.places(|e| matches!(e, Event::Status { .. })).last()?;
    if let Event::Status { read, .. } = made.event(place) {
        read.0 += 1_000;
    }
    Some(())
}

pub(super) fn receipt_before_its_mark(made: &mut Made) -> Option<()> {
    let places = made.places(|e| matches!(e, Event::Status { .. }));
    let mut early = None;
    for place in places {
        let entry = &made.entries[place];
        let Event::Status { delivered, .. } = entry.event else {
            continue;
        };
        // The first that says so much.
        let mark = made.entries[..place].iter().position(|e| {
            matches!(&e.event, Event::MarkAsked { cursor, .. } if cursor.delivered >= delivered)
        });
        early = mark.map(|mark| (place, mark));
    }
    let (place, mark) = early?;
    let status = made.entries.remove(place).event;
    let at_us = made.entries[mark].at_us - 1;
    made.at(at_us, status);
    Some(())
}

pub(super) fn read_goes_back(made: &mut Made) -> Option<()> {
    let place = made.pick(|e| matches!(e, Event::Status { read, .. } if read.0 > 0))?;
    let mut back = made.event(place).clone();
    if let Event::Status { read, .. } = &mut back {
        read.0 = 0;
    }
    made.behind(place, back);
    Some(())
}

pub(super) fn told_goes_back(made: &mut Made) -> Option<()> {
    let place = made.pick(
        |e| matches!(e, Event::Told { devices, .. } if devices[0].1 == Delivery::Delivered),
    )?;
    let mut back = made.event(place).clone();
    if let Event::Told { devices, .. } = &mut back {
        devices[0].1 = Delivery::Sent;
    }
    made.behind(place, back);
    Some(())
}

pub(super) fn told_too_much(made: &mut Made) -> Option<()> {
    let places = made.places(|e| matches!(e, Event::Told { .. }));
    // The last one was not read when it was asked for.
    if let Event::Told { devices, .. } = made.event(*places.last()?) {
        devices[0].1 = Delivery::Read;
    }
    Some(())
}

fn end(made: &mut Made, which: usize) -> Option<&mut hubbub_checker::history::Cursor> {
    let place = *made
        .places(|e| matches!(e, Event::Cursors { .. }))
        .get(which)?;
    match made.event(place) {
        Event::Cursors { cursors, .. } => cursors.first_mut(),
        _ => None,
    }
}

pub(super) fn end_beyond_the_marks(made: &mut Made) -> Option<()> {
    end(made, 0)?.delivered.0 += 1;
    Some(())
}

pub(super) fn mark_lost(made: &mut Made) -> Option<()> {
    for which in 0..2 {
        let end = end(made, which)?;
        end.read = Seq::ZERO;
    }
    Some(())
}

pub(super) fn mark_lost_on_one_server(made: &mut Made) -> Option<()> {
    let place = *made
        .places(|e| matches!(e, Event::Cursors { .. }))
        .first()?;
    if let Event::Cursors { cursors, .. } = made.event(place) {
        cursors.clear();
    }
    Some(())
}
