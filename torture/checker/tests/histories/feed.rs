//! One device in one channel: the server's feed as the contract has it, and the client's memory
//! of what it has handed on. Every stream has a feed of its own, as if each were on its own edge.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

/// What a stream does, in order.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Line {
    Wire {
        message: usize,
        seq: u64,
        /// As the store has it by now, and not as it was sent.
        stored: bool,
    },
    Replay(u64),
    Synced(u64),
    Given {
        message: usize,
        seq: u64,
        stored: bool,
        catch_up: bool,
    },
    Moved {
        message: usize,
        seq: u64,
        from: u64,
    },
}

/// The answer to a join.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reply {
    pub(crate) since: Option<u64>,
    pub(crate) head: Option<u64>,
    pub(crate) recovered: bool,
}

#[derive(Debug, Default)]
struct Feed {
    horizon: Option<u64>,
    recent: BTreeMap<u64, usize>,
    /// The seqs of `recent` in order of arrival.
    arrived: Vec<u64>,
    ids: HashSet<usize>,
}

/// What the client crate keeps of a channel.
#[derive(Debug, Default)]
struct Client {
    cursor: Option<u64>,
    since: Option<u64>,
    seen: BTreeSet<u64>,
    ids: HashMap<usize, u64>,
    joined_at: Option<u64>,
    replaying: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Listener {
    pub(crate) ordered: bool,
    /// Joined on the connection that is up.
    pub(crate) live: bool,
    /// Detached: a reader that takes nothing now.
    slow: bool,
    sent: bool,
    feed: Feed,
    client: Client,
    lines: Vec<Line>,
}

impl Listener {
    pub(crate) fn new(ordered: bool) -> Self {
        Self {
            ordered,
            ..Self::default()
        }
    }

    pub(crate) fn take(&mut self) -> Vec<Line> {
        std::mem::take(&mut self.lines)
    }

    /// The cursor that a join goes on from.
    pub(crate) fn since(&self) -> Option<u64> {
        self.client.cursor.or(self.client.since)
    }

    pub(crate) fn knows_horizon(&self) -> bool {
        self.feed.horizon.is_some()
    }

    /// The application leaves, and asks anew later.
    pub(crate) fn forget(&mut self) {
        let since = self.client.cursor;
        self.client = Client {
            since,
            ..Client::default()
        };
        self.live = false;
    }

    /// And without a cursor.
    pub(crate) fn forget_cursor(&mut self) {
        self.client.since = None;
    }

    pub(crate) fn cut(&mut self) {
        self.live = false;
        self.slow = false;
        self.client.replaying = false;
    }

    /// Joins at an edge whose feed is new: its horizon is the head of the store.
    pub(crate) fn join(&mut self, head: u64, rows: &[(u64, usize)]) -> Reply {
        let since = self.since();
        self.feed = Feed {
            horizon: Some(head),
            ..Feed::default()
        };
        let reply = Reply {
            since,
            head: Some(head),
            recovered: true,
        };
        self.joined(reply);
        if let Some(since) = since {
            self.line(Line::Replay(since));
            self.rows_between(since, head, rows);
        }
        self.line(Line::Synced(head));
        reply
    }

    /// Joins while the store is away, at an edge that knows its horizon or does not.
    pub(crate) fn join_without_store(&mut self, horizon: Option<u64>) -> Reply {
        let since = self.since();
        self.feed = Feed {
            horizon,
            ..Feed::default()
        };
        let reply = Reply {
            since,
            head: horizon,
            recovered: since.is_none(),
        };
        self.joined(reply);
        if horizon.is_none() {
            // It has no cursor: whatever follows may repeat.
            self.line(Line::Replay(0));
        }
        reply
    }

    fn joined(&mut self, reply: Reply) {
        self.live = true;
        self.slow = false;
        self.sent = false;
        let client = &mut self.client;
        match (reply.since, reply.recovered, reply.head) {
            (Some(since), true, _) => client.advance(since),
            (_, _, Some(head)) => {
                client.cursor = Some(head);
                client.since = None;
                client.forget_through(head);
            }
            (since, _, None) => {
                client.since = since;
                client.cursor = None;
            }
        }
        client.joined_at = reply.head;
        client.replaying = false;
    }

    /// The horizon of a feed that began without the store is known.
    pub(crate) fn resolve(&mut self, head: u64) {
        if !self.live || self.feed.horizon.is_some() {
            return;
        }
        self.feed.horizon = Some(head);
        self.feed.drop_through(head, &[]);
        if self.sent {
            self.line(Line::Replay(head));
        }
        self.line(Line::Synced(head));
    }

    /// A live message comes to the edge.
    pub(crate) fn message(&mut self, seq: u64, message: usize) {
        let feed = &mut self.feed;
        let old = feed.horizon.is_some_and(|horizon| seq <= horizon);
        if !self.live || old || feed.recent.contains_key(&seq) || !feed.ids.insert(message) {
            return;
        }
        feed.recent.insert(seq, message);
        feed.arrived.push(seq);
        if !self.ordered && !self.slow {
            self.line(Line::Wire {
                message,
                seq,
                stored: false,
            });
        }
    }

    /// The store has everything through `through`.
    pub(crate) fn stored(&mut self, through: u64, rows: &[(u64, usize)]) {
        let Some(horizon) = self.feed.horizon.filter(|h| self.live && *h < through) else {
            return;
        };
        let new = between(horizon, through, rows);
        for (seq, message) in new {
            self.feed.ids.insert(*message);
            let live = !self.ordered && self.feed.recent.contains_key(seq);
            if !self.slow && !live {
                self.line(Line::Wire {
                    message: *message,
                    seq: *seq,
                    stored: true,
                });
            }
        }
        self.feed.horizon = Some(through);
        self.feed.drop_through(through, new);
        if !self.slow {
            self.line(Line::Synced(through));
        }
    }

    /// Its outbox is full. (One that has no cursor yet is not slowed here.)
    pub(crate) fn detach(&mut self) {
        self.slow = self.live && self.knows_horizon();
    }

    /// The slow reader takes bytes again: from its cursor, the last `synced` that it was given.
    pub(crate) fn attach(&mut self, rows: &[(u64, usize)]) {
        let (true, Some(cursor), Some(horizon)) = (
            self.slow && self.live,
            self.client.cursor,
            self.feed.horizon,
        ) else {
            return;
        };
        self.slow = false;
        self.line(Line::Replay(cursor));
        self.rows_between(cursor, horizon, rows);
        if !self.ordered {
            for seq in self.feed.arrived.clone() {
                let message = self.feed.recent[&seq];
                self.line(Line::Wire {
                    message,
                    seq,
                    stored: false,
                });
            }
        }
        self.line(Line::Synced(horizon));
    }

    fn rows_between(&mut self, from: u64, through: u64, rows: &[(u64, usize)]) {
        for (seq, message) in between(from, through, rows) {
            self.line(Line::Wire {
                message: *message,
                seq: *seq,
                stored: true,
            });
        }
    }

    fn line(&mut self, line: Line) {
        self.lines.push(line);
        match line {
            Line::Wire {
                message,
                seq,
                stored,
            } => {
                self.sent = true;
                let given = self.client.record(seq, message, stored);
                self.lines.extend(given);
            }
            Line::Replay(_) => self.client.replaying = true,
            Line::Synced(seq) => {
                self.client.replaying = false;
                self.client.advance(seq);
            }
            Line::Given { .. } | Line::Moved { .. } => {}
        }
    }
}

fn between(from: u64, through: u64, rows: &[(u64, usize)]) -> &[(u64, usize)] {
    let start = rows.partition_point(|(seq, _)| *seq <= from);
    let end = rows.partition_point(|(seq, _)| *seq <= through);
    &rows[start..end.max(start)]
}

impl Feed {
    fn drop_through(&mut self, through: u64, rows: &[(u64, usize)]) {
        let stored: HashSet<usize> = rows.iter().map(|(_, message)| *message).collect();
        self.recent
            .retain(|seq, message| *seq > through && !stored.contains(message));
        self.arrived.retain(|seq| self.recent.contains_key(seq));
    }
}

impl Client {
    fn record(&mut self, seq: u64, message: usize, stored: bool) -> Option<Line> {
        if self.cursor.is_some_and(|cursor| seq <= cursor) || !self.seen.insert(seq) {
            return None;
        }
        match self.ids.get_mut(&message) {
            Some(known) if *known <= seq => None,
            Some(known) => {
                let from = std::mem::replace(known, seq);
                Some(Line::Moved { message, seq, from })
            }
            None => {
                self.ids.insert(message, seq);
                let old = self.joined_at.is_some_and(|head| seq <= head);
                let catch_up = old || self.replaying;
                Some(Line::Given {
                    message,
                    seq,
                    stored,
                    catch_up,
                })
            }
        }
    }

    fn advance(&mut self, to: u64) {
        let cursor = self.cursor.map_or(to, |cursor| cursor.max(to));
        self.cursor = Some(cursor);
        self.since = None;
        self.forget_through(cursor);
    }

    fn forget_through(&mut self, seq: u64) {
        self.seen = self.seen.split_off(&(seq + 1));
    }
}
