use std::{collections::BTreeMap, fmt};

/// What an export has and Hubbub does not take, or takes as something else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Loss {
    Unreadable,
    Empty,
    Notice,
    JoinLeave,
    Files,
    Unfurled,
    EarlierText,
    Split,
    NoThread,
    TooManyReactions,
    ReactionName,
    Twice,
    Direct,
    Archived,
    Topic,
    Unlisted,
    Renamed,
    NoPerson,
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unreadable => "entries without a time or an author: left out",
            Self::Empty => "messages without any text: left out",
            Self::Notice => "notices of the service (topics, names, pins, apps, calls): left out",
            Self::JoinLeave => "notices of joining and leaving: left out, the members are carried",
            Self::Files => "files: name and link are in the text, an export has no contents",
            Self::Unfurled => "previews of links: left out, the links are in the text",
            Self::EarlierText => {
                "edited messages whose earlier text the export does not have: marked as edited"
            }
            Self::Split => "messages longer than 16384 bytes: carried in several parts",
            Self::NoThread => "replies whose thread is not in the export: carried as messages",
            Self::TooManyReactions => {
                "reactions beyond 64 kinds a message or 500 people a kind: left out"
            }
            Self::ReactionName => "reactions without a name, or without the people: left out",
            Self::Twice => "messages that the export has twice: carried once",
            Self::Direct => {
                "direct conversations: left out, they are nobody's new channels (dms.json)"
            }
            Self::Archived => "archived channels: carried as channels like others",
            Self::Topic => "topics and purposes of channels: Hubbub has none",
            Self::Unlisted => "folders that no list of channels names: left out",
            Self::Renamed => "names longer than 80 bytes, or with control characters: changed",
            Self::NoPerson => "ids of people that users.json does not have: carried by their id",
        })
    }
}

/// What one channel has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) messages: u64,
    pub(super) replies: u64,
    pub(super) edits: u64,
    pub(super) deletes: u64,
    pub(super) reactions: u64,
    pub(super) first_ms: Option<i64>,
    pub(super) last_ms: Option<i64>,
}

impl Counts {
    /// Records that it takes.
    pub(super) fn records(&self) -> u64 {
        self.messages + self.edits + self.deletes + self.reactions
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.messages += other.messages;
        self.replies += other.replies;
        self.edits += other.edits;
        self.deletes += other.deletes;
        self.reactions += other.reactions;
        self.first_ms = match (self.first_ms, other.first_ms) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        self.last_ms = self.last_ms.max(other.last_ms);
    }
}

/// How often each kind of loss was met.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Losses(BTreeMap<Loss, u64>);

impl Losses {
    pub(super) fn note(&mut self, loss: Loss) {
        self.count(loss, 1);
    }

    pub(super) fn count(&mut self, loss: Loss, times: u64) {
        if times > 0 {
            *self.0.entry(loss).or_default() += times;
        }
    }

    pub(super) fn add(&mut self, other: &Self) {
        for (loss, times) in &other.0 {
            self.count(*loss, *times);
        }
    }

    /// A line for each.
    pub(super) fn lines(&self) -> Vec<String> {
        let line = |(loss, times): (&Loss, &u64)| format!("  {times:>9}  {loss}");
        self.0.iter().map(line).collect()
    }
}
