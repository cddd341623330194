use hubbub_protocol::{ChannelId, MessageId, Record};
use proptest::prelude::*;
use uuid::Uuid;

use super::*;

const CHANNEL: &str = "C000000005";
const KEY: i64 = 5;

fn channel() -> ChannelId {
    CHANNEL.parse().expect("an id")
}

fn user(number: u8) -> UserId {
    UserId::new(i64::from(number) + 1).expect("from 1")
}

/// A record at a seq, with its append time.
#[derive(Debug, Clone)]
struct Logged {
    seq: Seq,
    record: Record,
}

impl Logged {
    fn ts_ms(&self) -> i64 {
        self.seq.to_db() * 10
    }
}

/// What the store has: bodies by seq, old texts by (target, seq).
#[derive(Debug, Default, PartialEq, Eq)]
struct Rows {
    bodies: BTreeMap<Seq, Body>,
    versions: BTreeMap<(Seq, Seq), (UserId, i64, String)>,
}

/// The store as the consumer's transaction writes it, without the database.
#[derive(Debug)]
struct Store {
    most_edits: u32,
    rows: BTreeMap<Place, String>,
    versions: BTreeMap<(Place, Seq), OldText>,
    ids: BTreeSet<(UserId, MessageId)>,
    without_effect: u64,
}

impl Store {
    fn new(most_edits: u32) -> Self {
        Self {
            most_edits,
            rows: BTreeMap::new(),
            versions: BTreeMap::new(),
            ids: BTreeSet::new(),
            without_effect: 0,
        }
    }

    fn write(&mut self, batch: &[Logged]) {
        let mut kept = Vec::new();
        for logged in batch {
            let key = (logged.record.user(), logged.record.message_id());
            if self.ids.insert(key) {
                let body = logged.record.clone().body(logged.ts_ms()).encode();
                self.rows.insert((KEY, logged.seq), body.clone());
                kept.push((logged, Effect::of(&logged.record), body));
            }
        }
        let steps: Vec<Step<'_>> = kept
            .iter()
            .map(|(logged, effect, body)| Step {
                place: (KEY, logged.seq),
                user: logged.record.user(),
                ts_ms: logged.ts_ms(),
                effect,
                body,
            })
            .collect();
        let mut fold = Fold::new(self.most_edits);
        for step in &steps {
            if let Some(on) = step.effect.on() {
                self.know(&mut fold, (KEY, on));
            }
        }
        for root in fold.missing_roots(&steps) {
            self.know(&mut fold, root);
        }
        for step in steps {
            fold.step(step);
        }
        let deleted: Vec<Place> = fold.deleted().collect();
        let stored: Vec<(Place, Seq)> = self
            .versions
            .keys()
            .filter(|(target, _)| deleted.contains(target))
            .copied()
            .collect();
        for place in fold.unknown_edits(&stored) {
            self.know(&mut fold, place);
        }
        let folded = fold.finish().expect("bodies are JSON");
        self.without_effect += folded.without_effect;
        self.versions
            .retain(|(target, _), _| !folded.deleted.contains(target));
        for old in folded.old_texts {
            assert!(self.versions.insert((old.target, old.seq), old).is_none());
        }
        for (place, body) in folded.bodies {
            assert!(self.rows.insert(place, body).is_some(), "{place:?}");
        }
    }

    fn know(&self, fold: &mut Fold, place: Place) {
        if let Some(body) = self.rows.get(&place) {
            fold.know(place, body).expect("a body");
        }
    }

    fn rows(&self) -> Rows {
        let read = |body: &String| serde_json::from_str(body).expect("a body");
        Rows {
            bodies: (self.rows.iter())
                .map(|((_, seq), body)| (*seq, read(body)))
                .collect(),
            versions: (self.versions.values())
                .map(|old| {
                    let key = (old.target.1, old.seq);
                    (key, (old.user, old.ts_ms, old.text.clone()))
                })
                .collect(),
        }
    }
}

/// What the log means, worked out for each message by itself from the whole log.
struct Model<'a> {
    log: Vec<&'a Logged>,
    most_edits: u32,
}

impl<'a> Model<'a> {
    fn new(log: &'a [Logged], most_edits: u32) -> Self {
        let mut ids = BTreeSet::new();
        let first =
            |logged: &&Logged| ids.insert((logged.record.user(), logged.record.message_id()));
        Self {
            log: log.iter().filter(first).collect(),
            most_edits,
        }
    }

    fn message(&self, seq: Seq) -> Option<&'a Logged> {
        let found = self.log.iter().find(|logged| logged.seq == seq)?;
        matches!(found.record, Record::Message { .. }).then_some(found)
    }

    fn later(&self, seq: Seq) -> impl Iterator<Item = &'a Logged> + '_ {
        self.log.iter().filter(move |l| l.seq > seq).copied()
    }

    /// When the message was deleted for good.
    fn deleted(&self, message: &Logged) -> Option<Seq> {
        self.later(message.seq)
            .find(|later| match &later.record {
                Record::Delete {
                    target,
                    user,
                    as_admin,
                    ..
                } => *target == message.seq && (*as_admin || *user == message.record.user()),
                _ => false,
            })
            .map(|later| later.seq)
    }

    /// The edits that had an effect while the message stood.
    fn edits(&self, message: &Logged) -> Vec<&'a Logged> {
        let end = self.deleted(message).unwrap_or(Seq::MAX);
        let counts = |later: &&Logged| match &later.record {
            Record::Edit {
                target,
                user,
                as_admin,
                ..
            } => {
                *target == message.seq
                    && later.seq < end
                    && (*as_admin || *user == message.record.user())
            }
            _ => false,
        };
        let most = usize::try_from(self.most_edits).expect("small");
        self.later(message.seq).filter(counts).take(most).collect()
    }

    fn reactions(&self, message: &Logged) -> (Vec<Reaction>, u64) {
        let end = self.deleted(message).unwrap_or(Seq::MAX);
        let mut given: Vec<(String, Vec<UserId>)> = Vec::new();
        let mut effective = 0;
        for later in self.later(message.seq).filter(|l| l.seq < end) {
            let Record::Reaction {
                target,
                user,
                reaction,
                change,
                ..
            } = &later.record
            else {
                continue;
            };
            if *target != message.seq {
                continue;
            }
            let has = given
                .iter()
                .any(|(r, users)| r == reaction && users.contains(user));
            if has == (*change == ReactionChange::Added) {
                continue;
            }
            effective += 1;
            if has {
                for (_, users) in given.iter_mut().filter(|(r, _)| r == reaction) {
                    users.retain(|u| u != user);
                }
                given.retain(|(_, users)| !users.is_empty());
            } else if let Some((_, users)) = given.iter_mut().find(|(r, _)| r == reaction) {
                users.push(*user);
            } else {
                given.push((reaction.clone(), vec![*user]));
            }
        }
        let reaction = |(reaction, users)| Reaction { reaction, users };
        (given.into_iter().map(reaction).collect(), effective)
    }

    fn is_reply_to(&self, reply: &Logged, root: &Logged) -> bool {
        root.record.thread().is_none()
            && reply.seq > root.seq
            && reply.record.thread() == Some(root.seq)
    }

    fn replies(&self, root: &Logged) -> Option<Box<Replies>> {
        // Every coming and going of a reply, by the seq at which it happens.
        let mut events: BTreeMap<Seq, (bool, &Logged)> = BTreeMap::new();
        for reply in self.log.iter().filter(|l| self.is_reply_to(l, root)) {
            events.insert(reply.seq, (true, reply));
            if let Some(deleted) = self.deleted(reply) {
                events.insert(deleted, (false, reply));
            }
        }
        let mut alive: Vec<Seq> = Vec::new();
        let mut last_seq = Seq::ZERO;
        let mut users: Vec<UserId> = Vec::new();
        for (comes, reply) in events.into_values() {
            if comes {
                alive.push(reply.seq);
                last_seq = reply.seq;
                users.push(reply.record.user());
            } else {
                alive.retain(|seq| *seq != reply.seq);
                if alive.is_empty() {
                    users.clear();
                }
            }
        }
        let mut seen = BTreeSet::new();
        users.retain(|user| seen.insert(*user));
        (!alive.is_empty()).then(|| {
            Box::new(Replies {
                count: alive.len() as u64,
                last_seq,
                users,
            })
        })
    }

    fn text(record: &Record) -> String {
        match record {
            Record::Message { text, .. } | Record::Edit { text, .. } => text.clone(),
            _ => String::new(),
        }
    }

    fn rows(&self) -> Rows {
        let mut rows = Rows::default();
        for logged in &self.log {
            let mut body = logged.record.clone().body(logged.ts_ms());
            match &mut body {
                Body::Message {
                    text,
                    edited,
                    deleted,
                    reactions,
                    replies,
                    ..
                } => {
                    let edits = self.edits(logged);
                    *replies = self.replies(logged);
                    *deleted = self.deleted(logged).is_some();
                    if *deleted {
                        text.clear();
                    } else {
                        *reactions = self.reactions(logged).0;
                        let said: Vec<&Logged> =
                            [*logged].into_iter().chain(edits.iter().copied()).collect();
                        if let [before @ .., last] = &said[..]
                            && !before.is_empty()
                        {
                            *text = Self::text(&last.record);
                            *edited = Some(Edited {
                                seq: last.seq,
                                ts_ms: last.ts_ms(),
                                user: last.record.user(),
                                count: u32::try_from(before.len()).expect("small"),
                            });
                            for old in before {
                                let said = Self::text(&old.record);
                                let version = (old.record.user(), old.ts_ms(), said);
                                rows.versions.insert((logged.seq, old.seq), version);
                            }
                        }
                    }
                }
                Body::MessageChanged { target, text, .. } => {
                    let stands = self.message(*target).is_some_and(|message| {
                        self.deleted(message).is_none()
                            && self.edits(message).iter().any(|e| e.seq == logged.seq)
                    });
                    if !stands {
                        text.clear();
                    }
                }
                _ => {}
            }
            rows.bodies.insert(logged.seq, body);
        }
        rows
    }

    fn without_effect(&self) -> u64 {
        let steps = self
            .log
            .iter()
            .filter(|l| Effect::of(&l.record) != Effect::None);
        let messages = || {
            let all = self.log.iter();
            all.filter(|l| matches!(l.record, Record::Message { .. }))
        };
        let effective: u64 = messages()
            .map(|message| {
                let deleted = u64::from(self.deleted(message).is_some());
                let replies = messages().filter(|l| self.is_reply_to(l, message)).count();
                let edits = self.edits(message).len();
                deleted + (replies + edits) as u64 + self.reactions(message).1
            })
            .sum();
        steps.count() as u64 - effective
    }
}

/// One record to be: who, what, about which of the earlier records.
#[derive(Debug, Clone)]
enum Act {
    Say { thread: Option<u8> },
    Edit { target: u8, as_admin: bool },
    Delete { target: u8, as_admin: bool },
    React { target: u8, which: u8, added: bool },
    Name,
}

fn act() -> impl Strategy<Value = Act> {
    // Few, so that many records meet at the same message.
    let target = 0..9_u8;
    prop_oneof![
        3 => proptest::option::weighted(0.6, target.clone()).prop_map(|thread| Act::Say { thread }),
        3 => (target.clone(), proptest::bool::weighted(0.3))
            .prop_map(|(target, as_admin)| Act::Edit { target, as_admin }),
        1 => (target.clone(), proptest::bool::weighted(0.3))
            .prop_map(|(target, as_admin)| Act::Delete { target, as_admin }),
        4 => (target, 0..2_u8, proptest::bool::weighted(0.6))
            .prop_map(|(target, which, added)| Act::React { target, which, added }),
        1 => Just(Act::Name),
    ]
}

/// Every fourth seq is a hole: a target may be absent, the record itself, or a later one. `ids`
/// are drawn from so few that records are copies of earlier ones now and then.
fn log_of(acts: &[(Act, u8, u8)]) -> Vec<Logged> {
    let at = |target: u8| Seq(u64::from(target) + 1);
    (0_u64..)
        .zip(acts)
        .map(|(n, (act, who, id))| {
            let (who, id) = (user(*who), MessageId(Uuid::from_u128(u128::from(*id))));
            let text = format!("text {n}");
            let record = match act {
                Act::Say { thread } => Record::reply(channel(), who, id, text, thread.map(at)),
                Act::Edit { target, as_admin } => {
                    Record::edit(channel(), who, id, at(*target), text, *as_admin)
                }
                Act::Delete { target, as_admin } => {
                    Record::delete(channel(), who, id, at(*target), *as_admin)
                }
                Act::React {
                    target,
                    which,
                    added,
                } => {
                    let change = if *added {
                        ReactionChange::Added
                    } else {
                        ReactionChange::Removed
                    };
                    let reaction = format!("r{which}");
                    Record::reaction(channel(), who, id, at(*target), reaction, change)
                }
                Act::Name => Record::identity(channel(), who, id, 2),
            };
            Logged {
                seq: Seq(n + n / 3 + 1),
                record,
            }
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// Whatever is edited, deleted, reacted to and answered, by whomever, with copies, and
    /// wherever the batches are cut: the rows are those that the whole log means.
    #[test]
    fn rows_are_what_the_log_means_wherever_batches_are_cut(
        acts in prop::collection::vec((act(), 0..2_u8, 0..120_u8), 1..40),
        cuts in prop::collection::vec(any::<bool>(), 40),
        most_edits in prop_oneof![1..4_u32, Just(limits::EDITS_PER_MESSAGE)],
    ) {
        let log = log_of(&acts);
        let mut store = Store::new(most_edits);
        let mut batch = Vec::new();
        for (logged, cut) in log.iter().zip(cuts) {
            batch.push(logged.clone());
            if cut {
                store.write(&std::mem::take(&mut batch));
            }
        }
        store.write(&batch);
        let model = Model::new(&log, most_edits);
        prop_assert_eq!(store.rows(), model.rows());
        prop_assert_eq!(store.without_effect, model.without_effect());
    }
}

fn react(seq: u64, who: u16, reaction: &str) -> Logged {
    let who = UserId::new(i64::from(who)).expect("from 1");
    let id = MessageId(Uuid::from_u128(u128::from(seq)));
    let added = ReactionChange::Added;
    Logged {
        seq: Seq(seq),
        record: Record::reaction(channel(), who, id, Seq(1), reaction.to_owned(), added),
    }
}

#[test]
fn reactions_and_names_in_a_thread_are_bounded() {
    let root = MessageId(Uuid::from_u128(1));
    let mut log = vec![Logged {
        seq: Seq(1),
        record: Record::message(channel(), user(0), root, "hi".to_owned()),
    }];
    for n in 2..=600_u16 {
        log.push(react(u64::from(n), n, "+1"));
    }
    for n in 601..=700_u16 {
        log.push(react(u64::from(n), n, &format!("r{n}")));
    }
    for n in 701..=730_u16 {
        let who = UserId::new(i64::from(n)).expect("from 1");
        let id = MessageId(Uuid::from_u128(u128::from(n)));
        log.push(Logged {
            seq: Seq(u64::from(n)),
            record: Record::reply(channel(), who, id, "re".to_owned(), Some(Seq(1))),
        });
    }
    let mut store = Store::new(limits::EDITS_PER_MESSAGE);
    for batch in log.chunks(97) {
        store.write(batch);
    }
    let rows = store.rows();
    let Some(Body::Message {
        reactions, replies, ..
    }) = rows.bodies.get(&Seq(1))
    else {
        panic!("the root is a message");
    };
    assert_eq!(reactions.len(), limits::REACTIONS_PER_MESSAGE);
    assert_eq!(reactions[0].users.len(), limits::USERS_PER_REACTION);
    let replies = replies.as_ref().expect("there are replies");
    assert_eq!((replies.count, replies.last_seq), (30, Seq(730)));
    assert_eq!(replies.users.len(), limits::REPLY_USERS);
    // 599 gave the one, of whom 500 are kept; 100 gave others, of which 63 are kept.
    assert_eq!(store.without_effect, 99 + 37);
}
