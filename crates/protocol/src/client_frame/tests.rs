use proptest::prelude::*;

use super::*;

fn error_of(text: &str) -> FrameError {
    ClientFrame::decode(text).expect_err(text)
}

fn any_seq() -> impl Strategy<Value = Seq> {
    (1..=Seq::MAX.0).prop_map(Seq)
}

fn any_frame() -> impl Strategy<Value = ClientFrame> {
    let channel: ChannelId = "C000000005".parse().expect("an id");
    let id = proptest::option::of(any::<u128>().prop_map(|n| MessageId(uuid::Uuid::from_u128(n))));
    let text = "[^\0]{1,64}";
    let reaction = "[a-z0-9+\u{1F600}-\u{1F64F}]{1,16}";
    let some_seq = || proptest::option::of(any_seq());
    prop_oneof![
        (text, some_seq(), id.clone(), any::<bool>()).prop_map(
            move |(text, thread, client_msg_id, retry)| {
                ClientFrame::Message(SendMessage {
                    channel,
                    text,
                    thread,
                    client_msg_id,
                    retry,
                })
            }
        ),
        (any_seq(), text, id.clone(), any::<bool>()).prop_map(
            move |(target, text, client_msg_id, retry)| {
                ClientFrame::Edit(EditMessage {
                    channel,
                    target,
                    text,
                    client_msg_id,
                    retry,
                })
            }
        ),
        (any_seq(), id.clone(), any::<bool>()).prop_map(move |(target, client_msg_id, retry)| {
            ClientFrame::Delete(DeleteMessage {
                channel,
                target,
                client_msg_id,
                retry,
            })
        }),
        (any_seq(), reaction, any::<bool>(), id, any::<bool>()).prop_map(
            move |(target, reaction, remove, client_msg_id, retry)| {
                ClientFrame::Reaction(React {
                    channel,
                    target,
                    reaction,
                    remove,
                    client_msg_id,
                    retry,
                })
            }
        ),
        (any_seq(), some_seq()).prop_map(move |(delivered, read)| {
            ClientFrame::Mark(Mark {
                channel,
                delivered: Some(delivered),
                read,
            })
        }),
        Just(ClientFrame::Typing { channel }),
        any::<bool>().prop_map(|active| ClientFrame::Presence {
            state: if active {
                PresenceState::Active
            } else {
                PresenceState::Away
            }
        }),
        proptest::collection::vec(1..=i64::MAX, 0..5).prop_map(|users| ClientFrame::Watch {
            users: users.into_iter().filter_map(UserId::new).collect(),
        }),
        (some_seq(), any::<bool>()).prop_map(move |(since, ordered)| ClientFrame::Join {
            channel,
            since,
            ordered,
        }),
    ]
}

#[test]
fn requests_about_people_are_checked() {
    let refused =
        |fields: &str| error_of(&format!(r#"{{"id":1,"channel":"C000000005",{fields}}}"#));
    for (fields, code, field) in [
        (
            r#""type":"edit","text":"x""#,
            ErrorCode::MissingField,
            "target",
        ),
        (
            r#""type":"edit","target":0,"text":"x""#,
            ErrorCode::InvalidField,
            "target",
        ),
        (
            r#""type":"edit","target":3,"text":"""#,
            ErrorCode::InvalidField,
            "text",
        ),
        (
            r#""type":"delete","target":"3""#,
            ErrorCode::InvalidField,
            "target",
        ),
        (
            r#""type":"reaction","target":3"#,
            ErrorCode::MissingField,
            "reaction",
        ),
        (
            r#""type":"reaction","target":3,"reaction":"a b""#,
            ErrorCode::InvalidField,
            "reaction",
        ),
        (
            r#""type":"reaction","target":3,"reaction":"..""#,
            ErrorCode::InvalidField,
            "reaction",
        ),
        (r#""type":"mark""#, ErrorCode::MissingField, "read"),
        (
            r#""type":"mark","read":9007199254740992"#,
            ErrorCode::InvalidField,
            "read",
        ),
        (
            r#""type":"presence","state":"offline""#,
            ErrorCode::InvalidField,
            "state",
        ),
        (
            r#""type":"watch","users":["C000000005"]"#,
            ErrorCode::InvalidField,
            "users",
        ),
        (
            r#""type":"message","text":"x","thread":0"#,
            ErrorCode::InvalidField,
            "thread",
        ),
    ] {
        let FrameError { id, error } = refused(fields);
        assert_eq!(id, Some(RequestId::Number(1)), "{fields}");
        assert_eq!(
            (error.code, error.field.as_deref()),
            (code, Some(field)),
            "{fields}"
        );
    }
    let many = vec!["\"U000000001\""; limits::WATCHED_USERS + 1].join(",");
    let error = refused(&format!(r#""type":"watch","users":[{many}]"#)).error;
    assert_eq!(error.limit, Some(limits::WATCHED_USERS as u64));
}

#[test]
fn options_of_a_change_may_be_absent() {
    use crate::ChangeOptions;
    assert_eq!(ChangeOptions::decode(b""), Ok(ChangeOptions::default()));
    assert_eq!(ChangeOptions::decode(b"{}"), Ok(ChangeOptions::default()));
    let retry = ChangeOptions::decode(br#"{"retry":true}"#).expect("valid");
    assert!(retry.retry);
    assert!(ChangeOptions::decode(br#"{"client_msg_id":7}"#).is_err());
}

#[test]
fn error_names_field_limit_and_id() {
    let error = error_of(r#"{"id":7,"type":"join","channel":"X"}"#);
    assert_eq!(error.id, Some(RequestId::Number(7)));
    assert_eq!(error.error.field.as_deref(), Some("channel"));

    let error = error_of(r#"{"id":"a","type":"join"}"#);
    assert_eq!(error.error.code, ErrorCode::MissingField);

    let long = "x".repeat(limits::TEXT_BYTES + 1);
    let text = format!(r#"{{"type":"message","channel":"C000000005","text":"{long}"}}"#);
    let error = error_of(&text);
    assert_eq!(error.error.code, ErrorCode::TextTooLong);
    assert_eq!(error.error.limit, Some(limits::TEXT_BYTES as u64));

    assert_eq!(
        error_of(r#"{"type":"dance"}"#).error.code,
        ErrorCode::UnknownType
    );
    assert_eq!(error_of("[]").error.code, ErrorCode::InvalidJson);
    assert_eq!(
        error_of(&"[".repeat(100_000)).error.code,
        ErrorCode::InvalidJson
    );
    let since = r#"{"type":"join","channel":"C000000005","since":9007199254740992}"#;
    assert_eq!(error_of(since).error.field.as_deref(), Some("since"));
    let negative = r#"{"type":"join","channel":"C000000005","since":-1}"#;
    assert_eq!(error_of(negative).error.field.as_deref(), Some("since"));
}

#[test]
fn unknown_fields_are_ignored() {
    let text = r#"{"type":"leave","channel":"C000000005","mood":{"a":[1]}}"#;
    let (id, frame) = ClientFrame::decode(text).expect("valid");
    assert_eq!(id, None);
    assert_eq!(
        frame,
        ClientFrame::Leave {
            channel: "C000000005".parse().expect("an id")
        }
    );
}

#[test]
fn text_limit_counts_bytes() {
    let channel = "C000000005".parse().expect("an id");
    let body = format!(r#"{{"text":"{}"}}"#, "x".repeat(limits::TEXT_BYTES));
    assert!(SendMessage::decode(channel, body.as_bytes()).is_ok());
}

proptest! {
    #[test]
    fn any_text_is_read_without_a_panic(text: String) {
        drop(ClientFrame::decode(&text));
        drop(crate::ServerFrame::decode(&text));
    }

    #[test]
    fn requests_survive_the_wire(frame in any_frame(), n: i64) {
        let id = RequestId::Number(n);
        let back = ClientFrame::decode(&frame.encode(Some(&id)));
        prop_assert_eq!(back, Ok((Some(id), frame)));
    }
}
