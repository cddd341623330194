//! A10, new enemy: once a removal was answered, and until somebody asks to add the user again,
//! nothing that was sent since reaches the user's devices, nor, half a second later, any frame of
//! the channel at all. (That an added user gets everything is A6's.)

use std::collections::HashMap;

use crate::{
    Assertion, FaultKind,
    findings::Findings,
    history::Change,
    index::{Fact, Index, Membership, NEVER, Stream, What},
};

const A10: Assertion = Assertion::A10;
/// What was in the kernel's buffers has arrived by then.
const IN_FLIGHT_US: u64 = 500_000;
/// Buffers on the way to a client that reads slowly are full, and empty themselves so long after.
const DRAINED_US: u64 = 2_000_000;

/// A time in which a user was surely no member.
#[derive(Debug, Clone, Copy)]
struct Removed {
    from: u64,
    to: u64,
}

#[derive(Debug, Default)]
struct Changes {
    removed: Vec<Removed>,
    out_at_end: bool,
}

/// Who was a member when, as far as anybody asked.
#[derive(Debug)]
pub(super) struct Memberships {
    by: HashMap<(u32, u32), Changes>,
}

impl Memberships {
    pub(super) fn of(index: &Index) -> Self {
        let mut asked: HashMap<(u32, u32), Vec<Membership>> = HashMap::new();
        for change in &index.memberships {
            let key = (change.channel, change.user);
            asked.entry(key).or_default().push(*change);
        }
        let by = asked.into_iter().map(|(key, asked)| (key, changes(&asked)));
        Self { by: by.collect() }
    }

    /// Whether a user is surely a member at the end; everybody is who was not removed.
    pub(super) fn at_end(&self, channel: u32, user: u32) -> bool {
        !self.by.get(&(channel, user)).is_some_and(|c| c.out_at_end)
    }
}

fn changes(asked: &[Membership]) -> Changes {
    let mut changes = Changes::default();
    // When the next add is asked: from the last change back.
    let mut added = NEVER;
    for it in asked.iter().rev() {
        match it.change {
            Change::Add => added = it.asked,
            Change::Remove if it.done && it.answered < added => changes.removed.push(Removed {
                from: it.answered,
                to: added,
            }),
            Change::Remove => {}
        }
    }
    changes.removed.reverse();
    for it in asked {
        if it.done {
            changes.out_at_end = it.change == Change::Remove;
        } else if it.answered == NEVER {
            // Nobody knows: nothing is demanded.
            changes.out_at_end = true;
        }
    }
    changes
}

pub(super) fn check(index: &Index, findings: &mut Findings) {
    let members = Memberships::of(index);
    for change in index.memberships.iter().filter(|c| c.done) {
        match change.change {
            Change::Add => findings.count("added", 1),
            Change::Remove => findings.count("removed", 1),
        }
    }
    for stream in &index.streams {
        let user = index.devices[stream.device as usize].user;
        if let Some(changes) = members.by.get(&(stream.channel, user)) {
            one(index, stream, &changes.removed, findings);
        }
    }
}

fn one(index: &Index, stream: &Stream, removed: &[Removed], findings: &mut Findings) {
    findings.checked(A10, removed.len() as u64);
    let mut windows = removed.iter().peekable();
    for fact in &stream.facts {
        while windows.next_if(|w| w.to <= fact.at).is_some() {}
        let Some(window) = windows.peek() else { return };
        if fact.at <= window.from {
            continue;
        }
        findings.checked(A10, 1);
        match fact.what {
            What::Wire { message, .. } | What::Given { message, .. }
                if secret(index, message, window) =>
            {
                enemy(index, stream, fact, message, window, findings);
            }
            What::Wire { .. } | What::Synced(_) | What::Replay(_) | What::Joined(_)
                if fact.at > window.from + IN_FLIGHT_US =>
            {
                frame(index, stream, fact, window, findings);
            }
            _ => {}
        }
    }
}

/// Whether a message was sent after the removal was answered.
fn secret(index: &Index, message: u32, window: &Removed) -> bool {
    let invoked = index.message(message).invoked;
    invoked != NEVER && invoked > window.from
}

fn enemy(
    index: &Index,
    stream: &Stream,
    fact: &Fact,
    message: u32,
    window: &Removed,
    findings: &mut Findings,
) {
    findings.broken(A10, "new enemy", Some(fact.at), || {
        format!(
            "{} got {}, which was sent {} ms after the removal was answered",
            index.place(stream),
            index.named(message),
            (index.message(message).invoked - window.from) / 1_000
        )
    });
}

fn frame(index: &Index, stream: &Stream, fact: &Fact, window: &Removed, findings: &mut Findings) {
    let device = index.device_name(stream.device);
    let slow = index.faults.in_force(fact.at, DRAINED_US).any(|fault| {
        fault.kind == FaultKind::ClientSlow && fault.target.split_whitespace().any(|t| t == device)
    });
    if slow {
        findings.count("frames_in_slow_buffers", 1);
        return;
    }
    findings.broken(A10, "frame after a removal", Some(fact.at), || {
        format!(
            "{} got {} {} ms after the removal was answered",
            index.place(stream),
            match fact.what {
                What::Wire { seq, .. } => format!("a record with seq {seq}"),
                What::Synced(seq) => format!("synced {seq}"),
                What::Replay(since) => format!("replay {since}"),
                _ => "a join's ok".to_owned(),
            },
            (fact.at - window.from) / 1_000
        )
    });
}
