//! What a device may mark that was not given to it.

use hubbub_checker::{
    Assertion, Entry, Event, check,
    history::{Cursor, Kind},
};
use hubbub_protocol::Seq;

use crate::{names, shown};

const DEVICE: &str = "reader-0.0";
const OTHER: &str = "writer-0.0";

/// A device that came to 3 joins again from there, with or without what it missed, is told that
/// everything through 5 was sent, and marks that; the message with seq 5 was never given to it.
fn rejoined(recovered: bool) -> Vec<Entry> {
    let channel = names::channel(0);
    let said = names::Message {
        channel: 0,
        user: 0,
        kind: Kind::Message,
    };
    let joined = |connection, since: Option<u64>, head: Option<u64>, recovered| Event::Joined {
        device: DEVICE.to_owned(),
        connection,
        channel,
        since: since.map(Seq),
        head: head.map(Seq),
        recovered,
        ordered: false,
    };
    let replay = |since| Event::Replay {
        device: DEVICE.to_owned(),
        connection: 2,
        channel,
        since: Seq(since),
    };
    let events = [
        joined(1, None, Some(3), false),
        joined(2, Some(3), None, recovered),
        replay(0),
        replay(5),
        Event::Synced {
            device: DEVICE.to_owned(),
            connection: 2,
            channel,
            seq: Seq(5),
        },
        Event::MarkAsked {
            op: 1,
            channel,
            cursor: Cursor {
                of: DEVICE.to_owned(),
                delivered: Seq(5),
                read: Seq(0),
            },
            waits: false,
        },
        Event::Status {
            device: OTHER.to_owned(),
            channel,
            of: DEVICE.to_owned(),
            delivered: Seq(5),
            read: Seq(0),
        },
        Event::Row {
            partition: 0,
            record: names::record(0, &said, 5),
        },
    ];
    let entries = events.into_iter().zip(1..);
    entries
        .map(|(event, second)| Entry {
            at_us: second * 1_000_000,
            event,
        })
        .collect()
}

#[test]
fn who_could_not_go_on_reads_what_it_missed_from_history() {
    let verdict = check(rejoined(false));
    assert!(
        !verdict.broken.contains_key(&Assertion::A12),
        "{}",
        shown(&verdict)
    );
}

#[test]
fn who_went_on_has_everything_that_it_marks() {
    let verdict = check(rejoined(true));
    assert_eq!(
        verdict.broken.get(&Assertion::A12),
        Some(&1),
        "{}",
        shown(&verdict)
    );
}
