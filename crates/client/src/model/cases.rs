//! Single cases, each of which once went wrong or well might.

use super::*;

#[test]
fn earlier_join_does_not_speak_for_a_later_one() {
    let (mut session, now, id) = (
        Session::new(Limits::default(), true, 1),
        Instant::now(),
        channel(5),
    );
    session.join(id, None, false);
    session.connected(hello(), now);
    let (first, _) = request(&session.next_frame(now).expect("a join"));
    session.join(id, Some(Seq(3)), true);
    let ok = |request: &RequestId, recovered| {
        let head = Some(Seq(9));
        let joined = JoinReply {
            channel: id,
            head,
            recovered,
            reason: None,
        };
        reply(&reply_ok(request, &joined))
    };
    session.on_frame(ok(&first, true), now);
    let seq = Seq(9);
    session.on_frame(ServerFrame::Synced { channel: id, seq }, now);
    let (second, frame) = request(&session.next_frame(now).expect("the second join"));
    let since = Some(Seq(3));
    let ordered = true;
    assert_eq!(
        frame,
        ClientFrame::Join {
            channel: id,
            since,
            ordered
        }
    );
    session.on_frame(ok(&second, true), now);
    let body = message(id, 4);
    session.on_frame(ServerFrame::Record { seq: Seq(4), body }, now);
    let events: Vec<_> = session.outputs.iter().collect();
    assert!(
        matches!(
            events.as_slice(),
            [
                Output::Event(Event::Connected(_)),
                Output::Event(Event::Joined(_)),
                Output::Event(Event::Record { seq: Seq(4), .. })
            ]
        ),
        "{events:?}"
    );
}

#[test]
fn server_that_knows_less_decides_where_we_stand() {
    let id = channel(5);
    for head in [Some(Seq(3)), None] {
        let (mut session, now) = (Session::new(Limits::default(), true, 1), Instant::now());
        session.join(id, Some(Seq(100)), false);
        session.connected(hello(), now);
        for (head, recovered) in [(Some(Seq(100)), true), (head, false)] {
            session.disconnected(now);
            session.connected(hello(), now);
            let (asked, _) = request(&session.next_frame(now).expect("a join"));
            let joined = JoinReply {
                channel: id,
                head,
                recovered,
                reason: None,
            };
            session.on_frame(reply(&reply_ok(&asked, &joined)), now);
        }
        let body = message(id, 4);
        session.on_frame(ServerFrame::Record { seq: Seq(4), body }, now);
        let last = session.outputs.back();
        assert!(
            matches!(last, Some(Output::Event(Event::Record { seq: Seq(4), .. }))),
            "{last:?}"
        );
        let seq = Seq(4);
        session.on_frame(ServerFrame::Synced { channel: id, seq }, now);
        session.disconnected(now);
        session.connected(hello(), now);
        let (_, frame) = request(&session.next_frame(now).expect("a join"));
        assert!(
            matches!(frame, ClientFrame::Join { since: Some(s), .. } if s == seq),
            "{frame:?}"
        );
    }
}

#[test]
fn socket_that_was_told_left_asks_again_from_its_cursor() {
    let (mut session, now) = (Session::new(Limits::default(), true, 1), Instant::now());
    let id = channel(5);
    session.join(id, None, false);
    session.connected(hello(), now);
    let joined = JoinReply {
        channel: id,
        head: Some(Seq(7)),
        recovered: true,
        reason: None,
    };
    let (asked, _) = request(&session.next_frame(now).expect("a join"));
    session.on_frame(reply(&reply_ok(&asked, &joined)), now);
    session.on_frame(ServerFrame::Left { channel: id }, now);
    // Of the time before it: the new join gives it again, if we may have it.
    let body = message(id, 8);
    session.on_frame(ServerFrame::Record { seq: Seq(8), body }, now);
    let (asked, frame) = request(&session.next_frame(now).expect("another join"));
    assert!(
        matches!(
            frame,
            ClientFrame::Join {
                since: Some(Seq(7)),
                ..
            }
        ),
        "{frame:?}"
    );
    let error = ErrorBody::new(ErrorCode::ChannelNotFound, "no such channel");
    session.on_frame(reply(&reply_error(Some(&asked), &error)), now);
    let last = session.outputs.back();
    let channel = id;
    assert_eq!(
        last,
        Some(&Output::Event(Event::JoinFailed { channel, error }))
    );
    assert_eq!(session.next_frame(now), None);
}

#[test]
fn leave_then_join_asks_in_that_order() {
    let (mut session, now, id) = (
        Session::new(Limits::default(), true, 1),
        Instant::now(),
        channel(5),
    );
    session.join(id, None, false);
    session.connected(hello(), now);
    session.next_frame(now).expect("a join");
    session.leave(id);
    session.join(id, None, false);
    let frames: Vec<_> = std::iter::from_fn(|| session.next_frame(now))
        .map(|f| request(&f).1)
        .collect();
    assert!(
        matches!(
            frames.as_slice(),
            [ClientFrame::Leave { .. }, ClientFrame::Join { .. }]
        ),
        "{frames:?}"
    );
}

#[test]
fn nothing_is_written_after_a_goodbye() {
    let (mut session, now, id) = (
        Session::new(Limits::default(), true, 1),
        Instant::now(),
        channel(5),
    );
    session.connected(hello(), now);
    let first = session.send(
        id,
        Change::message("first"),
        MessageId(Uuid::from_u128(1)),
        false,
    );
    let (asked, _) = request(&session.next_frame(now).expect("a message"));
    let goodbye = Goodbye {
        reason: "restart".to_owned(),
        reconnect_after_ms: 70,
    };
    session.on_frame(ServerFrame::Goodbye(goodbye), now);
    session.send(
        id,
        Change::message("second"),
        MessageId(Uuid::from_u128(2)),
        false,
    );
    session.join(id, None, false);
    assert_eq!(session.next_frame(now), None);
    assert_eq!(session.next_due(now), None);
    // A server that never closes is given up.
    assert_eq!(session.stalls_at(), Some(now + Limits::default().reply));

    // What was on the wire is answered.
    let sent = MessageReply {
        channel: id,
        message_id: MessageId(Uuid::from_u128(1)),
        seq: Some(Seq(1)),
        ts_ms: 1,
        fence: None,
    };
    session.on_frame(reply(&reply_ok(&asked, &sent)), now);
    let settled = session
        .outputs
        .iter()
        .any(|o| matches!(o, Output::Settled { order, .. } if *order == first));
    assert!(settled, "{:?}", session.outputs);

    // The rest goes out on the next connection.
    session.disconnected(now);
    assert_eq!(
        session.take_goodbye_delay(),
        Some(Duration::from_millis(70))
    );
    session.connected(hello(), now);
    let frames: Vec<_> = std::iter::from_fn(|| session.next_frame(now))
        .map(|f| request(&f).1)
        .collect();
    assert!(
        matches!(
            frames.as_slice(),
            [ClientFrame::Join { .. }, ClientFrame::Message { .. }]
        ),
        "{frames:?}"
    );
}

#[test]
fn memory_of_a_channel_is_bounded() {
    let limits = Limits {
        ids_per_channel: 100,
        seqs_per_channel: 200,
        ..Limits::default()
    };
    let (mut session, now, id) = (Session::new(limits, true, 1), Instant::now(), channel(5));
    session.join(id, None, false);
    session.connected(hello(), now);
    let (asked, _) = request(&session.next_frame(now).expect("a join"));
    let joined = JoinReply {
        channel: id,
        head: Some(Seq(1)),
        recovered: true,
        reason: None,
    };
    session.on_frame(reply(&reply_ok(&asked, &joined)), now);
    for n in 2..10_000_u64 {
        let body = message(id, u128::from(n));
        session.on_frame(ServerFrame::Record { seq: Seq(n), body }, now);
        session.outputs.clear();
    }
    assert_eq!(session.remembered(id), (200, 100));
}
