//! What the session delivers, under any server that keeps its promises.

use super::*;

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
