//! A6, the order of deliveries: an ordered join carries strictly increasing seqs except after a
//! `replay`, and never a shadow; and nobody is handed a reply before what it answers, except where
//! that had to be repaired (contract P4). What plain joins swapped on the wire is counted.
//!
//! That a message came late by repair is told in five ways: it looks like a repair on the wire
//! (see [`super::repaired`]), it came behind a `replay`, it is a shadow, so that its row's copy was
//! lost, it came when it was stored already (an ordered join had it), which no live message does, or
//! it came more than [`LATE_US`] after its sender had the `ok` or after the first device had it.

use std::collections::HashMap;

use crate::{
    Assertion,
    findings::Findings,
    index::{Fact, Index, NEVER, NONE, Stream, What},
};

use super::{point::Point, repaired};

const A6: Assertion = Assertion::A6;
/// Live messages reach every healthy edge much sooner.
const LATE_US: u64 = 100_000;
/// One edge hears that something was stored so much before another.
const APART_US: u64 = 5_000;

pub(super) fn check(index: &Index, findings: &mut Findings) {
    let mut flags = Vec::new();
    let mut replies = Replies::new(index);
    for stream in &index.streams {
        repaired::flags(stream, &mut flags);
        wire(index, stream, &flags, findings);
        replies.stream(stream, &flags, findings);
    }
}

fn wire(index: &Index, stream: &Stream, flags: &[bool], findings: &mut Findings) {
    let (mut ordered, mut catching_up, mut connection) = (false, false, 0);
    let (mut last, mut plain, mut strict, mut swapped, mut repairs) = (0, 0, 0, 0, 0);
    for (fact, repaired) in stream.facts.iter().zip(flags) {
        match fact.what {
            What::Joined(join) => {
                let join = stream.joins[join as usize];
                ordered = join.ordered;
                catching_up = join.goes_on();
                connection = fact.connection;
                last = 0;
            }
            What::Replay(since) => {
                catching_up = true;
                last = since;
            }
            What::Synced(_) => catching_up = false,
            What::Wire { message, seq } if fact.connection == connection => {
                if ordered {
                    strict += 1;
                    increasing(index, stream, fact, (message, seq), last, findings);
                } else {
                    plain += 1;
                    if !catching_up {
                        repairs += u64::from(*repaired);
                        swapped += u64::from(seq < last && !repaired);
                    }
                }
                last = seq;
            }
            _ => {}
        }
    }
    findings.checked(A6, strict);
    findings.count("ordered_receipts", strict);
    findings.count("plain_receipts", plain);
    findings.count("swapped_on_the_wire", swapped);
    findings.count("repairs", repairs);
}

fn increasing(
    index: &Index,
    stream: &Stream,
    fact: &Fact,
    (message, seq): (u32, u64),
    last: u64,
    findings: &mut Findings,
) {
    if seq <= last {
        findings.broken(A6, "nonmonotonic", Some(fact.at), || {
            let (place, connection) = (index.place(stream), fact.connection);
            format!("{place}, ordered, connection {connection}: seq {seq} came after {last}")
        });
    }
    let kept = index.message(message).kept;
    if kept != 0 && kept != seq {
        findings.broken(A6, "shadow on an ordered join", Some(fact.at), || {
            let (place, name) = (index.place(stream), index.named(message));
            format!("{place}: {name} came with seq {seq}, the store has {kept}")
        });
    }
}

/// Who was handed what, before what.
struct Replies<'a> {
    index: &'a Index,
    /// When any device had each message on the wire first.
    first: Vec<u64>,
    /// When an ordered join had each message first: it was stored by then.
    stored: Vec<u64>,
    /// The stream in which a message was handed on last.
    given: Vec<u32>,
    /// When each message came on the wire last, and whether as a repair; of this stream alone if
    /// it bears its mark.
    came: Vec<(u32, u64, bool)>,
    now: u32,
    /// Replies that came before what they answer, by that.
    early: HashMap<u32, Vec<(u32, u64)>>,
}

impl<'a> Replies<'a> {
    fn new(index: &'a Index) -> Self {
        let mut first = vec![NEVER; index.messages.len()];
        let mut stored = first.clone();
        for stream in &index.streams {
            let mut ordered = false;
            for fact in &stream.facts {
                match fact.what {
                    What::Joined(join) => ordered = stream.joins[join as usize].ordered,
                    What::Wire { message, .. } => {
                        let first = &mut first[message as usize];
                        *first = fact.at.min(*first);
                        if ordered {
                            let stored = &mut stored[message as usize];
                            *stored = fact.at.min(*stored);
                        }
                    }
                    _ => {}
                }
            }
        }
        Self {
            index,
            first,
            stored,
            given: vec![0; index.messages.len()],
            came: vec![(0, NEVER, false); index.messages.len()],
            now: 0,
            early: HashMap::new(),
        }
    }

    fn stream(&mut self, stream: &Stream, flags: &[bool], findings: &mut Findings) {
        self.now += 1;
        // What has never come by the end is skipped, which is another finding.
        self.early.clear();
        let mut point = Point::default();
        let (mut replies, mut catching_up) = (0, false);
        for (fact, repaired) in stream.facts.iter().zip(flags) {
            match fact.what {
                What::Joined(join) => {
                    let join = stream.joins[join as usize];
                    catching_up = join.goes_on();
                    if point.get().is_none() || !join.goes_on() {
                        point = Point::of(&join);
                    }
                }
                What::Replay(_) | What::Synced(_) => {
                    catching_up = matches!(fact.what, What::Replay(_));
                    point.learn(fact);
                }
                What::Wire { message, seq } => {
                    // Where a shadow came first, the row's own copy was lost on the way.
                    let lost = seq != self.index.message(message).kept;
                    let repaired = *repaired || catching_up || lost;
                    self.came[message as usize] = (self.now, fact.at, repaired);
                }
                What::Given { message, .. } => {
                    self.given[message as usize] = self.now;
                    if let Some(early) = self.early.remove(&message) {
                        self.early(stream, message, &early, findings);
                    }
                    let answers = self.index.message(message).answers;
                    if answers != NONE {
                        replies += 1;
                        let kept = self.index.message(answers).kept;
                        let owed = point.get().is_some_and(|point| kept > point);
                        if owed && self.given[answers as usize] != self.now {
                            let early = self.early.entry(answers).or_default();
                            early.push((message, fact.at));
                        }
                    }
                }
                What::Asked | What::Moved { .. } | What::Left { .. } => {}
            }
        }
        findings.checked(A6, replies);
        findings.count("replies", replies);
    }

    fn early(&self, stream: &Stream, answered: u32, early: &[(u32, u64)], findings: &mut Findings) {
        let (mark, at, repaired) = self.came[answered as usize];
        let message = self.index.message(answered);
        let reference = message.acked.min(self.first[answered as usize]);
        let stored = at.saturating_add(APART_US) >= self.stored[answered as usize];
        let late = mark == self.now && (stored || at > reference.saturating_add(LATE_US));
        if late || (mark == self.now && repaired) {
            findings.count("replies_by_repair", early.len() as u64);
            return;
        }
        for (reply, at) in early {
            findings.broken(A6, "reply before what it answers", Some(*at), || {
                format!(
                    "{} was handed {} before {}, which was not late",
                    self.index.place(stream),
                    self.index.named(*reply),
                    self.index.id(answered)
                )
            });
        }
    }
}
