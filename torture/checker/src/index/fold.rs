//! What edits, deletions, reactions and replies make of the messages that they are about, by the
//! rules of the protocol: each counts once, in the order of seq. It reads the rows alone, so it
//! knows neither batches nor the way in which the product writes them.

use std::collections::{HashMap, HashSet};

use hubbub_protocol::limits;

use super::{
    Index,
    facts::{Corrupt, Message, NONE, Row},
};
use crate::history::Kind;

/// The sum of an empty text.
const EMPTY: u32 = 0;

/// The thread below a message.
#[derive(Debug, Clone, Default)]
pub(crate) struct Thread {
    pub(crate) count: u64,
    pub(crate) last: u64,
    pub(crate) users: Vec<u32>,
}

/// A message that something was done to.
#[derive(Debug, Clone, Default)]
pub(crate) struct Changed {
    pub(crate) sum: u32,
    /// The deletion.
    pub(crate) deleted: Option<u32>,
    /// The seq of the edit whose text it is, and which edit of the message that is.
    pub(crate) edited: Option<(u64, u32)>,
    /// Every edit that had an effect, even if the message was deleted since.
    pub(crate) edits: Vec<u32>,
    /// Sum and users.
    pub(crate) reactions: Vec<(u32, Vec<u32>)>,
    pub(crate) thread: Option<Thread>,
    /// The records of its texts before this one, by seq and sum.
    pub(crate) versions: Vec<(u64, u32)>,
}

/// Every message that something was done to, and what had no effect.
#[derive(Debug, Default)]
pub(crate) struct Fold {
    changed: HashMap<u32, Changed>,
    /// Edits without an effect: their text is not to be applied.
    void: HashSet<u32>,
    /// Changes by somebody who may not, by their rows' messages.
    pub(crate) foreign: Vec<u32>,
    /// Records that changed nothing.
    pub(crate) without_effect: u64,
}

impl Fold {
    pub(super) fn of(index: &Index) -> Self {
        let mut fold = Self::default();
        for row in &index.rows {
            let it = index.message(row.message);
            // A second row of its message is another finding.
            let (Some(about), true) = (it.kind.about(), it.kept == row.seq) else {
                continue;
            };
            let target = index
                .row_at(row.channel, about.0)
                .map(|target| target.message)
                .filter(|_| about.0 < row.seq)
                .filter(|target| index.message(*target).kind.is_message());
            if !target.is_some_and(|target| fold.step(index, row, it, target)) {
                fold.without_effect += 1;
                if let Kind::Edit(_) = it.kind {
                    fold.void.insert(row.message);
                }
            }
        }
        fold
    }

    /// What became of a message; `None`: nothing.
    pub(crate) fn changed(&self, message: u32) -> Option<&Changed> {
        self.changed.get(&message)
    }

    fn know(&mut self, index: &Index, message: u32) -> &mut Changed {
        self.changed.entry(message).or_insert_with(|| Changed {
            sum: index.message(message).sum,
            ..Changed::default()
        })
    }

    /// Whether it had an effect.
    fn step(&mut self, index: &Index, row: &Row, it: &Message, target: u32) -> bool {
        let of = index.message(target);
        if let Kind::Edit(_) | Kind::Delete(_) = it.kind
            && of.user != it.user
        {
            // No admin of a run changes what others say.
            self.foreign.push(row.message);
            return false;
        }
        let kind = of.kind;
        let message = self.know(index, target);
        match it.kind {
            Kind::Reply(_) => {
                if kind != Kind::Message {
                    return false;
                }
                let thread = message.thread.get_or_insert_default();
                thread.count += 1;
                thread.last = row.seq;
                if thread.users.len() < limits::REPLY_USERS && !thread.users.contains(&it.user) {
                    thread.users.push(it.user);
                }
                true
            }
            Kind::Edit(_) => {
                let (before, count) = message.edited.unwrap_or((of.kept, 0));
                if message.deleted.is_some() || count >= limits::EDITS_PER_MESSAGE {
                    return false;
                }
                message.versions.push((before, message.sum));
                message.sum = it.sum;
                message.edited = Some((row.seq, count + 1));
                message.edits.push(row.message);
                true
            }
            Kind::Delete(_) => {
                if message.deleted.is_some() {
                    return false;
                }
                message.sum = EMPTY;
                message.deleted = Some(row.message);
                message.edited = None;
                message.reactions.clear();
                message.versions.clear();
                if let Kind::Reply(root) = kind
                    && let Some(root) = index.row_at(row.channel, root.0)
                {
                    self.leave_thread(root.message);
                }
                true
            }
            Kind::React(_) => message.deleted.is_none() && react(message, it),
            Kind::Unreact(_) => message.deleted.is_none() && unreact(message, it),
            Kind::Message | Kind::Identity | Kind::Other => false,
        }
    }

    fn leave_thread(&mut self, root: u32) {
        let Some(root) = self.changed.get_mut(&root) else {
            return;
        };
        if let Some(thread) = &mut root.thread {
            thread.count = thread.count.saturating_sub(1);
            if thread.count == 0 {
                root.thread = None;
            }
        }
    }

    /// Whether what was seen of a record is what an edit or a deletion had made of it, or may have
    /// made of it by then: the text of an edit that was sent by then and had an effect; none, if a
    /// deletion was sent by then; none for an edit that is not to be applied.
    pub(super) fn explains(&self, index: &Index, corrupt: &Corrupt) -> bool {
        let it = index.message(corrupt.message);
        if it.kind != corrupt.kind || corrupt.seen.is_first() {
            return false;
        }
        let sent = |message: u32| index.message(message).invoked <= corrupt.at;
        let deleted = |message: u32| {
            let deletion = self.changed(message).and_then(|changed| changed.deleted);
            deletion.is_some_and(sent)
        };
        match it.kind {
            Kind::Message | Kind::Reply(_) => {
                let edits = self.changed(corrupt.message).map(|changed| &changed.edits);
                let edited = edits.is_some_and(|edits| {
                    edits
                        .iter()
                        .any(|edit| index.message(*edit).sum == corrupt.sum && sent(*edit))
                });
                edited || (corrupt.sum == EMPTY && deleted(corrupt.message))
            }
            Kind::Edit(_) => {
                let target = it.answers;
                let gone = target != NONE && deleted(target);
                corrupt.sum == EMPTY && (gone || self.void.contains(&corrupt.message))
            }
            _ => false,
        }
    }

    /// The sum of the text that a row has in the end.
    pub(crate) fn text_of(&self, index: &Index, message: u32) -> u32 {
        let it = index.message(message);
        match it.kind {
            Kind::Message | Kind::Reply(_) => self.changed(message).map_or(it.sum, |c| c.sum),
            Kind::Edit(_) => {
                let gone = |target| {
                    self.changed(target)
                        .is_some_and(|changed| changed.deleted.is_some())
                };
                if self.void.contains(&message) || (it.answers != NONE && gone(it.answers)) {
                    EMPTY
                } else {
                    it.sum
                }
            }
            _ => it.sum,
        }
    }
}

fn react(message: &mut Changed, it: &Message) -> bool {
    match message.reactions.iter_mut().find(|(sum, _)| *sum == it.sum) {
        Some((_, users)) => {
            let room = users.len() < limits::USERS_PER_REACTION && !users.contains(&it.user);
            if room {
                users.push(it.user);
            }
            room
        }
        None => {
            let room = message.reactions.len() < limits::REACTIONS_PER_MESSAGE;
            if room {
                message.reactions.push((it.sum, vec![it.user]));
            }
            room
        }
    }
}

fn unreact(message: &mut Changed, it: &Message) -> bool {
    let Some((_, users)) = message.reactions.iter_mut().find(|(sum, _)| *sum == it.sum) else {
        return false;
    };
    let before = users.len();
    users.retain(|user| *user != it.user);
    let removed = users.len() < before;
    message.reactions.retain(|(_, users)| !users.is_empty());
    removed
}
