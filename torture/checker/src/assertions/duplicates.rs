//! A3, duplicate: everything once. In the store and in history; handed on; on the wire, except
//! above the cursor of a later `replay` or join.
//!
//! A shadow may come before its row, never after it: the feed remembers ids. It remembers those
//! that went through it, and not those of the pages that a join reads: so what came between a
//! join and its first `synced` excuses a shadow, and a join begins anew.

use std::collections::{HashMap, HashSet};

use crate::{
    Assertion,
    findings::Findings,
    index::{Index, Stream, What},
};

use super::{floors::Floors, listening::Memory};

const A3: Assertion = Assertion::A3;

pub(super) fn check(index: &Index, findings: &mut Findings) {
    rows(index, findings);
    pages(index, findings);
    given(index, findings);
    wire(index, findings);
}

fn rows(index: &Index, findings: &mut Findings) {
    let mut seen = vec![0_u64; index.messages.len()];
    let mut last = None;
    for row in &index.rows {
        let first = seen[row.message as usize];
        if first != 0 {
            findings.broken(A3, "id twice in the store", Some(row.at), || {
                let (name, seq) = (index.named(row.message), row.seq);
                format!("{name} has a row with seq {first} and one with {seq}")
            });
        }
        seen[row.message as usize] = row.seq;
        if last == Some((row.channel, row.seq)) {
            findings.broken(A3, "seq twice in the store", Some(row.at), || {
                let channel = index.channel_name(row.channel);
                format!("{channel} has two rows with seq {}", row.seq)
            });
        }
        last = Some((row.channel, row.seq));
    }
    findings.checked(A3, index.rows.len() as u64);
}

fn pages(index: &Index, findings: &mut Findings) {
    let mut ids = HashSet::new();
    for page in &index.pages {
        ids.clear();
        // The seqs ascend, which A4 demands: so a seq that comes twice comes at once.
        let mut last = None;
        for (seq, id) in &page.entries {
            let twice = last == Some(*seq);
            last = Some(*seq);
            if !ids.insert(*id) || twice {
                findings.broken(A3, "twice in history", Some(page.at), || {
                    let channel = index.channel_name(page.channel);
                    format!(
                        "{} gave {id} (seq {seq}) or its seq twice in {channel}",
                        page.server
                    )
                });
            }
        }
        findings.checked(A3, page.entries.len() as u64);
    }
}

fn given(index: &Index, findings: &mut Findings) {
    let mut marks = vec![0_u32; index.messages.len()];
    let mut floors = Floors::new();
    for stream in &index.streams {
        floors.restart();
        let mut memory = Memory::default();
        let mut checked = 0;
        for fact in &stream.facts {
            match fact.what {
                What::Joined(join) if memory.is_new(fact) => {
                    let point = stream.joins[join as usize].point();
                    floors.allow_above(point.unwrap_or(0));
                }
                What::Given { message, seq, .. } => {
                    checked += 1;
                    if !floors.may_repeat(marks[message as usize], seq) {
                        findings.broken(A3, "handed on twice", Some(fact.at), || {
                            let (place, name) = (index.place(stream), index.named(message));
                            format!("{place} was handed {name} (seq {seq}) again")
                        });
                    }
                    marks[message as usize] = floors.epoch();
                }
                _ => {
                    memory.is_new(fact);
                }
            }
        }
        findings.checked(A3, checked);
    }
}

/// What came on a connection so far.
struct Wire<'a> {
    index: &'a Index,
    floors: Floors,
    /// The last epoch of each message's kept seq.
    kept: Vec<u32>,
    /// The same of every other seq that a message came with.
    others: HashMap<(u32, u64), u32>,
    /// The other seq that a message came with since the last join.
    shadow: HashMap<u32, u64>,
    /// The last join in which each message's kept seq came through the feed.
    fed: Vec<u32>,
    /// Counts joins, over all streams.
    join: u32,
    /// The head that the join was answered with. The feed knows the ids of what is above it; the
    /// rest came in pages, and may have been there before the feed.
    head: u64,
    connection: u32,
    /// The cursor of the join or replay in force.
    cursor: u64,
}

fn wire(index: &Index, findings: &mut Findings) {
    let mut wire = Wire {
        index,
        floors: Floors::new(),
        kept: vec![0; index.messages.len()],
        others: HashMap::new(),
        shadow: HashMap::new(),
        fed: vec![0; index.messages.len()],
        join: 0,
        head: u64::MAX,
        connection: 0,
        cursor: 0,
    };
    for stream in &index.streams {
        wire.another(0);
        let mut checked = 0;
        for fact in &stream.facts {
            if fact.connection != 0 && fact.connection != wire.connection {
                wire.another(fact.connection);
            }
            match fact.what {
                What::Joined(join) => {
                    let join = &stream.joins[join as usize];
                    wire.joined(join.point().unwrap_or(0), join.head.unwrap_or(0));
                }
                What::Replay(since) => {
                    wire.cursor = wire.cursor.min(since);
                    wire.floors.allow_above(since);
                }
                What::Wire { message, seq } => {
                    checked += 1;
                    wire.came(stream, fact.at, message, seq, findings);
                }
                _ => {}
            }
        }
        findings.checked(A3, checked);
    }
}

impl Wire<'_> {
    fn another(&mut self, connection: u32) {
        self.floors.restart();
        self.others.clear();
        self.connection = connection;
        self.joined(0, u64::MAX);
    }

    fn joined(&mut self, cursor: u64, head: u64) {
        self.cursor = cursor;
        self.floors.allow_above(cursor);
        self.shadow.clear();
        self.join += 1;
        self.head = head;
    }

    fn came(&mut self, stream: &Stream, at: u64, message: u32, seq: u64, findings: &mut Findings) {
        let index = self.index;
        let mut broken = |name: &str, what: &str| {
            findings.broken(A3, name, Some(at), || {
                let (place, id) = (index.place(stream), index.named(message));
                format!(
                    "{place}, connection {}: seq {seq} of {id} {what}",
                    self.connection
                )
            });
        };
        if seq <= self.cursor {
            broken(
                "at or below the cursor",
                &format!("came after a join or replay from {}", self.cursor),
            );
            return;
        }
        let is_kept = seq == index.message(message).kept;
        let mark = if is_kept {
            &mut self.kept[message as usize]
        } else {
            self.others.entry((message, seq)).or_default()
        };
        if !self.floors.may_repeat(*mark, seq) {
            broken("twice on the wire", "came again without a replay");
        }
        *mark = self.floors.epoch();
        if is_kept {
            if seq > self.head {
                self.fed[message as usize] = self.join;
            }
            return;
        }
        let shadow = *self.shadow.entry(message).or_insert(seq);
        if self.fed[message as usize] == self.join {
            broken("shadow after its row", "came after the kept copy");
        } else if shadow != seq {
            let what = format!("came after a copy with seq {shadow}");
            broken("id twice on the wire", &what);
        }
    }
}
