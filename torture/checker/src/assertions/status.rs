//! A12, regress: a delivery status only rises, and says no more than what the device was given:
//! where a cursor stands on a row, the device was given that row. (What lies below it is A6's: a
//! device may have fetched it from history.)

use std::collections::HashMap;

use crate::{
    Assertion,
    findings::Findings,
    index::{Index, Status, What},
};

use super::point::Point;

const A12: Assertion = Assertion::A12;

/// What a recipient's device was given, and since when it listened.
#[derive(Debug, Default)]
struct Recipient {
    /// Of its first join.
    joined: Option<Point>,
    given: HashMap<u32, u64>,
}

pub(super) fn check(index: &Index, findings: &mut Findings) {
    let recipients = recipients(index);
    let mut shown: HashMap<(u32, u32, u32), (u64, u64)> = HashMap::new();
    for status in &index.statuses {
        let key = (status.device, status.channel, status.of);
        let (delivered, read) = shown.entry(key).or_default();
        findings.checked(A12, 1);
        for (what, before, now) in [
            ("delivered", delivered, status.delivered),
            ("read", read, status.read),
        ] {
            if now < *before {
                findings.broken(A12, "regress", Some(status.at), || {
                    format!(
                        "{}: {what} went from {before} to {now}",
                        named(index, status)
                    )
                });
            }
            if now > *before {
                *before = now;
                if let Some(recipient) = recipients.get(&(status.of, status.channel)) {
                    given(index, status, recipient, (what, now), findings);
                }
            }
        }
    }
}

fn recipients(index: &Index) -> HashMap<(u32, u32), Recipient> {
    let keys = index.statuses.iter().map(|s| (s.of, s.channel));
    let mut recipients: HashMap<_, Recipient> =
        keys.map(|key| (key, Recipient::default())).collect();
    for stream in &index.streams {
        let Some(recipient) = recipients.get_mut(&(stream.device, stream.channel)) else {
            continue;
        };
        for fact in &stream.facts {
            match fact.what {
                What::Joined(join) => {
                    let first = Point::of(&stream.joins[join as usize]);
                    recipient.joined.get_or_insert(first);
                }
                What::Replay(_) | What::Synced(_) => {
                    if let Some(point) = &mut recipient.joined {
                        point.learn(fact);
                    }
                }
                What::Given { message, .. } => {
                    recipient.given.entry(message).or_insert(fact.at);
                }
                _ => {}
            }
        }
    }
    recipients
}

fn given(
    index: &Index,
    status: &Status,
    recipient: &Recipient,
    (what, seq): (&str, u64),
    findings: &mut Findings,
) {
    let rows = index.rows_of(status.channel);
    let Ok(place) = rows.binary_search_by_key(&seq, |row| row.seq) else {
        return;
    };
    let start = recipient.joined.and_then(|point| point.get());
    if start.is_some_and(|start| seq <= start) {
        return;
    }
    findings.checked(A12, 1);
    let message = rows[place].message;
    let at = recipient.given.get(&message);
    if at.is_none_or(|at| *at > status.at) {
        findings.broken(A12, "delivered to nobody", Some(status.at), || {
            format!(
                "{}: {what} through {seq}, and it was not given {}",
                named(index, status),
                index.named(message)
            )
        });
    }
}

fn named(index: &Index, status: &Status) -> String {
    format!(
        "{} sees of {} in {}",
        index.device_name(status.device),
        index.device_name(status.of),
        index.channel_name(status.channel)
    )
}
