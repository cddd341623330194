//! Histories of a system without store and seqs.

use hubbub_checker::{
    Assertion, Entry, Event, Scope, Verdict, check_within,
    history::{Kind, Phase, Record, Via},
};
use hubbub_protocol::Seq;

use crate::{names, shown};

const SECOND: u64 = 1_000_000;

fn record(message: usize) -> Record {
    let it = names::Message {
        channel: 0,
        user: 0,
        kind: Kind::Message,
    };
    names::record(message, &it, 0)
}

/// What a test writes down, a second apart.
#[derive(Default)]
struct Script {
    entries: Vec<Entry>,
    seconds: u64,
}

impl Script {
    fn then(&mut self, event: Event) -> &mut Self {
        self.seconds += 1;
        let at_us = self.seconds * SECOND;
        self.entries.push(Entry { at_us, event });
        self
    }

    fn opened(&mut self, connection: u64) -> &mut Self {
        self.then(Event::Opened {
            device: "reader-0.0".to_owned(),
            user: names::user(9),
            connection,
            pod: "edge-1".to_owned(),
        })
    }

    fn joined(&mut self, connection: u64, since: Option<u64>) -> &mut Self {
        self.then(Event::Joined {
            device: "reader-0.0".to_owned(),
            connection,
            channel: names::channel(0),
            since: since.map(Seq),
            head: None,
            recovered: since.is_some(),
            ordered: false,
        })
    }

    fn closed(&mut self, connection: u64) -> &mut Self {
        self.then(Event::Closed {
            device: "reader-0.0".to_owned(),
            connection,
            code: None,
        })
    }

    fn invoke(&mut self, message: usize) -> &mut Self {
        self.then(Event::Invoke {
            op: message as u64,
            record: record(message),
            answers: None,
            retry: false,
        })
    }

    fn ok(&mut self, message: usize) -> &mut Self {
        let op = message as u64;
        self.then(Event::Ok { op, seq: None })
    }

    fn given(&mut self, message: usize) -> &mut Self {
        self.then(Event::Given {
            device: "reader-0.0".to_owned(),
            record: record(message),
            via: Via::Live,
        })
    }

    fn check(&mut self) -> Verdict {
        self.seconds += 10;
        self.then(Event::Phase(Phase::Final));
        check_within(&Scope::delivery(), std::mem::take(&mut self.entries))
    }
}

fn breaks(verdict: &Verdict, expected: &[(Assertion, u64)]) {
    let broken: Vec<_> = verdict.broken.iter().map(|(a, n)| (*a, *n)).collect();
    assert_eq!(broken, expected, "{}", shown(verdict));
}

#[test]
fn what_was_delivered_in_order_passes() {
    let mut script = Script::default();
    script.opened(1).joined(1, None);
    script.invoke(1).given(1).ok(1).invoke(2).ok(2).given(2);
    let verdict = script.check();
    breaks(&verdict, &[]);
    for assertion in [Assertion::A2, Assertion::A3, Assertion::A6, Assertion::A9] {
        assert!(verdict.checked[&assertion] > 0, "{assertion}");
    }
}

#[test]
fn a_message_lost_while_listening_is_skipped() {
    let mut script = Script::default();
    script.opened(1).joined(1, None).invoke(1).ok(1);
    breaks(&script.check(), &[(Assertion::A6, 1)]);
}

#[test]
fn a_message_lost_over_a_resume_is_skipped() {
    let mut script = Script::default();
    script.opened(1).joined(1, None).closed(1).invoke(1).ok(1);
    script.opened(2).joined(2, Some(0));
    breaks(&script.check(), &[(Assertion::A6, 1)]);
}

#[test]
fn a_message_missed_while_away_is_counted() {
    let mut script = Script::default();
    script.opened(1).joined(1, None).closed(1).invoke(1).ok(1);
    script.opened(2).joined(2, None);
    let verdict = script.check();
    breaks(&verdict, &[]);
    assert_eq!(verdict.counts["missed_while_away"], 1);
}

#[test]
fn who_has_just_gone_is_owed_nothing() {
    let mut script = Script::default();
    script.opened(1).joined(1, None).invoke(1).ok(1).closed(1);
    breaks(&script.check(), &[]);
}

#[test]
fn a_second_copy_a_phantom_and_a_swap_are_named() {
    let mut script = Script::default();
    script.opened(1).joined(1, None);
    script.invoke(1).ok(1).invoke(2).ok(2);
    script.given(2).given(1).given(1).given(3);
    let expected = [(Assertion::A2, 1), (Assertion::A3, 1), (Assertion::A9, 2)];
    breaks(&script.check(), &expected);
}
