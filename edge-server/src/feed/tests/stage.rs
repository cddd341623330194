//! A feed with sockets that say what they got, and answers made by hand.

use std::collections::BTreeMap;

use bytes::Bytes;
use hubbub_protocol::{
    ChannelId, CloseCode, JoinReply, MessageId, MessageKey, Seq, Stored, UserId,
};
use uuid::Uuid;

use crate::feed::{
    Answer, Ask, Failure, Feed, Frame, Limits, Outboxes, Request, SocketId, limits::TailBounds,
};

pub(super) const A: SocketId = SocketId(1);
pub(super) const B: SocketId = SocketId(2);

pub(super) fn channel() -> ChannelId {
    "C000000005".parse().expect("an id")
}

pub(super) fn frame(seq: u64) -> Frame {
    copy(seq, seq)
}

/// The message with this number, at this seq.
pub(super) fn copy(seq: u64, number: u64) -> Frame {
    Frame {
        seq: Seq(seq),
        key: MessageKey {
            user: UserId::new(1).expect("from 1"),
            message_id: MessageId(Uuid::from_u128(u128::from(number))),
        },
        bytes: Bytes::from(format!("{seq}")),
    }
}

/// Pages of two rows, no tail.
pub(super) fn limits(frame_bytes: u64) -> Limits {
    let none = TailBounds {
        rows: 0,
        bytes: 0,
        all_bytes: 0,
    };
    Limits::with(frame_bytes, 2, 16, 5_000, none)
}

/// What each socket got, as words: `5` a frame, `joined 5` and so on. `room` is what an outbox
/// takes; without an entry it takes everything.
#[derive(Debug, Default)]
pub(super) struct Wire {
    sent: BTreeMap<SocketId, Vec<String>>,
    pub(super) room: BTreeMap<SocketId, usize>,
    /// It refuses everything and is empty.
    pub(super) closing: Option<SocketId>,
}

impl Wire {
    fn put(&mut self, socket: SocketId, what: String) {
        self.sent.entry(socket).or_default().push(what);
    }

    /// What it got since it was last asked.
    pub(super) fn take(&mut self, socket: SocketId) -> String {
        self.sent.remove(&socket).unwrap_or_default().join(", ")
    }
}

impl Outboxes for Wire {
    fn offer(&mut self, socket: SocketId, frame: &Bytes) -> bool {
        if self.closing == Some(socket) {
            return false;
        }
        if let Some(room) = self.room.get_mut(&socket) {
            if *room == 0 {
                return false;
            }
            *room -= 1;
        }
        self.put(socket, String::from_utf8(frame.to_vec()).expect("digits"));
        true
    }

    fn under_half(&self, socket: SocketId) -> bool {
        self.room.get(&socket) != Some(&0)
    }

    fn joined(&mut self, socket: SocketId, reply: JoinReply) {
        let head = reply.head.map_or("null".to_owned(), |h| h.to_string());
        let word = if reply.recovered { "joined" } else { "lost" };
        assert_eq!(reply.recovered, reply.reason.is_none());
        self.put(socket, format!("{word} {head}"));
    }

    fn replay(&mut self, socket: SocketId, _channel: ChannelId, since: Seq) {
        self.put(socket, format!("replay {since}"));
    }

    fn synced(&mut self, socket: SocketId, _channel: ChannelId, seq: Seq) {
        self.put(socket, format!("synced {seq}"));
    }

    fn drop_synced(&mut self, _socket: SocketId, _channel: ChannelId) {}

    fn close(&mut self, socket: SocketId, why: CloseCode) {
        self.put(socket, format!("close {}", why.label()));
    }
}

/// A feed, its sockets, and a clock that stands at `now_ms`.
pub(super) struct Stage {
    pub(super) feed: Feed,
    pub(super) out: Wire,
    pub(super) now_ms: u64,
}

impl Stage {
    /// Not subscribed yet; pages of two rows, no tail.
    pub(super) fn new(frame_bytes: u64) -> Self {
        Self {
            feed: Feed::new(channel(), limits(frame_bytes)),
            out: Wire::default(),
            now_ms: 0,
        }
    }

    /// With the horizon at `head`.
    pub(super) fn at(head: u64) -> Self {
        let mut stage = Self::new(1_000);
        stage.feed.subscribed(&mut stage.out);
        stage.answer(Ask::Head, Ok(Answer::Head(Seq(head))));
        stage
    }

    pub(super) fn request(&mut self) -> Option<Request> {
        self.feed.serve_from_tail(&mut self.out);
        self.feed.check_invariants().expect("invariants");
        self.feed.next_request(self.now_ms, &self.out)
    }

    /// Expects the question and answers it.
    pub(super) fn answer(&mut self, ask: Ask, answer: Result<Answer, Failure>) {
        let request = self.request().expect("a request");
        assert_eq!(request.ask, ask);
        self.answer_to(&request, answer);
    }

    pub(super) fn answer_to(&mut self, request: &Request, answer: Result<Answer, Failure>) {
        self.feed
            .answer(request.id, answer, self.now_ms, &mut self.out);
        self.feed.tell_synced(&mut self.out);
    }

    pub(super) fn message(&mut self, frame: Frame) -> bool {
        let new = self.feed.message(frame, &mut self.out);
        self.feed.tell_synced(&mut self.out);
        new
    }

    pub(super) fn stored(&mut self, from: u64, through: u64, seqs: Option<&[u64]>) {
        let stored = Stored {
            channel: channel(),
            from: Seq(from),
            through: Seq(through),
            seqs: seqs.map(|seqs| seqs.iter().map(|seq| Seq(*seq)).collect()),
        };
        self.feed.stored(stored, &mut self.out);
        self.feed.tell_synced(&mut self.out);
    }

    pub(super) fn join(&mut self, socket: SocketId, since: Option<u64>) {
        self.feed.join(socket, since.map(Seq), false, &mut self.out);
    }

    pub(super) fn join_ordered(&mut self, socket: SocketId) {
        self.feed.join(socket, None, true, &mut self.out);
    }

    pub(super) fn room(&mut self, socket: SocketId, frames: usize) {
        self.out.room.insert(socket, frames);
        self.feed.room(socket, &mut self.out);
    }
}

pub(super) fn rows(seqs: &[u64]) -> Result<Answer, Failure> {
    Ok(Answer::Rows(seqs.iter().map(|seq| frame(*seq)).collect()))
}

pub(super) fn away() -> Result<Answer, Failure> {
    Err(Failure {
        reason: "shard 1 is away".to_owned(),
        jitter: 0,
    })
}

pub(super) fn range(from: u64, through: u64) -> Ask {
    Ask::Range {
        from: Seq(from),
        through: Seq(through),
        limit: 2,
    }
}
