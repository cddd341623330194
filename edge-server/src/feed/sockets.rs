use std::collections::BTreeMap;

use hubbub_protocol::Seq;

use super::SocketId;

/// A socket that gets what the feed gets: its cursor is the horizon.
#[derive(Debug, Clone, Copy)]
pub(super) struct Attached {
    pub(super) socket: SocketId,
    /// [`Attached::since`] and, in the lowest bit, [`Attached::sent`]: there is one of these for
    /// each join, and the fan-out walks them.
    since_and_sent: u64,
}

impl Attached {
    /// At an arrival number, which counts messages and so never needs the highest bit.
    pub(super) fn new(socket: SocketId, since: u64, sent: bool) -> Self {
        Self {
            socket,
            since_and_sent: since << 1 | u64::from(sent),
        }
    }

    /// Arrival number at the attach: of messages that came later it has each.
    pub(super) fn since(self) -> u64 {
        self.since_and_sent >> 1
    }

    /// Whether a frame went out to it before the attach, while it had no cursor.
    pub(super) fn sent(self) -> bool {
        self.since_and_sent & 1 == 1
    }
}

/// A socket that does not get what the feed gets, but reads up to it.
#[derive(Debug)]
pub(super) struct Reader {
    pub(super) socket: SocketId,
    /// Strictly by seq: rows only, never a live message.
    pub(super) ordered: bool,
    pub(super) place: Place,
    /// Arrival number of the last message given to it; never goes back while it is joined.
    pub(super) arrival: u64,
    /// The highest seq given since the last `replay`.
    pub(super) sent: Option<Seq>,
    /// Whether its join has been answered.
    pub(super) answered: bool,
    /// Whether `synced(cursor)` was given since the last `replay`.
    pub(super) told: bool,
    /// Its outbox refused the first row of a page though it was under half (the socket is closing):
    /// no page is asked for it before `room`, or it would be asked for without end.
    pub(super) closing: bool,
    /// The number of the page that served it last, or at which it came.
    pub(super) served: u64,
}

/// Where a reader stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// Its join waits for the horizon: to be known, or to reach `since`.
    Joining {
        /// Its client's cursor.
        since: Option<Seq>,
        /// Only a head read with a higher request id was begun after the join.
        asked: u64,
    },
    /// It was given everything through this seq: the horizon when it was attached or had read so
    /// far, or the join point.
    At(Seq),
    /// The store was away and nobody knows the horizon: live messages only, until it is known.
    Nowhere,
}

impl Reader {
    pub(super) fn cursor(&self) -> Option<Seq> {
        match self.place {
            Place::At(cursor) => Some(cursor),
            Place::Joining { .. } | Place::Nowhere => None,
        }
    }
}

pub(super) trait HasSocket {
    fn socket(&self) -> SocketId;
}

impl HasSocket for Attached {
    fn socket(&self) -> SocketId {
        self.socket
    }
}

impl HasSocket for Reader {
    fn socket(&self) -> SocketId {
        self.socket
    }
}

/// Sockets in one vector, ascending: the fan-out walks it, the rest finds by halving. New sockets
/// have the highest ids, so an insert is a push as a rule.
#[derive(Debug)]
pub(super) struct BySocket<T>(Vec<T>);

impl<T: HasSocket> BySocket<T> {
    pub(super) const fn new() -> Self {
        Self(Vec::new())
    }

    fn find(&self, socket: SocketId) -> Result<usize, usize> {
        self.0.binary_search_by_key(&socket, HasSocket::socket)
    }

    pub(super) fn contains(&self, socket: SocketId) -> bool {
        self.find(socket).is_ok()
    }

    pub(super) fn insert(&mut self, value: T) {
        match self.find(value.socket()) {
            Ok(at) => self.0[at] = value,
            Err(at) => self.0.insert(at, value),
        }
    }

    pub(super) fn remove(&mut self, socket: SocketId) -> Option<T> {
        let at = self.find(socket).ok()?;
        let value = self.0.remove(at);
        if self.0.is_empty() {
            // An idle feed stays small.
            self.0 = Vec::new();
        }
        Some(value)
    }

    pub(super) fn iter(&self) -> std::slice::Iter<'_, T> {
        self.0.iter()
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn is_sorted(&self) -> bool {
        self.0.is_sorted_by(|a, b| a.socket() < b.socket())
    }
}

/// The readers, ascending: a page serves many at once, and each that is attached leaves, so a
/// vector would move its rest for each of them.
#[derive(Debug)]
pub(super) struct Readers(BTreeMap<SocketId, Reader>);

impl Readers {
    pub(super) const fn new() -> Self {
        Self(BTreeMap::new())
    }

    pub(super) fn contains(&self, socket: SocketId) -> bool {
        self.0.contains_key(&socket)
    }

    pub(super) fn insert(&mut self, reader: Reader) {
        self.0.insert(reader.socket, reader);
    }

    pub(super) fn remove(&mut self, socket: SocketId) -> Option<Reader> {
        let reader = self.0.remove(&socket)?;
        if self.0.is_empty() {
            // An empty map keeps a node of eleven readers.
            self.0 = BTreeMap::new();
        }
        Some(reader)
    }

    pub(super) fn get(&self, socket: SocketId) -> Option<&Reader> {
        self.0.get(&socket)
    }

    pub(super) fn get_mut(&mut self, socket: SocketId) -> Option<&mut Reader> {
        self.0.get_mut(&socket)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Reader> {
        self.0.values()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Reader> {
        self.0.values_mut()
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
