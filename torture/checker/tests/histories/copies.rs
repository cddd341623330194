//! Copies of a message that the store keeps once.

use hubbub_checker::{Assertion, Entry, Event, Verdict, check, history::Kind};
use hubbub_protocol::Seq;

use crate::{names, shown};

const DEVICE: &str = "reader-0.0";

/// A device that has 1 joins with the head at 9 and reads two pages, each with a `synced` behind
/// it; then the row comes, and a copy of it with seq 12 after that.
fn copy_after_the_row(row: u64) -> Verdict {
    let channel = names::channel(0);
    let said = names::Message {
        channel: 0,
        user: 0,
        kind: Kind::Message,
    };
    let device = || DEVICE.to_owned();
    let wire = |number, seq| Event::Wire {
        device: device(),
        connection: 1,
        record: names::record(number, &said, seq),
    };
    let synced = |seq| Event::Synced {
        device: device(),
        connection: 1,
        channel,
        seq: Seq(seq),
    };
    let events = [
        Event::Joined {
            device: device(),
            connection: 1,
            channel,
            since: Some(Seq(1)),
            head: Some(Seq(9)),
            recovered: true,
            ordered: false,
        },
        wire(1, 5),
        synced(5),
        wire(2, row),
        synced(row.max(9)),
        wire(2, 12),
        Event::Row {
            partition: 0,
            record: names::record(1, &said, 5),
        },
        Event::Row {
            partition: 0,
            record: names::record(2, &said, row),
        },
    ];
    let entries = events.into_iter().zip(1..);
    check(entries.map(|(event, second)| Entry {
        at_us: second * 1_000_000,
        event,
    }))
}

#[test]
fn feed_that_began_behind_a_row_cannot_know_a_copy_of_it() {
    let verdict = copy_after_the_row(8);
    assert!(
        !verdict.broken.contains_key(&Assertion::A3),
        "{}",
        shown(&verdict)
    );
}

#[test]
fn feed_knows_a_copy_of_what_came_after_it_began() {
    let verdict = copy_after_the_row(10);
    assert_eq!(
        verdict.broken.get(&Assertion::A3),
        Some(&1),
        "{}",
        shown(&verdict)
    );
}
