//! The session about people: direct channels, marks, presence, changes, and leaving.

use std::time::Duration;

use hubbub_protocol::{
    ChannelId, ClientFrame, ErrorBody, ErrorCode, Hello, JoinReply, Joined, MarkReply, MessageId,
    MessageReply, Outcome, PresenceState, RequestId, Seq, ServerFrame, Typing, UserId,
    UserPresence, WatchReply, reply_error, reply_ok,
};
use tokio::time::Instant;
use uuid::Uuid;

use crate::{
    Change, Event, Limits,
    session::{Output, Session},
};

fn channel(id: &str) -> ChannelId {
    id.parse().expect("an id")
}

fn user(number: i64) -> UserId {
    UserId::new(number).expect("from 1")
}

fn up(session: &mut Session, now: Instant) {
    let hello = Hello {
        connection_id: "1".to_owned(),
        pod: "edge-1".parse().expect("a pod id"),
        region: "local".to_owned(),
        user: user(1),
        device: "d".parse().expect("a device id"),
        heartbeat_ms: 15_000,
        max_frame_bytes: 65_536,
    };
    session.connected(hello, now);
}

fn written(session: &mut Session, now: Instant) -> Vec<(Option<RequestId>, ClientFrame)> {
    std::iter::from_fn(|| session.next_frame(now))
        .map(|frame| ClientFrame::decode(&frame).expect("the session writes valid frames"))
        .collect()
}

/// The one frame that is to be written.
fn only(session: &mut Session, now: Instant) -> (RequestId, ClientFrame) {
    let mut frames = written(session, now);
    assert_eq!(frames.len(), 1, "{frames:?}");
    let (id, frame) = frames.remove(0);
    (id.expect("an id"), frame)
}

fn answer(session: &mut Session, text: &str, now: Instant) {
    let frame = ServerFrame::decode(text).expect("a reply");
    session.on_frame(frame, now);
}

fn events(session: &mut Session) -> Vec<Event> {
    let outputs = std::mem::take(&mut session.outputs);
    let event = |output| match output {
        Output::Event(event) => Some(event),
        Output::Settled { .. } => None,
    };
    outputs.into_iter().filter_map(event).collect()
}

fn joined(session: &mut Session, id: ChannelId, head: u64, now: Instant) {
    session.join(id, None, false);
    let (asked, _) = only(session, now);
    let reply = JoinReply {
        channel: id,
        head: Some(Seq(head)),
        recovered: true,
        reason: None,
    };
    answer(session, &reply_ok(&asked, &reply), now);
}

/// A leave that was written when the connection broke is over all the same: the server listens for
/// nobody whose connection is gone.
#[test]
fn leave_on_a_connection_that_breaks_is_told() {
    let now = Instant::now();
    let (first, second, third) = (
        channel("C000000001"),
        channel("C000000002"),
        channel("C000000003"),
    );
    let mut session = Session::new(Limits::default(), true, 1);
    up(&mut session, now);
    for id in [first, second, third] {
        joined(&mut session, id, 7, now);
    }
    session.leave(second);
    session.leave(first);
    assert_eq!(written(&mut session, now).len(), 2, "both are on the wire");
    session.leave(third);
    events(&mut session);
    session.disconnected(now);
    let left: Vec<_> = events(&mut session)
        .into_iter()
        .filter_map(|event| match event {
            Event::Left { channel } => Some(channel),
            _ => None,
        })
        .collect();
    assert_eq!(left, [second, first, third], "in the order of the leaves");
    // And never again: neither as the reply to something, nor with the next break.
    up(&mut session, now);
    assert_eq!(written(&mut session, now), []);
    session.disconnected(now);
    let again = events(&mut session);
    assert!(
        !again.iter().any(|e| matches!(e, Event::Left { .. })),
        "{again:?}"
    );
}

#[test]
fn leave_and_join_on_a_connection_that_breaks_ends_joined() {
    let (now, id) = (Instant::now(), channel("C000000001"));
    let mut session = Session::new(Limits::default(), true, 1);
    up(&mut session, now);
    joined(&mut session, id, 7, now);
    session.leave(id);
    session.join(id, Some(Seq(3)), false);
    assert_eq!(written(&mut session, now).len(), 2);
    events(&mut session);
    session.disconnected(now);
    assert_eq!(events(&mut session), [Event::Left { channel: id }]);
    up(&mut session, now);
    let (_, frame) = only(&mut session, now);
    let since = Some(Seq(3));
    assert!(
        matches!(frame, ClientFrame::Join { channel, since: s, .. } if channel == id && s == since),
        "{frame:?}"
    );
}

#[test]
fn leave_that_crosses_the_servers_join_stands() {
    let (now, id) = (Instant::now(), channel("D000000005"));
    let mut session = Session::new(Limits::default(), true, 1);
    up(&mut session, now);
    joined(&mut session, id, 7, now);
    session.disconnected(now);
    up(&mut session, now);
    session.leave(id);
    let told = Joined {
        channel: id,
        head: Some(Seq(7)),
        with: Some(user(2)),
    };
    session.on_frame(ServerFrame::Joined(told.clone()), now);
    let (_, frame) = only(&mut session, now);
    assert!(matches!(frame, ClientFrame::Leave { .. }), "{frame:?}");
    session.on_frame(ServerFrame::Joined(told), now);
    let seen = events(&mut session);
    assert!(
        !seen.iter().any(|e| matches!(e, Event::Direct(_))),
        "{seen:?}"
    );
    session.disconnected(now);
    up(&mut session, now);
    assert_eq!(written(&mut session, now), [], "it is not joined again");
}

#[test]
fn direct_channel_is_joined_by_the_server_and_resumed_by_the_client() {
    let (now, id) = (Instant::now(), channel("D000000005"));
    let mut session = Session::new(Limits::default(), false, 1);
    up(&mut session, now);
    let told = Joined {
        channel: id,
        head: Some(Seq(7)),
        with: Some(user(2)),
    };
    session.on_frame(ServerFrame::Joined(told.clone()), now);
    session.on_frame(
        ServerFrame::Synced {
            channel: id,
            seq: Seq(9),
        },
        now,
    );
    let seen = events(&mut session);
    assert!(seen.contains(&Event::Direct(told.clone())), "{seen:?}");
    assert_eq!(written(&mut session, now), [], "there is nothing to ask");
    session.disconnected(now);
    up(&mut session, now);
    // The server is quicker than our join; what it gives from its own head would leave a hole.
    session.on_frame(ServerFrame::Joined(told), now);
    events(&mut session);
    session.on_frame(
        ServerFrame::Synced {
            channel: id,
            seq: Seq(20),
        },
        now,
    );
    assert_eq!(events(&mut session), []);
    let (asked, frame) = only(&mut session, now);
    let since = Some(Seq(9));
    assert_eq!(
        frame,
        ClientFrame::Join {
            channel: id,
            since,
            ordered: false
        }
    );
    let reply = JoinReply {
        channel: id,
        head: Some(Seq(20)),
        recovered: true,
        reason: None,
    };
    answer(&mut session, &reply_ok(&asked, &reply), now);
    let seen = events(&mut session);
    assert!(
        matches!(&seen[..], [Event::Joined(j)] if j.since == since),
        "{seen:?}"
    );
}

#[test]
fn what_was_synced_is_marked_as_delivered() {
    let (now, id) = (Instant::now(), channel("D000000005"));
    for on in [true, false] {
        let mut session = Session::new(Limits::default(), on, 1);
        up(&mut session, now);
        joined(&mut session, id, 7, now);
        session.on_frame(
            ServerFrame::Synced {
                channel: id,
                seq: Seq(9),
            },
            now,
        );
        if !on {
            assert_eq!(written(&mut session, now), []);
            continue;
        }
        let (asked, frame) = only(&mut session, now);
        let ClientFrame::Mark(mark) = frame else {
            panic!("a mark is expected: {frame:?}");
        };
        assert_eq!((mark.delivered, mark.read), (Some(Seq(9)), None));
        answer(
            &mut session,
            &reply_ok(&asked, &MarkReply { channel: id }),
            now,
        );
        assert_eq!(written(&mut session, now), []);
        // Read is told with it, a second later.
        session.mark(id, Seq::ZERO, Seq(9));
        let due = session.next_due(now).expect("something is left");
        assert_eq!(due, now + Duration::from_secs(1));
        let (_, frame) = only(&mut session, due);
        assert!(
            matches!(frame, ClientFrame::Mark(mark) if mark.read == Some(Seq(9))),
            "{frame:?}"
        );
    }
}

#[test]
fn presence_and_watch_are_told_on_every_connection() {
    let now = Instant::now();
    let mut session = Session::new(Limits::default(), true, 1);
    session.set_presence(PresenceState::Away);
    session.watch(vec![user(2), user(3)]);
    for _ in 0..2 {
        up(&mut session, now);
        let frames = written(&mut session, now);
        let [(_, presence), (Some(asked), watch)] = &frames[..] else {
            panic!("two frames are expected: {frames:?}");
        };
        let state = PresenceState::Away;
        assert_eq!(*presence, ClientFrame::Presence { state });
        assert_eq!(
            *watch,
            ClientFrame::Watch {
                users: vec![user(2), user(3)]
            }
        );
        let reply = WatchReply {
            users: vec![UserPresence {
                user: user(2),
                state: PresenceState::Active,
            }],
        };
        events(&mut session);
        answer(&mut session, &reply_ok(asked, &reply), now);
        assert_eq!(events(&mut session), [Event::Presence(reply.users[0])]);
        session.disconnected(now);
    }
    up(&mut session, now);
    let frames = written(&mut session, now);
    let asked = frames[1].0.clone().expect("an id");
    let later = ErrorBody::new(ErrorCode::BusUnavailable, "later").retry_after_ms(1_500);
    answer(&mut session, &reply_error(Some(&asked), &later), now);
    assert_eq!(written(&mut session, now), []);
    let due = session.next_due(now).expect("asked again");
    assert_eq!(due, now + Duration::from_millis(1_500));
    let (_, frame) = only(&mut session, due);
    assert!(matches!(frame, ClientFrame::Watch { .. }), "{frame:?}");
}

#[test]
fn typing_is_said_at_most_every_three_seconds_and_only_now() {
    let (now, id) = (Instant::now(), channel("C000000001"));
    let mut session = Session::new(Limits::default(), true, 1);
    session.typing(id, now);
    up(&mut session, now);
    assert_eq!(written(&mut session, now), [], "said without a connection");
    joined(&mut session, id, 7, now);
    for ms in [0, 10, 2_999] {
        session.typing(id, now + Duration::from_millis(ms));
    }
    let typing = (None, ClientFrame::Typing { channel: id });
    assert_eq!(written(&mut session, now), std::slice::from_ref(&typing));
    let later = now + Duration::from_secs(3);
    session.typing(id, later);
    assert_eq!(written(&mut session, later), [typing]);
    events(&mut session);
    let heard = Typing {
        channel: id,
        user: user(2),
    };
    session.on_frame(ServerFrame::Typing(heard), now);
    assert_eq!(events(&mut session), [Event::Typing(heard)]);
}

/// An edit is sent as a message is: again, under the same id, until the answer is definite.
#[test]
fn changes_are_sent_again_until_the_answer_is_definite() {
    let (now, id) = (Instant::now(), channel("C000000001"));
    let changes = [
        Change::Edit {
            target: Seq(7),
            text: "better".to_owned(),
        },
        Change::Delete { target: Seq(7) },
        Change::React {
            target: Seq(7),
            reaction: "+1".to_owned(),
            remove: true,
        },
        Change::Message {
            text: "in a thread".to_owned(),
            thread: Some(Seq(7)),
        },
    ];
    for change in changes {
        let mut session = Session::new(Limits::default(), true, 1);
        up(&mut session, now);
        let message_id = MessageId(Uuid::from_u128(9));
        session.send(id, change.clone(), message_id, false);
        let (_, frame) = only(&mut session, now);
        assert_eq!(frame, change.clone().into_frame(id, message_id, false));
        session.disconnected(now);
        up(&mut session, now);
        let (asked, frame) = only(&mut session, now);
        assert_eq!(frame, change.clone().into_frame(id, message_id, true));
        let not_yet = ErrorBody::new(ErrorCode::NotStoredYet, "wait").outcome(Outcome::Rejected);
        answer(&mut session, &reply_error(Some(&asked), &not_yet), now);
        assert_eq!(session.outputs.iter().filter(|o| settled(o)).count(), 0);
        let later = now + Duration::from_secs(60);
        let (asked, frame) = only(&mut session, later);
        assert_eq!(frame, change.into_frame(id, message_id, true));
        let reply = MessageReply {
            channel: id,
            message_id,
            seq: None,
            ts_ms: 1,
            fence: Some(Seq(12)),
        };
        answer(&mut session, &reply_ok(&asked, &reply), later);
        assert_eq!(session.outputs.iter().filter(|o| settled(o)).count(), 1);
    }
}

fn settled(output: &Output) -> bool {
    matches!(output, Output::Settled { .. })
}
