//! A12, regress: a delivery status only rises, and says no more than what the device was given.

use std::collections::HashMap;

use crate::{
    Assertion,
    findings::Findings,
    index::{Index, Status, What},
};

const A12: Assertion = Assertion::A12;

/// What a sender's device was shown of a recipient's.
#[derive(Debug, Default)]
struct Shown {
    delivered: u64,
    read: u64,
    /// How many of the channel's rows have been looked at.
    next: usize,
}

/// What a recipient's device was given, and above which seq it listened first.
#[derive(Debug, Default)]
struct Recipient {
    start: Option<u64>,
    given: HashMap<u32, u64>,
}

pub(super) fn check(index: &Index, findings: &mut Findings) {
    let recipients = recipients(index);
    let mut shown: HashMap<(u32, u32, u32), Shown> = HashMap::new();
    for status in &index.statuses {
        let key = (status.device, status.channel, status.of);
        let shown = shown.entry(key).or_default();
        findings.checked(A12, 1);
        for (what, before, now) in [
            ("delivered", &mut shown.delivered, status.delivered),
            ("read", &mut shown.read, status.read),
        ] {
            if now < *before {
                findings.broken(A12, "regress", Some(status.at), || {
                    format!(
                        "{}: {what} went from {before} to {now}",
                        named(index, status)
                    )
                });
            }
            *before = now.max(*before);
        }
        if let Some(recipient) = recipients.get(&(status.of, status.channel)) {
            given(index, status, shown, recipient, findings);
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
                What::Joined(join) if recipient.start.is_none() => {
                    recipient.start = stream.joins[join as usize].point();
                }
                What::Replay(seq) | What::Synced(seq) => {
                    recipient.start.get_or_insert(seq);
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
    shown: &mut Shown,
    recipient: &Recipient,
    findings: &mut Findings,
) {
    let rows = index.rows_of(status.channel);
    let start = recipient.start.unwrap_or(0);
    let first = rows.partition_point(|row| row.seq <= start);
    shown.next = shown.next.max(first);
    let through = shown.delivered.max(shown.read);
    for row in rows[shown.next.min(rows.len())..]
        .iter()
        .take_while(|row| row.seq <= through)
    {
        shown.next += 1;
        findings.checked(A12, 1);
        let at = recipient.given.get(&row.message);
        if at.is_none_or(|at| *at > status.at) {
            findings.broken(A12, "delivered to nobody", Some(status.at), || {
                format!(
                    "{}: delivered through {}, and it was not given {} (seq {})",
                    named(index, status),
                    status.delivered,
                    index.named(row.message),
                    row.seq
                )
            });
        }
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
