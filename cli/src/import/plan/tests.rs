use super::*;

fn message(json: serde_json::Value) -> slack::Message {
    serde_json::from_value(json).expect("a message")
}

fn plan(messages: &[slack::Message]) -> (Vec<Item>, Losses) {
    let mut changes = Changes::default();
    changes.note(messages);
    let names = Names::default();
    let planner = Planner {
        room: "C1",
        names: &names,
        changes: &changes,
    };
    let mut losses = Losses::default();
    (planner.items(messages, &mut losses), losses)
}

#[test]
fn times_are_read_to_the_millisecond() {
    for (ts, expected) in [
        ("1355517523.000005", Some(1_355_517_523_000)),
        ("1355517523.987654", Some(1_355_517_523_987)),
        ("1355517523.5", Some(1_355_517_523_500)),
        ("1355517523", Some(1_355_517_523_000)),
        ("", None),
        (".5", None),
        ("-1.0", None),
        ("1e9", None),
        ("99999999999999999999.0", None),
        ("1355517523000005.0", None),
    ] {
        assert_eq!(posted_ms(ts), expected, "{ts}");
    }
}

#[test]
fn edit_log_becomes_the_first_text_and_its_edits() {
    let edited = |ts: &str, before: &str, after: &str| {
        message(serde_json::json!({
            "subtype": "message_changed", "ts": ts,
            "message": { "ts": "1.000001", "user": "U1", "text": after },
            "previous_message": { "ts": "1.000001", "user": "U1", "text": before },
        }))
    };
    let (items, losses) = plan(&[
        message(serde_json::json!({ "ts": "1.000001", "user": "U1", "text": "c" })),
        edited("2.000001", "a", "b"),
        // The preview of a link came: nothing was edited.
        edited("3.000001", "b", "b"),
        edited("4.000001", "b", "c"),
    ]);
    assert_eq!(items.len(), 1);
    assert_eq!(items[0].text, "a");
    let then: Vec<_> = items[0].then.iter().map(|then| &then.what).collect();
    let (b, c) = (What::Edit("b".to_owned()), What::Edit("c".to_owned()));
    assert_eq!(then, [&b, &c]);
    assert_eq!(losses, Losses::default());
}

#[test]
fn ids_are_the_same_in_every_run_and_differ_by_channel() {
    let hi = message(serde_json::json!({ "ts": "1.000001", "user": "U1", "text": "hi" }));
    let (once, _) = plan(std::slice::from_ref(&hi));
    let (again, _) = plan(&[hi]);
    assert_eq!(once, again);
    assert_ne!(id("C1", "1.000001"), id("C2", "1.000001"));
}

#[test]
fn long_message_comes_in_parts_and_its_reactions_once() {
    let text = "x".repeat(limits::TEXT_BYTES + 1);
    let (items, losses) = plan(&[message(serde_json::json!({
        "ts": "1.000001", "user": "U1", "text": text,
        "reactions": [{ "name": "+1", "users": ["U2"], "count": 1 }],
    }))]);
    let parts: Vec<_> = items.iter().map(|i| (i.text.len(), i.then.len())).collect();
    assert_eq!(parts, [(limits::TEXT_BYTES, 1), (1, 0)]);
    let mut expected = Losses::default();
    expected.note(Loss::Split);
    assert_eq!(losses, expected);
}
