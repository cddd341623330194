use uuid::Uuid;

use super::*;
use crate::with_seq;

const ENVELOPE: &str = r#""v":1,"channel":"C000000005","user":"U000000001","message_id":"00000000-0000-0000-0000-000000000007""#;

fn channel() -> ChannelId {
    "C000000005".parse().expect("an id")
}

fn user() -> UserId {
    "U000000001".parse().expect("an id")
}

fn id() -> MessageId {
    MessageId(Uuid::from_u128(7))
}

fn sample() -> Record {
    Record::message(channel(), user(), id(), "hi \"there\" \u{1F600}".to_owned())
}

/// One record of every shape, with its payload's own fields and the type of its frame.
fn every_shape() -> Vec<(Record, &'static str, &'static str)> {
    let said = || "hi".to_owned();
    let up = || "+1".to_owned();
    let (added, removed) = (ReactionChange::Added, ReactionChange::Removed);
    vec![
        (
            Record::message(channel(), user(), id(), said()),
            r#""kind":"message",ENVELOPE,"text":"hi""#,
            "message",
        ),
        (
            Record::reply(channel(), user(), id(), said(), Some(Seq(3))),
            r#""kind":"message",ENVELOPE,"text":"hi","thread":3"#,
            "message",
        ),
        (
            Record::imported(channel(), user(), id(), said(), None, 1_400_000_000_123),
            r#""kind":"message",ENVELOPE,"text":"hi","posted_ms":1400000000123"#,
            "message",
        ),
        (
            Record::membership(channel(), user(), id(), Change::Left, user()),
            r#""kind":"membership",ENVELOPE,"change":"left","member":"U000000001""#,
            "member_left",
        ),
        (
            Record::edit(channel(), user(), id(), Seq(3), said(), false),
            r#""kind":"edit",ENVELOPE,"target":3,"text":"hi""#,
            "message_changed",
        ),
        (
            Record::delete(channel(), user(), id(), Seq(3), true),
            r#""kind":"delete",ENVELOPE,"target":3,"as_admin":true"#,
            "message_deleted",
        ),
        (
            Record::reaction(channel(), user(), id(), Seq(3), up(), added),
            r#""kind":"reaction",ENVELOPE,"target":3,"reaction":"+1","change":"added""#,
            "reaction_added",
        ),
        (
            Record::reaction(channel(), user(), id(), Seq(3), up(), removed),
            r#""kind":"reaction",ENVELOPE,"target":3,"reaction":"+1","change":"removed""#,
            "reaction_removed",
        ),
        (
            Record::identity(channel(), user(), id(), 4),
            r#""kind":"identity",ENVELOPE,"version":4"#,
            "identity_change",
        ),
    ]
}

#[test]
fn every_record_survives_the_log_and_becomes_its_frame() {
    for (record, fields, kind) in every_shape() {
        let payload = format!("{{{}}}", fields.replace("ENVELOPE", ENVELOPE));
        assert_eq!(
            String::from_utf8(record.encode()).expect("JSON is UTF-8"),
            payload
        );
        assert_eq!(Record::decode(payload.as_bytes()).expect(&payload), record);
        let (target, key) = (record.target(), record.message_id());
        let body = record.body(99);
        let frame = with_seq(Seq(12), &body.encode());
        let published = crate::ChannelEvent::encode_record(Seq(12), &body);
        assert_eq!(published, frame.as_bytes());
        let start = format!(r#"{{"seq":12,"type":"{kind}","channel":"C000000005""#);
        assert!(frame.starts_with(&start), "{frame}");
        assert_eq!(body.target(), target);
        assert_eq!((body.key().message_id, body.ts_ms()), (key, 99));
        let read = crate::ServerFrame::decode(&frame).expect("a frame");
        assert_eq!(read, crate::ServerFrame::Record { seq: Seq(12), body });
    }
}

#[test]
fn record_survives_the_log_and_becomes_a_frame() {
    let record = Record::decode(&sample().encode()).expect("decodes");
    assert_eq!(record, sample());
    let body = record.body(99).encode();
    let frame = with_seq(Seq(12), &body);
    assert!(frame.starts_with("{\"seq\":12,\"type\":\"message\",\"channel\":\"C000000005\""));
    let back: Body = serde_json::from_str(&frame).expect("a frame is a body with a seq");
    assert_eq!(back.encode(), body);
}

#[test]
fn kinds_survive_their_column() {
    for kind in RecordKind::ALL {
        assert_eq!(RecordKind::from_db(kind.to_db()), Some(kind));
    }
    assert_eq!(RecordKind::from_db(0), None);
    assert_eq!(RecordKind::from_db(7), None);
}

#[test]
fn what_can_never_be_stored_is_named() {
    let with_envelope = [
        r#"{"kind":"message"}"#,
        r#"{"kind":"message",ENVELOPE,"text":"\u0000"}"#,
        r#"{"kind":"message",ENVELOPE,"text":"\ud800"}"#,
        r#"{"kind":"message",ENVELOPE,"text":""}"#,
        r#"{"kind":"message",ENVELOPE,"text":"x","thread":-1}"#,
        r#"{"kind":"message",ENVELOPE,"text":"x","thread":9007199254740992}"#,
        r#"{"kind":"edit",ENVELOPE,"target":3,"text":""}"#,
        r#"{"kind":"edit",ENVELOPE,"text":"x"}"#,
        r#"{"kind":"edit",ENVELOPE,"target":9007199254740992,"text":"x"}"#,
        r#"{"kind":"delete",ENVELOPE}"#,
        r#"{"kind":"reaction",ENVELOPE,"target":3,"reaction":"a b","change":"added"}"#,
        r#"{"kind":"reaction",ENVELOPE,"target":3,"reaction":"a","change":"kept"}"#,
        r#"{"kind":"identity",ENVELOPE}"#,
        r#"{"kind":"confetti",ENVELOPE}"#,
        r#"{"kind":"message","v":2,"channel":"C000000005","user":"U000000001","message_id":"00000000-0000-0000-0000-000000000007","text":"x"}"#,
        r#"{"kind":"message","v":1,"channel":"C9999999999999999999","user":"U000000001","message_id":"00000000-0000-0000-0000-000000000007","text":"x"}"#,
    ];
    for payload in with_envelope.map(|p| p.replace("ENVELOPE", ENVELOPE)) {
        assert!(Record::decode(payload.as_bytes()).is_err(), "{payload}");
    }
    for payload in ["", "{}", "null"] {
        assert!(Record::decode(payload.as_bytes()).is_err(), "{payload}");
    }
    let deep = "[".repeat(10_000);
    assert!(Record::decode(deep.as_bytes()).is_err());
}
