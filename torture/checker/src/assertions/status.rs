//! A12, regress: how far a message came on its way to a device only rises, and what is told of it
//! is no more than happened.
//!
//! - What one device is told of another never goes back: receipts as its client hands them on, and
//!   the statuses that a server answers, one after the other.
//! - A cursor never lies beyond the marks that its device had sent by then; and where it stands on
//!   a row, the device had that row. (What lies below it is A6's: a device may have fetched it from
//!   history.)
//! - In the end it is no less than every mark that is durable: one that the log has, as HTTP says,
//!   or one over the WebSocket while nothing was wrong, which needs a moment.

use std::collections::HashMap;

use crate::{
    Assertion,
    findings::Findings,
    history::{Delivery, Phase},
    index::{Cursor, Index, Mark, NEVER, Told, What},
};

use super::point::Point;

const A12: Assertion = Assertion::A12;
/// A mark is gathered, logged and applied in this time while nothing is wrong.
const APPLIED_US: u64 = 5_000_000;
/// What the last faults left behind is gone after this.
const AFTER_HEAL_US: u64 = 3_000_000;

/// What a recipient's device had, and since when it listened.
#[derive(Debug, Default)]
struct Recipient {
    /// Of its first join and of each that did not go on from a cursor, with its time: what lies
    /// before, the device reads from history.
    joined: Vec<(u64, Point)>,
    /// The last of them is its last join, and its point may follow.
    learns: bool,
    had: HashMap<u32, u64>,
}

impl Recipient {
    /// Where it began to listen for the last time before `at`, as far as that is known.
    fn start(&self, at: u64) -> Option<u64> {
        let joined = self.joined.iter().filter(|(joined, _)| *joined <= at);
        joined.filter_map(|(_, point)| point.get()).max()
    }
}

/// The marks of one device in one channel.
#[derive(Debug, Default)]
struct Marks {
    /// By time; each has the highest that was sent through then.
    asked: Vec<(u64, u64, u64)>,
}

impl Marks {
    /// The highest that was sent before.
    fn through(&self, at: u64) -> (u64, u64) {
        let place = self.asked.partition_point(|(asked, ..)| *asked <= at);
        let last = self.asked[..place].last();
        last.map_or((0, 0), |(_, delivered, read)| (*delivered, *read))
    }
}

/// A device, and delivered and read through which seqs it must be.
type Owed = (u32, (u64, u64));
/// By channel and device.
type ByDevice<T> = HashMap<(u32, u32), T>;

pub(super) fn check(index: &Index, findings: &mut Findings) {
    let marks = marks(index);
    receipts(index, &marks, findings);
    told(index, &marks, findings);
    ends(index, &marks, findings);
}

fn marks(index: &Index) -> ByDevice<Marks> {
    let mut all: ByDevice<Marks> = HashMap::new();
    for mark in &index.marks {
        let marks = all.entry((mark.channel, mark.of)).or_default();
        let (delivered, read) = marks.asked.last().map_or((0, 0), |(_, d, r)| (*d, *r));
        let highest = (mark.at, delivered.max(mark.delivered), read.max(mark.read));
        marks.asked.push(highest);
    }
    all
}

fn through(marks: &ByDevice<Marks>, channel: u32, of: u32, at: u64) -> (u64, u64) {
    marks.get(&(channel, of)).map_or((0, 0), |m| m.through(at))
}

fn receipts(index: &Index, marks: &ByDevice<Marks>, findings: &mut Findings) {
    let recipients = recipients(index);
    let mut shown: HashMap<(u32, u32, u32), (u64, u64)> = HashMap::new();
    for status in &index.statuses {
        let (channel, of, at) = (status.channel, status.of, status.at);
        let asked = through(marks, channel, of, at);
        let (delivered, read) = shown.entry((status.device, channel, of)).or_default();
        findings.checked(A12, 1);
        for (what, before, now, asked) in [
            ("delivered", delivered, status.delivered, asked.0),
            ("read", read, status.read, asked.1),
        ] {
            let told = || {
                let who = index.device_name(status.device);
                format!("{who} was told of {}", place(index, channel, of))
            };
            if now < *before {
                findings.broken(A12, "regress", Some(at), || {
                    format!("{}: {what} went from {before} to {now}", told())
                });
            }
            if now > asked {
                findings.broken(A12, "beyond the marks", Some(at), || {
                    format!("{}: {what} {now}, and it had marked {asked}", told())
                });
            }
            if now > *before {
                *before = now;
                if let Some(recipient) = recipients.get(&(channel, of)) {
                    had(index, (channel, of, at), recipient, (what, now), findings);
                }
            }
        }
    }
}

fn recipients(index: &Index) -> ByDevice<Recipient> {
    let keys = index.statuses.iter().map(|s| (s.channel, s.of));
    let mut recipients: ByDevice<Recipient> = keys.map(|key| (key, Recipient::default())).collect();
    for stream in &index.streams {
        let Some(recipient) = recipients.get_mut(&(stream.channel, stream.device)) else {
            continue;
        };
        for fact in &stream.facts {
            match fact.what {
                What::Joined(join) => {
                    let join = &stream.joins[join as usize];
                    recipient.learns = !join.goes_on() || recipient.joined.is_empty();
                    if recipient.learns {
                        recipient.joined.push((fact.at, Point::of(join)));
                    }
                }
                What::Replay(_) | What::Synced(_) => {
                    if let Some((_, point)) = recipient.joined.last_mut()
                        && recipient.learns
                    {
                        point.learn(fact);
                    }
                }
                // A client marks what is on its wire, and its application has it in a moment.
                What::Wire { message, .. } | What::Given { message, .. } => {
                    recipient.had.entry(message).or_insert(fact.at);
                }
                _ => {}
            }
        }
    }
    recipients
}

fn had(
    index: &Index,
    (channel, of, told): (u32, u32, u64),
    recipient: &Recipient,
    (what, seq): (&str, u64),
    findings: &mut Findings,
) {
    let Some(row) = index.row_at(channel, seq) else {
        return;
    };
    if recipient.start(told).is_some_and(|start| seq <= start) {
        return;
    }
    findings.checked(A12, 1);
    let at = recipient.had.get(&row.message);
    if at.is_none_or(|at| *at > told) {
        findings.broken(A12, "delivered to nobody", Some(told), || {
            format!(
                "{}: {what} through {seq}, and it was not given {}",
                place(index, channel, of),
                index.named(row.message)
            )
        });
    }
}

/// What servers answered of a message's way.
fn told(index: &Index, marks: &ByDevice<Marks>, findings: &mut Findings) {
    let mut shown: HashMap<(u32, u32, u64, u32), Delivery> = HashMap::new();
    for it in &index.told {
        let key = (it.asker, it.channel, it.seq, it.of);
        let before = shown.entry(key).or_insert(it.delivery);
        findings.checked(A12, 1);
        if it.delivery < *before {
            findings.broken(A12, "regress", Some(it.at), || {
                let (from, to) = (*before, it.delivery);
                format!("{} went from {from:?} to {to:?}", message(index, it))
            });
        }
        *before = (*before).max(it.delivery);
        let asked = through(marks, it.channel, it.of, it.at);
        let beyond = match it.delivery {
            Delivery::None | Delivery::Sent => false,
            Delivery::Delivered => asked.0 < it.seq,
            Delivery::Read => asked.1 < it.seq,
        };
        if beyond {
            findings.broken(A12, "beyond the marks", Some(it.at), || {
                let (message, status) = (message(index, it), it.delivery);
                format!("{message} is {status:?}, and the device had marked {asked:?}")
            });
        }
    }
}

fn message(index: &Index, told: &Told) -> String {
    format!(
        "to {}, seq {} on its way to {}",
        index.device_name(told.asker),
        told.seq,
        place(index, told.channel, told.of)
    )
}

/// The final reads of the cursors.
fn ends(index: &Index, marks: &ByDevice<Marks>, findings: &mut Findings) {
    let Some(first) = index.cursor_reads.iter().map(|(.., at)| *at).min() else {
        return;
    };
    let mut durable: ByDevice<(u64, u64)> = HashMap::new();
    for mark in &index.marks {
        if is_durable(index, mark, first) {
            let (delivered, read) = durable.entry((mark.channel, mark.of)).or_default();
            *delivered = (*delivered).max(mark.delivered);
            *read = (*read).max(mark.read);
        }
    }
    findings.count("durable_marks", durable.len() as u64);
    let mut ends: HashMap<(u32, u32, u32), &Cursor> = HashMap::new();
    for cursor in &index.cursors {
        findings.checked(A12, 1);
        ends.insert((cursor.server, cursor.channel, cursor.of), cursor);
        let asked = through(marks, cursor.channel, cursor.of, cursor.at);
        let now = (cursor.delivered, cursor.read);
        if now.0 > asked.0 || now.1 > asked.1 || now.1 > now.0 {
            findings.broken(A12, "beyond the marks", Some(cursor.at), || {
                let place = place(index, cursor.channel, cursor.of);
                format!("{place}: the end is {now:?}, and it had marked {asked:?}")
            });
        }
    }
    let mut owed: HashMap<u32, Vec<Owed>> = HashMap::new();
    for ((channel, of), mark) in durable {
        owed.entry(channel).or_default().push((of, mark));
    }
    for (server, channel, at) in &index.cursor_reads {
        for (of, mark) in owed.get(channel).into_iter().flatten() {
            findings.checked(A12, 1);
            let end = ends.get(&(*server, *channel, *of));
            let now = end.map_or((0, 0), |cursor| (cursor.delivered, cursor.read));
            if now.0 < mark.0 || now.1 < mark.1 {
                findings.broken(A12, "mark lost", Some(*at), || {
                    format!(
                        "{}: the end is {now:?} by {}, although {mark:?} was marked for good",
                        place(index, *channel, *of),
                        index.processes.name(*server)
                    )
                });
            }
        }
    }
}

fn is_durable(index: &Index, mark: &Mark, read: u64) -> bool {
    if mark.answered == NEVER || mark.answered + APPLIED_US > read {
        return false;
    }
    // One that is on its way when a process dies may be lost, and is made up for by the next one.
    let calm = index
        .phase(Phase::Faults)
        .is_some_and(|faults| mark.answered + APPLIED_US < faults);
    let healed = index
        .phase(Phase::Healed)
        .is_some_and(|healed| mark.at > healed + AFTER_HEAL_US);
    mark.waits || calm || healed
}

fn place(index: &Index, channel: u32, of: u32) -> String {
    let (of, channel) = (index.device_name(of), index.channel_name(channel));
    format!("{of} in {channel}")
}
