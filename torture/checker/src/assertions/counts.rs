//! What is counted beside the assertions.

use crate::{
    findings::Findings,
    history::Kind,
    index::{Index, NEVER, Outcome, What},
};

pub(super) fn count(index: &Index, findings: &mut Findings) {
    let of = |n: usize| n as u64;
    findings.count("entries", index.entries);
    findings.count("malformed", index.malformed);
    findings.count("channels", of(index.channels.len()));
    findings.count("devices", of(index.devices.len()));
    sends(index, findings);
    receipts(index, findings);
    let opened = index.devices.iter().map(|d| of(d.connections.len()));
    let reconnects = index
        .devices
        .iter()
        .map(|d| of(d.connections.len().saturating_sub(1)));
    findings.count("connections", opened.sum());
    findings.count("reconnects", reconnects.sum());
    findings.count("rows", of(index.rows.len()));
    findings.count("log_records", of(index.log.len()));
    findings.count("dead_letters", of(index.dead.len()));
    findings.count("pages", of(index.pages.len()));
    kinds(index, findings);
    findings.count("direct_channels", direct_channels(index));
    findings.count("marks", of(index.marks.len()));
    findings.count("statuses", of(index.statuses.len() + index.told.len()));
    findings.count("without_effect", index.fold.without_effect);
    let faults = &index.faults.windows;
    findings.count("faults", of(faults.len()));
    let vacuous = faults.iter().filter(|w| !w.seen).count();
    findings.count("vacuous_faults", of(vacuous));
    let endless = faults.iter().filter(|w| w.to == NEVER).count();
    findings.count("faults_without_end", of(endless));
    findings.count("not_recovered", 0);
    findings.count("replies_by_repair", 0);
}

/// The rows that are no plain messages.
fn kinds(index: &Index, findings: &mut Findings) {
    for row in &index.rows {
        let name = match index.message(row.message).kind {
            Kind::Reply(_) => "replies_in_threads",
            Kind::Edit(_) => "edits",
            Kind::Delete(_) => "deletions",
            Kind::React(_) | Kind::Unreact(_) => "reactions",
            Kind::Message | Kind::Identity | Kind::Other => continue,
        };
        findings.count(name, 1);
    }
}

fn direct_channels(index: &Index) -> u64 {
    let mut channels: Vec<u32> = index.directs.iter().map(|direct| direct.channel).collect();
    channels.sort_unstable();
    channels.dedup();
    channels.len() as u64
}

fn sends(index: &Index, findings: &mut Findings) {
    let messages = index.messages.iter().filter(|m| m.attempts > 0);
    findings.count("messages", messages.clone().count() as u64);
    let acked = messages.clone().filter(|m| m.acked != NEVER).count();
    findings.count("acked", acked as u64);
    let again = messages.map(|m| u64::from(m.attempts - 1)).sum();
    findings.count("resends", again);
    findings.count("sends", index.attempts.len() as u64);
    for (name, outcome) in [
        ("rejected", Outcome::Rejected),
        ("unknowns", Outcome::Unknown),
        ("unanswered", Outcome::Open),
    ] {
        let these = index.attempts.iter().filter(|a| a.outcome == outcome);
        findings.count(name, these.count() as u64);
    }
    let retries = index.attempts.iter().filter(|a| a.retry).count();
    findings.count("marked_resends", retries as u64);
}

fn receipts(index: &Index, findings: &mut Findings) {
    let (mut wire, mut given, mut caught_up, mut moved) = (0, 0, 0, 0);
    let (mut joins, mut leaves, mut evictions, mut replays, mut synced) = (0, 0, 0, 0, 0);
    for fact in index.streams.iter().flat_map(|s| &s.facts) {
        match fact.what {
            What::Asked => {}
            What::Joined(_) => joins += 1,
            What::Left { evicted: true } => evictions += 1,
            What::Left { evicted: false } => leaves += 1,
            What::Replay(_) => replays += 1,
            What::Wire { .. } => wire += 1,
            What::Synced(_) => synced += 1,
            What::Given { catch_up, .. } => {
                given += 1;
                caught_up += u64::from(catch_up);
            }
            What::Moved { .. } => moved += 1,
        }
    }
    for (name, count) in [
        ("receipts", wire),
        ("given", given),
        ("given_by_catch_up", caught_up),
        ("moved", moved),
        ("joins", joins),
        ("leaves", leaves),
        ("evictions", evictions),
        ("replays", replays),
        ("synced", synced),
    ] {
        findings.count(name, count);
    }
}
