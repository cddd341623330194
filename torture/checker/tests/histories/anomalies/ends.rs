//! Anomalies of the end of a run, and of removals.

use hubbub_checker::{
    Event,
    history::{Change, Phase},
};
use hubbub_protocol::Seq;

use super::made::{Made, is_given, received, stream_of};
use crate::names;

pub(super) fn unseen_at_the_end(made: &mut Made) -> Option<()> {
    let (device, channel, rows) = made.owed()?;
    let last = rows.last()?.clone();
    made.remove(|e| {
        stream_of(e) == Some((&device, channel))
            && match e {
                Event::Synced { seq, .. } => *seq >= last.seq,
                _ => received(e).is_some_and(|r| r.id == last.id),
            }
    });
    Some(())
}

pub(super) fn seen_late(made: &mut Made) -> Option<()> {
    let (device, channel, rows) = made.owed()?;
    let last = rows.last()?.id;
    let quiet = made.phase(Phase::Quiet);
    let place = made.pick(|e| {
        is_given(e)
            && stream_of(e) == Some((&device, channel))
            && received(e).is_some_and(|r| r.id == last)
    })?;
    let given = made.entries.remove(place).event;
    made.at(quiet + 2_500_000, given);
    Some(())
}

pub(super) fn not_synced_at_the_end(made: &mut Made) -> Option<()> {
    let (device, channel, rows) = made.owed()?;
    let last = rows.last()?.seq;
    made.remove(|e| {
        stream_of(e) == Some((&device, channel))
            && matches!(e, Event::Synced { seq, .. } if *seq >= last)
    });
    Some(())
}

/// The last connection before the end joins nothing.
pub(super) fn not_joined_again(made: &mut Made) -> Option<()> {
    let (device, ..) = made.owed()?;
    let quiet = made.phase(Phase::Quiet);
    let of = |e: &Event| matches!(e, Event::Opened { device: of, .. } if *of == device);
    let mut opened = made.places(of);
    opened.retain(|place| made.entries[*place].at_us < quiet);
    let opened = made.entries[*opened.last()?].event.clone();
    let Event::Opened {
        device,
        user,
        connection,
        pod,
    } = opened
    else {
        return None;
    };
    let closed = Event::Closed {
        device: device.clone(),
        connection,
        code: None,
    };
    made.at(quiet + 1_000_000, closed);
    made.at(
        quiet + 1_100_000,
        Event::Opened {
            device,
            user,
            connection: connection + 1,
            pod,
        },
    );
    Some(())
}

pub(super) fn needed_the_sweep(made: &mut Made) -> Option<()> {
    let quiet = made.phase(Phase::Quiet);
    let mut samples = made.places(|e| {
        matches!(e, Event::Gauge { name, process, .. }
            if name.contains("repaired_by_sweep") && process == "edge-1")
    });
    samples.retain(|place| made.entries[*place].at_us <= quiet);
    if let Event::Gauge { value, .. } = made.event(*samples.last()?) {
        *value = 50.0;
    }
    Some(())
}

/// The removal of the user who is added again, and when it was answered.
fn removal(made: &Made) -> Option<(u64, u64)> {
    let removed = names::user(crate::world::READERS + 1);
    let mut asked = None;
    let mut answered = None;
    for entry in &made.entries {
        match entry.event {
            Event::MembershipAsked {
                op, user, change, ..
            } if user == removed => match change {
                Change::Remove => asked = Some(op),
                Change::Add => return Some((answered?, entry.at_us)),
            },
            Event::MembershipAnswered { op, .. } if Some(op) == asked => {
                answered = Some(entry.at_us);
            }
            _ => {}
        }
    }
    None
}

pub(super) fn new_enemy(made: &mut Made) -> Option<()> {
    let (from, to) = removal(made)?;
    let channel = names::channel(0);
    let mut secrets = Vec::new();
    for entry in &made.entries {
        if let Event::Invoke { record, .. } = &entry.event
            && record.channel == channel
            && from < entry.at_us
        {
            secrets.push(record.id);
        }
    }
    let mut seen =
        made.places(|e| matches!(e, Event::Wire { record, .. } if secrets.contains(&record.id)));
    seen.retain(|place| made.entries[*place].at_us < to);
    let place = made.any(seen)?;
    let mut leak = made.event(place).clone();
    if let Event::Wire {
        device, connection, ..
    } = &mut leak
    {
        "reader-1.1".clone_into(device);
        *connection = 1;
    }
    made.behind(place, leak);
    Some(())
}

pub(super) fn frame_after_a_removal(made: &mut Made) -> Option<()> {
    let (from, to) = removal(made)?;
    assert!(from + 600_000 < to, "the removal lasts");
    made.at(
        from + 600_000,
        Event::Synced {
            device: "reader-1.0".to_owned(),
            connection: 1,
            channel: names::channel(0),
            seq: Seq(0),
        },
    );
    Some(())
}
