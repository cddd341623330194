//! What becomes of what the session takes.

use super::*;

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
