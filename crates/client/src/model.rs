//! The session against small models of a server: of what it delivers, and of what it takes.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use hubbub_protocol::{
    Body, ChannelId, ClientFrame, ErrorBody, ErrorCode, Goodbye, Hello, JoinReply, MessageId,
    MessageReply, Outcome, RequestId, SendMessage, Seq, ServerFrame, UserId, reply_error, reply_ok,
};
use proptest::{collection::vec, prelude::*};
use tokio::time::Instant;
use uuid::Uuid;

use crate::{
    Change, Event, Limits, SendResult, View,
    session::{Output, Session},
};

fn channel(number: i64) -> ChannelId {
    format!("C{number:09}").parse().expect("an id")
}

fn message(channel: ChannelId, id: u128) -> Body {
    let user = UserId::new(1).expect("from 1");
    let message_id = MessageId(Uuid::from_u128(id));
    Body::message(channel, message_id, user, id.to_string(), 0)
}

fn hello() -> Hello {
    Hello {
        connection_id: "1".to_owned(),
        pod: "edge-1".parse().expect("a pod id"),
        region: "local".to_owned(),
        user: UserId::new(1).expect("from 1"),
        device: "d".parse().expect("a device id"),
        heartbeat_ms: 15_000,
        max_frame_bytes: 65_536,
    }
}

fn reply(text: &str) -> ServerFrame {
    ServerFrame::decode(text).expect("a reply")
}

fn request(frame: &str) -> (RequestId, ClientFrame) {
    let (id, frame) = ClientFrame::decode(frame).expect("the session writes valid frames");
    (id.expect("every request has an id"), frame)
}

// --- delivery: cursor, doubles, shadows

#[derive(Debug, Clone)]
enum Step {
    /// A message is appended; it is delivered live, unless it is lost on the way.
    Append {
        gap: u64,
        lost: bool,
    },
    /// The newest message is appended again without `retry:true`: a shadow, published.
    Shadow {
        gap: u64,
        lost: bool,
    },
    /// The publish of the first copy is lost, the second copy is shown first.
    ShadowFirst {
        gap: u64,
    },
    /// Rows above the server's cursor are sent once more, as after a `replay`.
    Replay,
    /// The server gives what it has not given and says so.
    Sync,
    Cut,
    Connect(How),
}

#[derive(Debug, Clone, Copy)]
enum How {
    Recovered,
    /// The edge is behind and the store away: it goes on from a lower head.
    Behind(u64),
    /// The store is away and the edge knows no head.
    Unknown,
    /// The join is refused for now.
    Later,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let how = prop_oneof![
        4 => Just(How::Recovered),
        1 => (0..20_u64).prop_map(How::Behind),
        1 => Just(How::Unknown),
        1 => Just(How::Later),
    ];
    let step = prop_oneof![
        6 => (1..4_u64, any::<bool>()).prop_map(|(gap, lost)| Step::Append { gap, lost }),
        1 => (1..4_u64, any::<bool>()).prop_map(|(gap, lost)| Step::Shadow { gap, lost }),
        1 => (1..4_u64).prop_map(|gap| Step::ShadowFirst { gap }),
        1 => Just(Step::Replay),
        2 => Just(Step::Sync),
        2 => Just(Step::Cut),
        4 => how.prop_map(Step::Connect),
    ];
    vec(step, 0..80)
}

struct Delivery {
    session: Session,
    now: Instant,
    channel: ChannelId,
    /// Row that the store keeps, by seq.
    rows: BTreeMap<Seq, u128>,
    last: Seq,
    next_id: u128,
    /// The connection, if it is joined: what the server has synced, what it gave on it.
    cursor: Option<Seq>,
    joined: bool,
    up: bool,
    given: BTreeSet<Seq>,
    view: View,
    emitted: BTreeMap<MessageId, u32>,
    /// The `since` that the next join must have.
    expected: Option<Seq>,
    /// Join point, or what a `recovered: false` without a head has cut off.
    excused: BTreeSet<u128>,
}

impl Delivery {
    fn new(since: Option<Seq>) -> Self {
        let channel = channel(5);
        let mut session = Session::new(Limits::default(), true, 1);
        session.join(channel, since, false);
        Self {
            session,
            now: Instant::now(),
            channel,
            rows: BTreeMap::new(),
            last: Seq::ZERO,
            next_id: 1,
            cursor: None,
            joined: false,
            up: false,
            given: BTreeSet::new(),
            view: View::new(),
            emitted: BTreeMap::new(),
            expected: since,
            excused: BTreeSet::new(),
        }
    }

    fn frame(&mut self, frame: ServerFrame) {
        self.session.on_frame(frame, self.now);
        self.take();
    }

    fn take(&mut self) {
        while let Some(output) = self.session.outputs.pop_front() {
            if let Output::Event(event) = output {
                if let Event::Record { body, .. } = &event {
                    *self.emitted.entry(body.key().message_id).or_default() += 1;
                }
                if let Event::Reseq { from, to, key, .. } = &event {
                    assert!(to < from, "the lower seq counts: {event:?}");
                    assert_eq!(self.view.seq_of(self.channel, key), Some(*from));
                }
                self.view.apply(&event);
            }
        }
    }

    fn deliver(&mut self, seq: Seq, id: u128) {
        if self.joined {
            let body = message(self.channel, id);
            self.frame(ServerFrame::Record { seq, body });
        }
    }

    fn append(&mut self, gap: u64) -> Seq {
        self.last = Seq(self.last.0 + gap);
        self.last
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Append { gap, lost } => {
                let (seq, id) = (self.append(gap), self.next_id);
                self.next_id += 1;
                self.rows.insert(seq, id);
                if !lost {
                    self.deliver(seq, id);
                    self.given.insert(seq);
                }
            }
            Step::Shadow { gap, lost } => {
                let Some(id) = self.rows.last_key_value().map(|(_, id)| *id) else {
                    return;
                };
                let seq = self.append(gap);
                if !lost {
                    self.deliver(seq, id);
                }
            }
            Step::ShadowFirst { gap } => {
                let (seq, id) = (self.append(gap), self.next_id);
                self.next_id += 1;
                self.rows.insert(seq, id);
                let (shadow, third) = (self.append(gap), self.append(gap));
                self.deliver(third, id);
                self.deliver(shadow, id);
            }
            Step::Replay => self.replay(),
            Step::Sync => self.sync(),
            Step::Cut => {
                if self.up {
                    self.session.disconnected(self.now);
                    self.take();
                    (self.up, self.joined) = (false, false);
                }
            }
            Step::Connect(how) => self.connect(how),
        }
    }

    fn replay(&mut self) {
        let Some(since) = self.cursor.filter(|_| self.joined) else {
            return;
        };
        let channel = self.channel;
        self.frame(ServerFrame::Replay { channel, since });
        for (seq, id) in self.above(since) {
            self.deliver(seq, id);
        }
    }

    fn above(&self, since: Seq) -> Vec<(Seq, u128)> {
        let rows = self.rows.range(Seq(since.0 + 1)..);
        rows.map(|(seq, id)| (*seq, *id)).collect()
    }

    fn sync(&mut self) {
        if !self.joined {
            return;
        }
        match self.cursor {
            Some(cursor) => {
                for (seq, id) in self.above(cursor) {
                    if self.given.insert(seq) {
                        self.deliver(seq, id);
                    }
                }
            }
            // The join point is found only now: nobody promised what was before.
            None => {
                let rows = self.rows.values().copied();
                let missing: Vec<_> = rows.filter(|id| !self.held(*id)).collect();
                self.excused.extend(missing);
            }
        }
        self.cursor = Some(self.last);
        self.expected = Some(self.last);
        let (channel, seq) = (self.channel, self.last);
        self.frame(ServerFrame::Synced { channel, seq });
        assert_eq!(
            self.session.remembered(channel).0,
            0,
            "seqs below the cursor"
        );
    }

    /// Whether the client has the message at the seq that the store keeps.
    fn held(&self, id: u128) -> bool {
        let seq = self.rows.iter().find(|(_, row)| **row == id).map(|r| *r.0);
        seq == self
            .view
            .seq_of(self.channel, &message(self.channel, id).key())
    }

    fn connect(&mut self, how: How) {
        if !self.up {
            self.session.connected(hello(), self.now);
            self.take();
            self.up = true;
        }
        if self.joined {
            return;
        }
        self.now += Duration::from_secs(60);
        self.session.tick(self.now);
        let Some(frame) = self.session.next_frame(self.now) else {
            panic!("a join is due");
        };
        let (id, ClientFrame::Join { since, .. }) = request(&frame) else {
            panic!("a join is expected: {frame}");
        };
        assert_eq!(since, self.expected);
        if let How::Later = how {
            let error = ErrorBody::new(ErrorCode::Overloaded, "later").retry_after_ms(1_000);
            self.frame(reply(&reply_error(Some(&id), &error)));
            return;
        }
        let known = since.unwrap_or(self.last);
        let (head, recovered) = match (how, since) {
            (How::Unknown, _) => (None, false),
            (How::Behind(by), Some(since)) => (Some(Seq(since.0.saturating_sub(by))), false),
            _ => (Some(self.last), true),
        };
        self.cursor = match (head, recovered) {
            (Some(_), true) => Some(known),
            (head, _) => head,
        };
        // Where nobody knows the head, the old cursor is still good for the next join.
        self.expected = self.cursor.or(self.expected);
        if since.is_none() && head.is_some() {
            self.excused = self.rows.values().copied().collect();
        }
        self.joined = true;
        self.given.clear();
        let joined = JoinReply {
            channel: self.channel,
            head,
            recovered,
            reason: None,
        };
        self.frame(reply(&reply_ok(&id, &joined)));
        if recovered {
            let channel = self.channel;
            self.frame(ServerFrame::Replay {
                channel,
                since: known,
            });
        }
    }

    fn check(&mut self) {
        if !self.joined {
            self.connect(How::Recovered);
        }
        self.sync();
        for (id, count) in &self.emitted {
            assert_eq!(*count, 1, "{id} was given {count} times");
        }
        let truth: BTreeMap<Seq, u128> = self.rows.clone();
        for (seq, id) in &truth {
            if !self.excused.contains(id) {
                let key = message(self.channel, *id).key();
                assert_eq!(
                    self.view.seq_of(self.channel, &key),
                    Some(*seq),
                    "message {id}"
                );
            }
        }
        for (seq, body) in self.view.records(self.channel) {
            let id = body.key().message_id.0.as_u128();
            let kept = truth.get(&seq) == Some(&id);
            assert!(kept || self.excused.contains(&id), "phantom {id} at {seq}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn view_equals_the_truth_and_each_message_is_given_once(
        steps in steps(),
        from_the_start: bool,
    ) {
        let mut delivery = Delivery::new(from_the_start.then_some(Seq::ZERO));
        for step in &steps {
            delivery.step(step);
        }
        delivery.check();
    }
}

// --- sends: resend until definite

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Accepted,
    Limited,
    Refused,
    UnknownInLog,
    UnknownNot,
}

#[derive(Debug, Clone)]
enum Move {
    Push {
        channel: i64,
    },
    /// The session writes up to so many frames.
    Write(usize),
    /// The server takes a frame.
    Take(Fate),
    /// The client reads a reply.
    Reply,
    /// The connection breaks after the server has taken so many more frames.
    Cut {
        taken: usize,
    },
    Wait {
        ms: u64,
    },
}

fn moves(errors: bool) -> impl Strategy<Value = Vec<Move>> {
    let error = if errors { 1 } else { 0 };
    let fate = prop_oneof![
        4 => Just(Fate::Accepted),
        error => Just(Fate::Limited),
        error => Just(Fate::Refused),
        error => Just(Fate::UnknownInLog),
        error => Just(Fate::UnknownNot),
    ];
    let step = prop_oneof![
        6 => (1..3_i64).prop_map(|channel| Move::Push { channel }),
        4 => (1..6_usize).prop_map(Move::Write),
        4 => fate.prop_map(Move::Take),
        4 => Just(Move::Reply),
        1 => (0..4_usize).prop_map(|taken| Move::Cut { taken }),
        1 => (0..2_000_u64).prop_map(|ms| Move::Wait { ms }),
    ];
    vec(step, 0..150)
}

struct Sends {
    session: Session,
    now: Instant,
    pushed: Vec<(u64, MessageId, ChannelId)>,
    /// Read by nobody yet.
    wire: VecDeque<String>,
    replies: VecDeque<String>,
    log: Vec<SendMessage>,
    settled: BTreeMap<u64, SendResult>,
    in_flight: usize,
}

impl Sends {
    fn new(window: usize) -> Self {
        let limits = Limits {
            in_flight: window,
            ..Limits::default()
        };
        let mut session = Session::new(limits, true, 3);
        let now = Instant::now();
        session.connected(hello(), now);
        Self {
            session,
            now,
            pushed: Vec::new(),
            wire: VecDeque::new(),
            replies: VecDeque::new(),
            log: Vec::new(),
            settled: BTreeMap::new(),
            in_flight: 0,
        }
    }

    fn outputs(&mut self) {
        while let Some(output) = self.session.outputs.pop_front() {
            if let Output::Settled { order, result } = output {
                let before = self.settled.insert(order, result);
                assert_eq!(before, None, "settled twice");
            }
        }
    }

    fn step(&mut self, step: &Move) {
        match *step {
            Move::Push { channel: number } => {
                let id = MessageId(Uuid::from_u128(self.pushed.len() as u128 + 1));
                let order = self
                    .session
                    .send(channel(number), Change::message("hi"), id, false);
                self.pushed.push((order, id, channel(number)));
            }
            Move::Write(count) => {
                for _ in 0..count {
                    if let Some(frame) = self.session.next_frame(self.now) {
                        self.wire.push_back(frame);
                        self.in_flight += 1;
                    }
                }
            }
            Move::Take(fate) => self.take(fate),
            Move::Reply => {
                if let Some(text) = self.replies.pop_front() {
                    self.in_flight -= 1;
                    self.session.on_frame(reply(&text), self.now);
                }
            }
            Move::Cut { taken } => {
                for _ in 0..taken {
                    self.take(Fate::Accepted);
                }
                self.wire.clear();
                self.replies.clear();
                self.in_flight = 0;
                self.session.disconnected(self.now);
                assert_eq!(self.session.next_frame(self.now), None);
                self.session.connected(hello(), self.now);
            }
            Move::Wait { ms } => self.now += Duration::from_millis(ms),
        }
        self.outputs();
    }

    fn take(&mut self, fate: Fate) {
        let Some(frame) = self.wire.pop_front() else {
            return;
        };
        let (id, ClientFrame::Message(send)) = request(&frame) else {
            panic!("a send is expected: {frame}");
        };
        let message_id = send.client_msg_id.expect("every send has an id");
        let (channel, retry) = (send.channel, send.retry);
        if matches!(fate, Fate::Accepted | Fate::UnknownInLog) {
            let copy = self.log.iter().any(|m| m.client_msg_id == Some(message_id));
            assert!(
                retry || !copy,
                "{message_id}: a second copy that is not marked"
            );
            self.log.push(send);
        }
        let refused = |code, outcome| {
            let error = ErrorBody::new(code, "no").outcome(outcome);
            reply_error(Some(&id), &error.retry_after_ms(500))
        };
        self.replies.push_back(match fate {
            Fate::Accepted => {
                let body = MessageReply {
                    channel,
                    message_id,
                    seq: (!retry).then_some(Seq(self.log.len() as u64)),
                    ts_ms: 1,
                    fence: retry.then_some(Seq(self.log.len() as u64)),
                };
                reply_ok(&id, &body)
            }
            Fate::Limited => refused(ErrorCode::RateLimited, Outcome::Rejected),
            Fate::Refused => refused(ErrorCode::ChannelNotFound, Outcome::Rejected),
            Fate::UnknownInLog | Fate::UnknownNot => {
                refused(ErrorCode::LogUnavailable, Outcome::Unknown)
            }
        });
    }

    fn finish(&mut self) {
        for _ in 0..10_000 {
            if self.settled.len() == self.pushed.len() {
                break;
            }
            self.step(&Move::Write(64));
            self.step(&Move::Take(Fate::Accepted));
            self.step(&Move::Reply);
            self.step(&Move::Wait { ms: 100 });
        }
        assert_eq!(self.settled.len(), self.pushed.len(), "every send ends");
        for (order, id, _) in &self.pushed {
            let logged = self.log.iter().any(|m| m.client_msg_id == Some(*id));
            match &self.settled[order].result {
                Ok(_) => assert!(logged, "{id}: a false ack"),
                // Definite for this copy alone: an earlier one may be in the log.
                Err(error) if error.outcome == Some(Outcome::Unknown) => {}
                Err(_) => assert!(!logged, "{id}: a false refusal"),
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn every_send_ends_and_says_what_became_of_it(
        moves in moves(true),
        window in 1..8_usize,
    ) {
        let mut sends = Sends::new(window);
        for step in &moves {
            sends.step(step);
            prop_assert!(sends.in_flight <= window);
        }
        sends.finish();
    }

    #[test]
    fn cuts_alone_do_not_change_the_order(moves in moves(false), window in 1..8_usize) {
        let mut sends = Sends::new(window);
        for step in &moves {
            sends.step(step);
        }
        sends.finish();
        for number in 1..3 {
            let mut first: Vec<MessageId> = Vec::new();
            for id in sends.log.iter().filter(|m| m.channel == channel(number)) {
                let id = id.client_msg_id.expect("every send has an id");
                if !first.contains(&id) {
                    first.push(id);
                }
            }
            let pushed = sends.pushed.iter().filter(|p| p.2 == channel(number));
            prop_assert_eq!(first, pushed.map(|p| p.1).collect::<Vec<_>>());
        }
    }
}

/// The edge's limit: 20 a second, burst 40; closed at the fourth second with refusals in it, where
/// no 10 s lie between them.
struct Limit {
    tokens: f64,
    at: Instant,
    strikes: u32,
    struck: Option<Instant>,
    refusals: u32,
}

impl Limit {
    const RATE: f64 = 20.0;

    fn take(&mut self, now: Instant) -> Result<(), u64> {
        let passed = (now - self.at).as_secs_f64();
        self.at = now;
        self.tokens = (self.tokens + passed * Self::RATE).min(40.0);
        if self.tokens >= 1.0 {
            self.tokens -= 1.0;
            return Ok(());
        }
        self.refusals += 1;
        let ago = self.struck.map(|at| (now - at).as_secs_f64());
        if ago.is_none_or(|ago| ago >= 1.0) {
            self.strikes = match ago {
                Some(ago) if ago <= 10.0 => self.strikes + 1,
                _ => 1,
            };
            self.struck = Some(now);
        }
        Err(((1.0 - self.tokens) / Self::RATE * 1_000.0).ceil() as u64)
    }
}

#[test]
fn rate_limit_is_learnt_before_it_costs_the_connection() {
    const COUNT: usize = 3_000;
    let mut sends = Sends::new(32);
    let started = sends.now;
    let mut limit = Limit {
        tokens: 40.0,
        at: started,
        strikes: 0,
        struck: None,
        refusals: 0,
    };
    for _ in 0..COUNT {
        sends.step(&Move::Push { channel: 1 });
    }
    while sends.settled.len() < COUNT {
        sends.step(&Move::Write(64));
        // A round trip of 2 ms.
        sends.now += Duration::from_millis(2);
        while let Some(frame) = sends.wire.front() {
            let (id, _) = request(frame);
            match limit.take(sends.now) {
                Ok(()) => sends.take(Fate::Accepted),
                Err(wait) => {
                    sends.wire.pop_front();
                    let error = ErrorBody::new(ErrorCode::RateLimited, "slower")
                        .retry_after_ms(wait)
                        .outcome(Outcome::Rejected);
                    sends.replies.push_back(reply_error(Some(&id), &error));
                }
            }
            assert!(limit.strikes <= 3, "closed by the server");
            sends.step(&Move::Reply);
        }
        if let Some(at) = sends.session.next_due(sends.now) {
            assert!(at > sends.now, "no waiting without time");
            sends.now = at;
        }
    }
    let seconds = (sends.now - started).as_secs_f64();
    let least = (COUNT as f64 - 40.0) / Limit::RATE;
    assert!(seconds < 1.5 * least, "{seconds} s instead of {least} s");
    assert!(limit.refusals < 100, "{} refusals", limit.refusals);
    let ids = sends.log.iter().map(|m| m.client_msg_id);
    let pushed = sends.pushed.iter().map(|p| Some(p.1));
    assert!(ids.eq(pushed), "in the order in which they were sent");
}

#[test]
fn message_that_no_frame_can_hold_is_refused_here() {
    let mut sends = Sends::new(4);
    let text = "\u{1}".repeat(16 * 1024);
    let id = MessageId(Uuid::from_u128(1));
    let change = Change::message(text);
    sends.session.send(channel(1), change, id, false);
    assert_eq!(sends.session.next_frame(sends.now), None);
    sends.outputs();
    let error = sends.settled[&0].result.clone().expect_err("too long");
    assert_eq!(error.code, ErrorCode::TextTooLong);
    assert_eq!(error.limit, Some(65_536));
}

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
