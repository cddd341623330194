//! The latest version is the row: what edits, deletions, reactions and replies make of the
//! messages that they are about, without I/O.
//!
//! Rules. Records are folded once each, in log order, whatever batches they come in. A record
//! whose target is no earlier message, is deleted, or is another author's (unless an admin edits
//! or deletes) has no effect, and neither has one above a limit or one that changes nothing. An
//! edit keeps the text before it as a version; a deletion takes text, reactions, versions and the
//! text of every edit away for good, and the reply from its root's count. An edit without effect
//! loses its text: nobody is to apply it.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use hubbub_protocol::{
    Body, Edited, MessageKey, Reaction, ReactionChange, Replies, Seq, UserId, limits,
};

use crate::Effect;

/// A row of a channel: shard key and seq.
pub(crate) type Place = (i64, Seq);

/// A record to be folded, whose row has been stored.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Step<'a> {
    /// Where it is.
    pub(crate) place: Place,
    /// Who sent it.
    pub(crate) user: UserId,
    /// The broker's append time, milliseconds.
    pub(crate) ts_ms: i64,
    /// What it does.
    pub(crate) effect: &'a Effect,
    /// The body that its row was stored with.
    pub(crate) body: &'a str,
}

/// What a message said before an edit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OldText {
    pub(crate) target: Place,
    /// The record that said so: the message itself, or an edit.
    pub(crate) seq: Seq,
    pub(crate) user: UserId,
    pub(crate) ts_ms: i64,
    pub(crate) text: String,
}

/// What is to be written after the fold.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Folded {
    /// The bodies of the rows that changed.
    pub(crate) bodies: BTreeMap<Place, String>,
    /// Texts to be kept, of messages that are not deleted.
    pub(crate) old_texts: Vec<OldText>,
    /// Messages that were deleted: their old texts go.
    pub(crate) deleted: BTreeSet<Place>,
    /// Records that changed nothing.
    pub(crate) without_effect: u64,
}

/// A message that the fold knows.
#[derive(Debug)]
struct Message {
    key: MessageKey,
    text: String,
    ts_ms: i64,
    thread: Option<Seq>,
    posted_ms: Option<i64>,
    edited: Option<Edited>,
    deleted: bool,
    reactions: Vec<Reaction>,
    replies: Option<Box<Replies>>,
    channel: hubbub_protocol::ChannelId,
    changed: bool,
}

/// Folds the records of a batch over the rows that they are about.
#[derive(Debug)]
pub(crate) struct Fold {
    /// Edits of one message that have an effect.
    most_edits: u32,
    messages: HashMap<Place, Message>,
    /// Rows of edits whose text is to go, with the bodies that they have, if they are known.
    blank: BTreeSet<Place>,
    /// The edit rows that are known.
    edits: HashMap<Place, String>,
    folded: Folded,
}

impl Fold {
    /// `most_edits` is [`limits::EDITS_PER_MESSAGE`], except for tests with short logs.
    pub(crate) fn new(most_edits: u32) -> Self {
        Self {
            most_edits,
            messages: HashMap::new(),
            blank: BTreeSet::new(),
            edits: HashMap::new(),
            folded: Folded::default(),
        }
    }

    /// Makes a stored row known: a target, the root of a reply, or an edit of a message that is
    /// to be deleted. What is known already stays as it is.
    pub(crate) fn know(&mut self, place: Place, body: &str) -> Result<(), serde_json::Error> {
        if self.messages.contains_key(&place) || self.edits.contains_key(&place) {
            return Ok(());
        }
        let body: Body = serde_json::from_str(body)?;
        if let Body::MessageChanged { .. } = &body {
            self.edits.insert(place, body.encode());
            return Ok(());
        }
        let key = body.key();
        let Body::Message {
            channel,
            text,
            ts_ms,
            thread,
            posted_ms,
            edited,
            deleted,
            reactions,
            replies,
            ..
        } = body
        else {
            return Ok(()); // no target of anything
        };
        let message = Message {
            key,
            text,
            ts_ms,
            thread,
            posted_ms,
            edited,
            deleted,
            reactions,
            replies,
            channel,
            changed: false,
        };
        self.messages.insert(place, message);
        Ok(())
    }

    /// The roots of those replies that `steps` delete, as far as they are not known.
    pub(crate) fn missing_roots(&self, steps: &[Step<'_>]) -> BTreeSet<Place> {
        steps
            .iter()
            .filter_map(|step| {
                let Effect::Delete { target, .. } = step.effect else {
                    return None;
                };
                let channel = step.place.0;
                let root = self.messages.get(&(channel, *target))?.thread?;
                let place = (channel, root);
                (!self.messages.contains_key(&place)).then_some(place)
            })
            .collect()
    }

    /// Folds the next record.
    pub(crate) fn step(&mut self, step: Step<'_>) {
        let effective = match step.effect {
            Effect::None => return,
            Effect::Reply { root } => self.reply(&step, *root),
            Effect::Edit {
                target,
                text,
                as_admin,
            } => self.edit(&step, *target, text, *as_admin),
            Effect::Delete { target, as_admin } => self.delete(&step, *target, *as_admin),
            Effect::React {
                target,
                reaction,
                change,
            } => self.react(&step, *target, reaction, *change),
        };
        if !effective {
            self.folded.without_effect += 1;
        }
    }

    /// The message at `seq`, if the step may be about it: earlier than the step itself.
    fn target(&mut self, step: &Step<'_>, seq: Seq) -> Option<&mut Message> {
        let (channel, own) = step.place;
        if seq >= own {
            return None;
        }
        self.messages.get_mut(&(channel, seq))
    }

    fn reply(&mut self, step: &Step<'_>, root: Seq) -> bool {
        let Some(root) = self.target(step, root).filter(|root| root.thread.is_none()) else {
            return false;
        };
        let replies = root.replies.get_or_insert_with(|| {
            Box::new(Replies {
                count: 0,
                last_seq: Seq::ZERO,
                users: Vec::new(),
            })
        });
        replies.count += 1;
        replies.last_seq = step.place.1;
        if replies.users.len() < limits::REPLY_USERS && !replies.users.contains(&step.user) {
            replies.users.push(step.user);
        }
        root.changed = true;
        true
    }

    fn edit(&mut self, step: &Step<'_>, target: Seq, text: &str, as_admin: bool) -> bool {
        let (channel, seq) = step.place;
        // A deletion later in the batch takes its text.
        self.edits.insert(step.place, step.body.to_owned());
        let (user, ts_ms, most) = (step.user, step.ts_ms, self.most_edits);
        let may = |message: &&mut Message| {
            let edits = message.edited.map_or(0, |edited| edited.count);
            !message.deleted && edits < most && (as_admin || message.key.user == user)
        };
        let Some(message) = self.target(step, target).filter(may) else {
            self.blank.insert(step.place);
            return false;
        };
        let before = message.edited.unwrap_or(Edited {
            seq: target,
            ts_ms: message.ts_ms,
            user: message.key.user,
            count: 0,
        });
        let old = OldText {
            target: (channel, target),
            seq: before.seq,
            user: before.user,
            ts_ms: before.ts_ms,
            text: std::mem::replace(&mut message.text, text.to_owned()),
        };
        message.edited = Some(Edited {
            seq,
            ts_ms,
            user,
            count: before.count + 1,
        });
        message.changed = true;
        self.folded.old_texts.push(old);
        true
    }

    fn delete(&mut self, step: &Step<'_>, target: Seq, as_admin: bool) -> bool {
        let channel = step.place.0;
        let user = step.user;
        let may =
            |message: &&mut Message| !message.deleted && (as_admin || message.key.user == user);
        let Some(message) = self.target(step, target).filter(may) else {
            return false;
        };
        message.deleted = true;
        message.changed = true;
        message.text.clear();
        message.reactions.clear();
        let edited = message.edited.take();
        // Such a one was never counted.
        let root = message.thread.filter(|root| *root < target);
        let place = (channel, target);
        if let Some(edited) = edited {
            self.blank.insert((channel, edited.seq));
        }
        // Of the batch; those of earlier ones the store has.
        for old in &self.folded.old_texts {
            if old.target == place && old.seq != target {
                self.blank.insert((channel, old.seq));
            }
        }
        self.folded.old_texts.retain(|old| old.target != place);
        self.folded.deleted.insert(place);
        if let Some(root) = root
            && let Some(root) = self.messages.get_mut(&(channel, root))
            && let Some(replies) = &mut root.replies
        {
            replies.count = replies.count.saturating_sub(1);
            if replies.count == 0 {
                root.replies = None;
            }
            root.changed = true;
        }
        true
    }

    fn react(
        &mut self,
        step: &Step<'_>,
        target: Seq,
        reaction: &str,
        change: ReactionChange,
    ) -> bool {
        let Some(message) = self.target(step, target).filter(|m| !m.deleted) else {
            return false;
        };
        let reactions = &mut message.reactions;
        let at = reactions
            .iter()
            .position(|given| given.reaction == reaction);
        let effective = match (change, at) {
            (ReactionChange::Added, Some(at)) => {
                let users = &mut reactions[at].users;
                let room = users.len() < limits::USERS_PER_REACTION && !users.contains(&step.user);
                if room {
                    users.push(step.user);
                }
                room
            }
            (ReactionChange::Added, None) => {
                let room = reactions.len() < limits::REACTIONS_PER_MESSAGE;
                if room {
                    reactions.push(Reaction {
                        reaction: reaction.to_owned(),
                        users: vec![step.user],
                    });
                }
                room
            }
            (ReactionChange::Removed, Some(at)) => {
                let users = &mut reactions[at].users;
                let before = users.len();
                users.retain(|user| *user != step.user);
                let removed = users.len() < before;
                if users.is_empty() {
                    reactions.remove(at);
                }
                removed
            }
            (ReactionChange::Removed, None) => false,
        };
        message.changed |= effective;
        effective
    }

    /// Of edits by earlier batches, those whose text is to go: `know` them before `finish`.
    /// `versions` are the rows of versions that the store has of the deleted messages.
    pub(crate) fn unknown_edits(&mut self, versions: &[(Place, Seq)]) -> Vec<Place> {
        for ((channel, target), seq) in versions {
            if seq != target {
                self.blank.insert((*channel, *seq));
            }
        }
        let known = |place: &&Place| !self.edits.contains_key(place);
        self.blank.iter().filter(known).copied().collect()
    }

    /// Whether anything was deleted, and so [`Self::unknown_edits`] is to be asked.
    pub(crate) fn deleted(&self) -> impl Iterator<Item = Place> + '_ {
        self.folded.deleted.iter().copied()
    }

    /// What is to be written.
    pub(crate) fn finish(mut self) -> Result<Folded, serde_json::Error> {
        for (place, message) in self.messages {
            if message.changed {
                self.folded.bodies.insert(place, message.encode());
            }
        }
        for place in self.blank {
            let Some(body) = self.edits.get(&place) else {
                continue;
            };
            let mut body: Body = serde_json::from_str(body)?;
            if let Body::MessageChanged { text, .. } = &mut body
                && !text.is_empty()
            {
                text.clear();
                self.folded.bodies.insert(place, body.encode());
            }
        }
        Ok(self.folded)
    }
}

impl Message {
    fn encode(self) -> String {
        let Self {
            key,
            text,
            ts_ms,
            thread,
            posted_ms,
            edited,
            deleted,
            reactions,
            replies,
            channel,
            changed: _,
        } = self;
        Body::Message {
            channel,
            message_id: key.message_id,
            user: key.user,
            text,
            ts_ms,
            thread,
            posted_ms,
            edited,
            deleted,
            reactions,
            replies,
        }
        .encode()
    }
}

#[cfg(test)]
mod tests;
