//! What is left of the assertions for a system without store and seqs: what was acknowledged takes
//! the place of the store, and a sender's own messages are all the order there is.
//!
//! A message is owed to a device that listened from before the send until [`MARGIN_US`] after the
//! acknowledgement, or to the end. A listening goes over the reconnects that say that they resume
//! (`since` and `recovered`), and is cut as with seqs by the others; what was lost between two
//! listenings is counted as `missed_while_away`, and broken only within one.

use std::collections::HashMap;

use crate::{
    Assertion,
    findings::Findings,
    index::{Index, NEVER, Stream, What},
};

use super::phantom;

/// Who goes away within this of the acknowledgement is owed nothing: the message was on its way.
const MARGIN_US: u64 = 2_000_000;

/// A listening: from the answer to a join until it is cut.
#[derive(Debug, Clone, Copy)]
struct Stay {
    from: u64,
    to: u64,
}

pub(super) fn check(index: &Index, findings: &mut Findings) {
    phantom::corrupt(index, findings);
    let owed = owed(index);
    let mut given = vec![0_u32; index.messages.len()];
    for (stream, mark) in index.streams.iter().zip(1..) {
        handed_on(index, stream, &mut given, mark, findings);
        senders_order(index, stream, findings);
        let stays = stays(index, stream);
        lost(
            index,
            stream,
            &owed[stream.channel as usize],
            &stays,
            |message| given[message as usize] == mark,
            findings,
        );
    }
}

/// The acknowledged messages of each channel, by the time of their sending.
fn owed(index: &Index) -> Vec<Vec<u32>> {
    let mut owed = vec![Vec::new(); index.channels.len()];
    for (number, message) in (0..).zip(&index.messages) {
        if message.acked != NEVER {
            owed[message.channel as usize].push(number);
        }
    }
    for messages in &mut owed {
        messages.sort_by_key(|m| index.message(*m).invoked);
    }
    owed
}

fn handed_on(
    index: &Index,
    stream: &Stream,
    given: &mut [u32],
    mark: u32,
    findings: &mut Findings,
) {
    let mut count = 0;
    for fact in &stream.facts {
        let What::Given { message, .. } = fact.what else {
            continue;
        };
        count += 1;
        let it = index.message(message);
        if it.attempts == 0 || it.attempts == it.rejected {
            findings.broken(Assertion::A2, "phantom", Some(fact.at), || {
                let (place, name) = (index.place(stream), index.named(message));
                format!("{place} was handed {name}, which nobody sent or which was rejected")
            });
        }
        if given[message as usize] == mark {
            findings.broken(Assertion::A3, "handed on twice", Some(fact.at), || {
                let (place, name) = (index.place(stream), index.named(message));
                format!("{place} was handed {name} again")
            });
        }
        given[message as usize] = mark;
    }
    findings.checked(Assertion::A2, count);
    findings.checked(Assertion::A3, count);
}

/// By sender, the latest sending of what was handed on: whatever was acknowledged before that
/// began must have come before.
fn senders_order(index: &Index, stream: &Stream, findings: &mut Findings) {
    let mut latest: HashMap<u32, u32> = HashMap::new();
    for fact in &stream.facts {
        let What::Given { message, .. } = fact.what else {
            continue;
        };
        let it = index.message(message);
        let last = latest.entry(it.user).or_insert(message);
        let invoked = index.message(*last).invoked;
        findings.checked(Assertion::A9, 1);
        if it.acked < invoked && invoked != NEVER {
            findings.broken(Assertion::A9, "a sender's order", Some(fact.at), || {
                format!(
                    "{} was handed {} after {}, which was sent when the former had its ok",
                    index.place(stream),
                    index.named(message),
                    index.id(*last)
                )
            });
        } else if it.invoked > invoked && it.invoked != NEVER {
            *last = message;
        }
    }
}

fn stays(index: &Index, stream: &Stream) -> Vec<Stay> {
    let device = &index.devices[stream.device as usize];
    let mut stays: Vec<Stay> = Vec::new();
    // The listening that runs, and its connection.
    let mut now: Option<(u64, u32)> = None;
    for fact in &stream.facts {
        match fact.what {
            What::Joined(join) => {
                let goes_on = stream.joins[join as usize].goes_on();
                if let Some((from, connection)) = now
                    && !goes_on
                {
                    let to = device.closed(connection).min(fact.at);
                    stays.push(Stay { from, to });
                }
                let from = now.filter(|_| goes_on).map_or(fact.at, |(from, _)| from);
                now = Some((from, fact.connection));
            }
            What::Left { .. } => {
                if let Some((from, _)) = now.take() {
                    stays.push(Stay { from, to: fact.at });
                }
            }
            _ => {}
        }
    }
    if let Some((from, connection)) = now {
        let to = device.closed(connection);
        let to = if to > index.finally() { NEVER } else { to };
        stays.push(Stay { from, to });
    }
    stays
}

fn lost(
    index: &Index,
    stream: &Stream,
    owed: &[u32],
    stays: &[Stay],
    given: impl Fn(u32) -> bool,
    findings: &mut Findings,
) {
    let (Some(first), Some(last)) = (stays.first(), stays.last()) else {
        return;
    };
    let mut rest = stays;
    let begins = owed.partition_point(|m| index.message(*m).invoked <= first.from);
    for number in &owed[begins..] {
        let message = index.message(*number);
        let until = message.acked.saturating_add(MARGIN_US);
        if until > last.to {
            continue;
        }
        while let Some((stay, later)) = rest.split_first()
            && stay.to < message.invoked
        {
            rest = later;
        }
        let within = rest
            .first()
            .is_some_and(|s| s.from < message.invoked && until <= s.to);
        findings.checked(Assertion::A6, u64::from(within));
        if given(*number) {
            continue;
        }
        if within {
            findings.broken(Assertion::A6, "skipped", Some(message.acked), || {
                let (place, name) = (index.place(stream), index.named(*number));
                format!("{place} listened all the while and was never handed {name}")
            });
        } else {
            findings.count("missed_while_away", 1);
        }
    }
}
