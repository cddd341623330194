//! Anomalies of what a device has over time.

use std::collections::HashMap;

use hubbub_checker::{Event, FaultKind};
use hubbub_protocol::{MessageId, Seq};

use super::made::{Made, is_given, is_wire, received, stream_of};

/// Ordered joins are those of the devices with an even number.
fn is_ordered(device: &str) -> bool {
    device.ends_with(".0")
}

pub(super) fn skipped(made: &mut Made) -> Option<()> {
    let (device, channel, rows) = made.owed()?;
    let id = made.any(rows)?.id;
    made.remove(|e| {
        !is_wire(e)
            && stream_of(e) == Some((&device, channel))
            && received(e).is_some_and(|r| r.id == id)
    });
    Some(())
}

pub(super) fn ordered_swap(made: &mut Made) -> Option<()> {
    let mut pairs = Vec::new();
    let mut last: HashMap<_, usize> = HashMap::new();
    for (place, entry) in made.entries.iter().enumerate() {
        let Some((device, channel)) = stream_of(&entry.event) else {
            continue;
        };
        if !is_ordered(device) || is_given(&entry.event) {
            continue;
        }
        if is_wire(&entry.event) {
            if let Some(before) = last.insert((device, channel), place) {
                pairs.push((before, place));
            }
        } else {
            last.remove(&(device, channel));
        }
    }
    let (one, two) = made.any(pairs)?;
    let first = made.event(one).clone();
    let second = std::mem::replace(made.event(two), first);
    *made.event(one) = second;
    Some(())
}

pub(super) fn shadow_on_an_ordered_join(made: &mut Made) -> Option<()> {
    let shadows = made.shadows();
    let mut found = Vec::new();
    for place in made.places(is_wire) {
        let event = &made.entries[place].event;
        let ordered = stream_of(event).is_some_and(|(device, _)| is_ordered(device));
        let id = received(event)?.id;
        if let Some(shadow) = shadows.iter().find(|s| ordered && s.id == id) {
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

/// A reply is handed on before what it answers, although that came live.
pub(super) fn early_reply(made: &mut Made) -> Option<()> {
    let mut answers: HashMap<MessageId, MessageId> = HashMap::new();
    for entry in &made.entries {
        if let Event::Invoke {
            record,
            answers: Some(answered),
            ..
        } = &entry.event
        {
            answers.insert(record.id, *answered);
        }
    }
    hand_on_early(made, &answers)
}

/// One of these is handed on before what it answers, although that came live.
pub(super) fn hand_on_early(
    made: &mut Made,
    answers: &HashMap<MessageId, MessageId>,
) -> Option<()> {
    let (acks, rows) = (made.acks(), made.rows());
    let mut first: HashMap<MessageId, u64> = HashMap::new();
    let mut stored: HashMap<MessageId, u64> = HashMap::new();
    for entry in &made.entries {
        if let Event::Wire { record, device, .. } = &entry.event {
            first.entry(record.id).or_insert(entry.at_us);
            if is_ordered(device) {
                stored.entry(record.id).or_insert(entry.at_us);
            }
        }
    }
    let mut found = Vec::new();
    for later in made.places(is_given) {
        let event = &made.entries[later].event;
        let Some(answered) = answers.get(&received(event)?.id) else {
            continue;
        };
        let stream = stream_of(event);
        let is = |i: &usize| {
            let event = &made.entries[*i].event;
            stream_of(event) == stream && received(event).is_some_and(|r| r.id == *answered)
        };
        let given = (0..later)
            .rev()
            .find(|i| is(i) && is_given(&made.entries[*i].event));
        let wire = (0..later)
            .rev()
            .find(|i| is(i) && is_wire(&made.entries[*i].event));
        let (Some(given), Some(wire)) = (given, wire) else {
            continue;
        };
        let came = received(&made.entries[wire].event)?;
        if rows
            .iter()
            .all(|row| row.id != came.id || row.seq != came.seq)
        {
            continue; // a shadow
        }
        let at = made.entries[wire].at_us;
        if stored
            .get(answered)
            .is_some_and(|stored| at + 5_000 >= *stored)
        {
            continue; // live ones come before that
        }
        let reference = first[answered].min(acks.get(answered).copied().unwrap_or(u64::MAX));
        let joined_since = made.entries[wire..later]
            .iter()
            .any(|e| stream_of(&e.event) == stream && matches!(e.event, Event::Joined { .. }));
        let repaired = made.entries[wire..]
            .iter()
            .take_while(|e| e.at_us <= at + 10_000)
            .any(|e| stream_of(&e.event) == stream && matches!(e.event, Event::Synced { .. }));
        let joined = made
            .join_before(given)
            .is_some_and(|j| made.knows_its_point(j));
        let again = (0..made.entries.len())
            .filter(|i| is(i) && is_given(&made.entries[*i].event))
            .count();
        if joined && again == 1 && !joined_since && !repaired && at < reference + 50_000 {
            found.push((given, later));
        }
    }
    let (given, later) = made.any(found)?;
    let mut reply = made.entries.remove(later);
    reply.at_us = made.entries[given].at_us;
    made.entries.insert(given, reply);
    Some(())
}

/// Whether the device goes away so soon that its client need not have handed on what came here.
fn leaves_after(made: &Made, place: usize) -> bool {
    let stream = stream_of(&made.entries[place].event);
    let device = stream.map(|(device, _)| device);
    let soon = made.entries[place].at_us + 600_000;
    let rest = made.entries[place..].iter();
    rest.take_while(|e| e.at_us <= soon)
        .any(|e| match &e.event {
            Event::Left { .. } => stream_of(&e.event) == stream,
            Event::Closed { device: of, .. } => of == "reader-2.1" && device == Some(of),
            _ => false,
        })
}

/// The row came and the client did not say that the record has moved there.
pub(super) fn not_moved(made: &mut Made) -> Option<()> {
    let mut moved = made.places(|e| matches!(e, Event::Moved { .. }));
    moved.retain(|place| {
        let join = made.join_before(*place);
        join.is_some_and(|join| made.knows_its_point(join)) && !leaves_after(made, *place)
    });
    let place = made.any(moved)?;
    made.entries.remove(place);
    Some(())
}

/// A row is missing on the wire; the client has it all the same.
pub(super) fn synced_without_a_row(made: &mut Made) -> Option<()> {
    let (device, channel, rows) = made.owed()?;
    let id = made.any(rows)?.id;
    made.remove(|e| {
        is_wire(e)
            && stream_of(e) == Some((&device, channel))
            && received(e).is_some_and(|r| r.id == id)
    });
    Some(())
}

/// A `synced` names a row that comes only later.
pub(super) fn synced_too_far(made: &mut Made) -> Option<()> {
    let mut found = Vec::new();
    for place in made.places(|e| matches!(e, Event::Synced { .. })) {
        let Event::Synced {
            device,
            channel,
            seq,
            ..
        } = &made.entries[place].event
        else {
            continue;
        };
        let next = made.rows_of(*channel).into_iter().find(|r| r.seq > *seq);
        let join = made.join_before(place);
        if let (Some(next), Some(join)) = (next, join)
            && is_ordered(device)
            && made.knows_its_point(join)
        {
            found.push((place, next.seq));
        }
    }
    let (place, too_far) = made.any(found)?;
    if let Event::Synced { seq, .. } = made.event(place) {
        *seq = too_far;
    }
    Some(())
}

/// The server has its store and says that it cannot go on.
pub(super) fn lying_recovery(made: &mut Made) -> Option<()> {
    let (mut from, mut to) = (u64::MAX, 0);
    let mut number = 0;
    for entry in &made.entries {
        match &entry.event {
            Event::FaultStarted(fault) if fault.kind == FaultKind::ShardLock => {
                from = entry.at_us;
                number = fault.number;
            }
            Event::FaultEnded { number: of } if *of == number => to = entry.at_us + 5_000_000,
            _ => {}
        }
    }
    let mut joins = made.places(|e| {
        let since = |since: &Option<Seq>| since.is_some();
        matches!(e, Event::Joined { since: s, recovered: true, .. } if since(s))
    });
    joins.retain(|place| !(from..=to).contains(&made.entries[*place].at_us));
    let place = made.any(joins)?;
    if let Event::Joined { recovered, .. } = made.event(place) {
        *recovered = false;
    }
    Some(())
}
