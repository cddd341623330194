use super::*;
use crate::recorder::said as record;
use hubbub_checker::history::{Paging, Via};
use hubbub_protocol::{ChannelLetter, UserId};
use uuid::Uuid;

const SECOND: u64 = 1_000_000;

fn channel() -> ChannelId {
    ChannelId::new(ChannelLetter::Channel, 1).unwrap()
}

fn id(n: u64) -> MessageId {
    MessageId(Uuid::from_u64_pair(0, n))
}

fn message(n: u64, seq: Option<u64>) -> Record {
    let user = UserId::new(1).unwrap();
    record(channel(), seq.map(Seq), user, id(n), "text")
}

fn opened(device: &str, connection: u64) -> Event {
    Event::Opened {
        device: device.to_owned(),
        user: UserId::new(2).unwrap(),
        connection,
        pod: String::new(),
    }
}

fn closed(device: &str, connection: u64) -> Event {
    Event::Closed {
        device: device.to_owned(),
        connection,
        code: None,
    }
}

fn joined(device: &str, connection: u64, since: Option<u64>) -> Event {
    Event::Joined {
        device: device.to_owned(),
        connection,
        channel: channel(),
        since: since.map(Seq),
        head: None,
        recovered: since.is_some(),
        ordered: false,
    }
}

fn given(device: &str, n: u64, seq: Option<u64>) -> Event {
    Event::Given {
        device: device.to_owned(),
        record: message(n, seq),
        via: Via::Live,
    }
}

/// A device `a` that joins at once, a message a second from the first on, each acknowledged
/// in a millisecond, and what else happens.
fn history(messages: u64, rest: Vec<(u64, Event)>) -> Vec<Entry> {
    let mut all = vec![(1, opened("a", 1)), (2, joined("a", 1, None))];
    for n in 1..=messages {
        let invoke = Event::Invoke {
            op: n,
            record: message(n, None),
            answers: None,
            retry: false,
        };
        all.push((n * SECOND, invoke));
        all.push((n * SECOND + 1_000, Event::Ok { op: n, seq: None }));
    }
    all.extend(rest);
    all.push(((messages + 20) * SECOND, Event::Phase(Phase::Final)));
    all.sort_by_key(|(at, _)| *at);
    let entries = all.into_iter();
    entries
        .map(|(at_us, event)| Entry { at_us, event })
        .collect()
}

fn shown(at: u64, n: u64) -> (u64, Event) {
    (at, given("a", n, None))
}

#[test]
fn nothing_is_held_against_a_good_run() {
    let rest = (1..=5).map(|n| shown(n * SECOND + 3_000, n)).collect();
    let (figures, verdict) = read(&history(5, rest), |_| true);
    assert!(verdict.holds(), "{}", verdict.sentence());
    assert_eq!((figures.sent, figures.acked, figures.owed), (5, 5, 5));
    assert_eq!(figures.lost() + figures.doubled + figures.out_of_order, 0);
    assert_eq!(figures.latency_ms(500), Some(3));
    assert_eq!(figures.acked_not_stored, None);
    assert!(figures.lost_by_fault.is_empty());
}

#[test]
fn a_loss_is_counted_once_and_laid_to_the_last_fault() {
    let fault = |number, kind| {
        Event::FaultStarted(hubbub_checker::Fault {
            number,
            kind,
            target: String::new(),
            start_ms: 0,
            lasts_ms: 0,
            hypothesis: String::new(),
        })
    };
    let mut rest = vec![
        (SECOND / 2, fault(1, FaultKind::RedisKill)),
        (SECOND * 5 / 2, fault(2, FaultKind::EdgeKill)),
    ];
    rest.extend([1, 2, 4].map(|n| shown(n * SECOND + 3_000, n)));
    let (figures, _) = read(&history(4, rest), |_| true);
    assert_eq!((figures.lost_unnoticed, figures.lost_while_away), (1, 0));
    let laid = BTreeMap::from([("server killed".to_owned(), 1)]);
    assert_eq!(figures.lost_by_fault, laid);
}

#[test]
fn what_a_reconnect_loses_is_no_loss_of_a_connection_that_stayed() {
    let mut rest = vec![
        (SECOND * 5 / 2, closed("a", 1)),
        (SECOND * 7 / 2, opened("a", 2)),
        (SECOND * 7 / 2 + 1, joined("a", 2, None)),
    ];
    rest.extend([1, 2, 4, 5].map(|n| shown(n * SECOND + 3_000, n)));
    let (figures, verdict) = read(&history(5, rest), |_| true);
    assert_eq!((figures.lost_unnoticed, figures.lost_while_away), (0, 1));
    assert_eq!((figures.recovered, figures.unrecovered), (0, 1));
    assert!(verdict.holds());
    // Both ways of counting agree.
    assert_eq!(figures.lost_by_fault.values().sum::<u64>(), figures.lost());
}

#[test]
fn a_recovery_that_lies_is_a_loss() {
    let mut rest = vec![
        (SECOND * 5 / 2, closed("a", 1)),
        (SECOND * 7 / 2, opened("a", 2)),
        (SECOND * 7 / 2 + 1, joined("a", 2, Some(0))),
    ];
    rest.extend([1, 2, 4, 5].map(|n| shown(n * SECOND + 3_000, n)));
    let (figures, _) = read(&history(5, rest), |_| true);
    assert_eq!((figures.lost_unnoticed, figures.lost_while_away), (1, 0));
    assert_eq!((figures.recovered, figures.unrecovered), (1, 0));
}

#[test]
fn doubles_and_disorder_are_counted_and_a_sorted_view_has_neither_disorder() {
    let rest = vec![
        (2 * SECOND + 2_000, given("a", 2, Some(2))),
        (2 * SECOND + 3_000, given("a", 1, Some(1))),
        (3 * SECOND + 2_000, given("a", 3, Some(3))),
        (3 * SECOND + 4_000, given("a", 3, Some(3))),
    ];
    let (figures, _) = read(&history(3, rest), |_| true);
    assert_eq!((figures.doubled, figures.out_of_order), (1, 1));
    assert_eq!(figures.out_of_order_by_seq, Some(0));
    assert_eq!(figures.latencies_us, [2_000, 2_000, 1_003_000]);
}

#[test]
fn the_store_is_asked_where_there_is_one() {
    let page = Event::Page {
        server: "api-1".to_owned(),
        channel: channel(),
        paging: Paging::Forward,
        limit: 200,
        every: false,
        entries: vec![(Seq(1), id(1))],
    };
    let mut rest = vec![(30 * SECOND, page)];
    rest.extend([1, 2].map(|n| shown(n * SECOND + 3_000, n)));
    let (figures, _) = read(&history(3, rest), |_| true);
    assert_eq!(figures.acked_not_stored, Some(2));
    assert_eq!(figures.shown_not_stored, Some(1));
}

#[test]
fn devices_can_be_looked_at_apart() {
    let mut rest = vec![(3, opened("b", 1)), (4, joined("b", 1, None))];
    rest.extend((1..=3).map(|n| shown(n * SECOND + 3_000, n)));
    let history = history(3, rest);
    assert_eq!(read(&history, |_| true).0.lost(), 3);
    assert_eq!(read(&history, |device| device == "a").0.lost(), 0);
    assert_eq!(read(&history, |device| device == "b").0.owed, 3);
}
