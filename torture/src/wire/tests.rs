//! From literal frames to events.

use super::*;

const HELLO: &str = r#"{"type":"hello","connection_id":"1","pod":"edge-2","region":"home","user":"U000000003","device":"d","heartbeat_ms":2000,"max_frame_bytes":65536}"#;
const ID: &str = "00000000-0000-0000-0000-000000000007";

struct Tape {
    log: WireLog,
    op: u64,
}

impl Tape {
    fn new() -> Self {
        let user = UserId::new(3).expect("from 1");
        Self {
            log: WireLog::new("reader-1.0".to_owned(), user),
            op: 0,
        }
    }

    fn on(&mut self, connection: u64, event: WireEvent<'_>) -> Vec<Event> {
        let mut events = Vec::new();
        let op = &mut self.op;
        let mut next_op = || {
            *op += 1;
            *op
        };
        self.log
            .on(connection, event, &mut next_op, &mut |e| events.push(e));
        events
    }

    fn open(&mut self, connection: u64) -> Vec<Event> {
        assert_eq!(self.on(connection, WireEvent::Opened), []);
        self.on(connection, WireEvent::In(HELLO))
    }

    fn input(&mut self, text: &str) -> Vec<Event> {
        self.on(1, WireEvent::In(text))
    }

    fn output(&mut self, text: &str) -> Vec<Event> {
        self.on(1, WireEvent::Out(text))
    }
}

fn channel() -> ChannelId {
    "C000000005".parse().expect("an id")
}

fn message(seq: u64) -> String {
    format!(
        r#"{{"seq":{seq},"type":"message","channel":"C000000005","message_id":"{ID}","user":"U000000001","text":"123456789","ts_ms":1}}"#
    )
}

#[test]
fn a_join_is_asked_answered_and_followed_by_its_frames() {
    let mut tape = Tape::new();
    let device = "reader-1.0".to_owned();
    assert_eq!(
        tape.open(1),
        [Event::Opened {
            device: device.clone(),
            user: UserId::new(3).expect("from 1"),
            connection: 1,
            pod: "edge-2".to_owned(),
        }]
    );
    let asked =
        tape.output(r#"{"id":1,"type":"join","channel":"C000000005","since":4,"ordered":true}"#);
    assert_eq!(
        asked,
        [Event::JoinAsked {
            device: device.clone(),
            connection: 1,
            channel: channel(),
            since: Some(Seq(4)),
            ordered: true,
        }]
    );
    let joined =
        tape.input(r#"{"reply_to":1,"ok":true,"channel":"C000000005","head":9,"recovered":true}"#);
    assert_eq!(
        joined,
        [Event::Joined {
            device: device.clone(),
            connection: 1,
            channel: channel(),
            since: Some(Seq(4)),
            head: Some(Seq(9)),
            recovered: true,
            ordered: true,
        }]
    );
    let replay = tape.input(r#"{"type":"replay","channel":"C000000005","since":4}"#);
    assert!(matches!(replay[..], [Event::Replay { since: Seq(4), .. }]));
    let wire = tape.input(&message(6));
    assert_eq!(
        wire,
        [Event::Wire {
            device,
            connection: 1,
            record: Record {
                channel: channel(),
                seq: Seq(6),
                user: UserId::new(1).expect("from 1"),
                id: ID.parse().expect("an id"),
                sum: 0xcbf4_3926,
                kind: Kind::Message,
            },
        }]
    );
    let synced = tape.input(r#"{"type":"synced","channel":"C000000005","seq":9}"#);
    assert!(matches!(synced[..], [Event::Synced { seq: Seq(9), .. }]));
    let left = tape.input(r#"{"type":"left","channel":"C000000005"}"#);
    assert!(matches!(left[..], [Event::Left { evicted: true, .. }]));
    let left = tape.log.leave(channel());
    assert!(matches!(left, Event::Left { evicted: false, .. }));
    assert_eq!(
        tape.output(r#"{"id":2,"type":"leave","channel":"C000000005"}"#),
        []
    );
    assert_eq!(tape.log.gone(channel()), None);
    // By itself, when a join failed for good.
    assert!(tape.log.gone(channel()).is_some());
}

#[test]
fn a_join_that_crosses_a_leave_is_left_once_more() {
    let mut tape = Tape::new();
    tape.open(1);
    let _left = tape.log.leave(channel());
    tape.output(r#"{"id":1,"type":"join","channel":"C000000005","since":4}"#);
    assert!(tape.log.gone(channel()).is_some());
}

#[test]
fn a_refused_join_leaves_no_trace_but_the_question() {
    let mut tape = Tape::new();
    tape.open(1);
    tape.output(r#"{"id":1,"type":"join","channel":"C000000005"}"#);
    let refused = tape.input(
        r#"{"reply_to":1,"ok":false,"error":{"code":"not_found","message":"no","retryable":false}}"#,
    );
    assert_eq!(refused, []);
}

#[test]
fn membership_records_are_of_the_other_kind() {
    let mut tape = Tape::new();
    tape.open(1);
    let events = tape.input(&format!(
        r#"{{"seq":3,"type":"member_left","channel":"C000000005","message_id":"{ID}","user":"U000000001","member":"U000000002","ts_ms":1}}"#
    ));
    let [Event::Wire { record, .. }] = &events[..] else {
        panic!("{events:?}");
    };
    assert_eq!((record.kind, record.sum), (Kind::Other, 0));
}

#[test]
fn each_attempt_has_its_answer_or_none_is_known() {
    let mut tape = Tape::new();
    tape.open(1);
    let frame = |id: i64, retry: &str| {
        format!(
            r#"{{"id":{id},"type":"message","channel":"C000000005","text":"8 352441c2 re:{ID} abc","client_msg_id":"{ID}"{retry}}}"#
        )
    };
    let invoked = tape.output(&frame(1, ""));
    let [
        Event::Invoke {
            op: 1,
            record,
            answers,
            retry: false,
        },
    ] = &invoked[..]
    else {
        panic!("{invoked:?}");
    };
    assert_eq!((record.seq, record.user.number()), (Seq::ZERO, 3));
    assert_eq!(*answers, Some(ID.parse().expect("an id")));
    tape.output(&frame(2, r#","retry":true"#));
    tape.output(&frame(3, ""));
    tape.output(&frame(4, ""));
    tape.output(&frame(5, ""));
    let ok = |id: u64, seq: &str| {
        format!(
            r#"{{"reply_to":{id},"ok":true,"channel":"C000000005","message_id":"{ID}","seq":{seq},"ts_ms":5,"fence":6}}"#
        )
    };
    // In whatever order they come.
    assert_eq!(tape.input(&ok(2, "null")), [Event::Ok { op: 2, seq: None }]);
    assert_eq!(
        tape.input(&ok(1, "6")),
        [Event::Ok {
            op: 1,
            seq: Some(Seq(6))
        }]
    );
    let error = |id: u64, outcome: &str| {
        format!(
            r#"{{"reply_to":{id},"ok":false,"error":{{"code":"overloaded","message":"m","retryable":true{outcome}}}}}"#
        )
    };
    let code = "overloaded".to_owned();
    assert_eq!(
        tape.input(&error(3, r#","outcome":"rejected""#)),
        [Event::Rejected {
            op: 3,
            code: code.clone()
        }]
    );
    assert_eq!(tape.input(&error(4, "")), [Event::Unknown { op: 4, code }]);
    let closed = tape.on(1, WireEvent::Closed(Some(1012)));
    assert_eq!(
        closed,
        [
            Event::Unknown {
                op: 5,
                code: "connection_lost".to_owned()
            },
            Event::Closed {
                device: "reader-1.0".to_owned(),
                connection: 1,
                code: Some(1012)
            }
        ]
    );
}

#[test]
fn connections_go_on_counting_with_another_client() {
    let mut tape = Tape::new();
    tape.open(1);
    tape.on(1, WireEvent::Closed(None));
    tape.open(2);
    tape.on(2, WireEvent::Closed(None));
    tape.log.another_client();
    let events = tape.open(1);
    assert!(
        matches!(events[..], [Event::Opened { connection: 3, .. }]),
        "{events:?}"
    );
}

#[test]
fn changes_are_attempts_of_their_kind() {
    let mut tape = Tape::new();
    tape.open(1);
    let frame = |id: u64, rest: &str| {
        format!(r#"{{"id":{id},"channel":"C000000005","client_msg_id":"{ID}",{rest}}}"#)
    };
    for (id, rest, kind, sum) in [
        (
            1,
            r#""type":"edit","target":7,"text":"123456789","retry":true"#,
            Kind::Edit(Seq(7)),
            0xcbf4_3926,
        ),
        (2, r#""type":"delete","target":7"#, Kind::Delete(Seq(7)), 0),
        (
            3,
            r#""type":"reaction","target":7,"reaction":"123456789""#,
            Kind::React(Seq(7)),
            0xcbf4_3926,
        ),
        (
            4,
            r#""type":"reaction","target":7,"reaction":"123456789","remove":true"#,
            Kind::Unreact(Seq(7)),
            0xcbf4_3926,
        ),
        (
            5,
            r#""type":"message","thread":7,"text":"123456789""#,
            Kind::Reply(Seq(7)),
            0xcbf4_3926,
        ),
    ] {
        let events = tape.output(&frame(id, rest));
        let [
            Event::Invoke {
                op,
                record,
                answers: None,
                retry,
            },
        ] = &events[..]
        else {
            panic!("{events:?}");
        };
        assert_eq!((*op, *retry), (id, id == 1));
        assert_eq!((record.kind, record.sum), (kind, sum));
    }
    let ok = format!(
        r#"{{"reply_to":2,"ok":true,"channel":"C000000005","message_id":"{ID}","seq":9,"ts_ms":5}}"#
    );
    let seq = Some(Seq(9));
    assert_eq!(tape.input(&ok), [Event::Ok { op: 2, seq }]);
}

#[test]
fn what_is_sent_and_what_comes_of_it_have_one_sum() {
    let mut tape = Tape::new();
    tape.open(1);
    let common = format!(
        r#""channel":"C000000005","message_id":"{ID}","user":"U000000001","target":7,"ts_ms":1"#
    );
    for (rest, kind, sum) in [
        (
            r#""type":"message_changed","text":"123456789""#,
            Kind::Edit(Seq(7)),
            0xcbf4_3926,
        ),
        (
            r#""type":"message_changed","text":"""#,
            Kind::Edit(Seq(7)),
            0,
        ),
        (r#""type":"message_deleted""#, Kind::Delete(Seq(7)), 0),
        (
            r#""type":"reaction_added","reaction":"123456789""#,
            Kind::React(Seq(7)),
            0xcbf4_3926,
        ),
        (
            r#""type":"reaction_removed","reaction":"123456789""#,
            Kind::Unreact(Seq(7)),
            0xcbf4_3926,
        ),
    ] {
        let events = tape.input(&format!(r#"{{"seq":9,{rest},{common}}}"#));
        let [Event::Wire { record, .. }] = &events[..] else {
            panic!("{events:?}");
        };
        assert_eq!((record.kind, record.sum), (kind, sum));
    }
}

#[test]
fn a_direct_channel_is_joined_once_by_the_server_and_then_by_the_client() {
    let joined = r#"{"type":"joined","channel":"D000000007","head":12,"with":"U000000002"}"#;
    let mut tape = Tape::new();
    tape.open(1);
    let events = tape.input(joined);
    assert!(
        matches!(
            events[..],
            [
                Event::Direct { .. },
                Event::Joined {
                    since: None,
                    head: Some(Seq(12)),
                    recovered: true,
                    ..
                }
            ]
        ),
        "{events:?}"
    );
    tape.on(1, WireEvent::Closed(None));
    // From now on its client asks by itself.
    tape.open(2);
    assert!(matches!(tape.input(joined)[..], [Event::Direct { .. }]));
    tape.log.another_client();
    assert_eq!(tape.input(joined).len(), 2, "it knows nothing");
}

#[test]
fn marks_of_direct_channels_are_asked_and_answered() {
    let mut tape = Tape::new();
    tape.open(1);
    let asked =
        tape.output(r#"{"id":1,"type":"mark","channel":"D000000007","delivered":9,"read":4}"#);
    let expected = Event::MarkAsked {
        op: 1,
        channel: "D000000007".parse().expect("an id"),
        cursor: Cursor {
            of: "reader-1.0".to_owned(),
            delivered: Seq(9),
            read: Seq(4),
        },
        waits: false,
    };
    assert_eq!(asked, [expected]);
    let other = r#"{"id":2,"type":"mark","channel":"C000000005","delivered":9}"#;
    assert_eq!(tape.output(other), []);
    let answered = tape.input(r#"{"reply_to":1,"ok":true,"channel":"D000000007"}"#);
    assert_eq!(answered, [Event::MarkAnswered { op: 1 }]);
    assert_eq!(
        tape.input(r#"{"reply_to":2,"ok":true,"channel":"C000000005"}"#),
        []
    );
}
